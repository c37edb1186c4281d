package consumer

import (
	"context"
	"fmt"
)

// GapError says that Kafka no longer has what its reader still needs, so that going on would lose events without anybody
// noticing.
type GapError struct {
	Topic        string
	Partition    int
	Watermark    int64  // the reader's store holds everything below it
	HasWatermark bool   // false: it holds nothing of the partition, although the group once read it
	First        int64  // the oldest offset that Kafka has
	End          int64  // the offset that the next record will get
	Holder       string // who needs it; empty: the graph
}

// Error tells what was found, what it probably means, and what can be done.
func (e *GapError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "the graph"
	}
	where := fmt.Sprintf("%s/%d: Kafka has offsets %d to %d", e.Topic, e.Partition, e.First, e.End)
	accept := fmt.Sprintf(`accept the loss (r2rec consume --on-gap %s, once; r2rec rebuild --accept-loss), which goes on at %d`, EarliestOnGap, e.First)
	switch {
	case e.Watermark > e.End:
		return fmt.Sprintf("%s, but %s holds everything below %d: the topic was deleted and made again, or cut off, or this is another cluster. "+
			"Connect to the cluster that filled it, or %s", where, holder, e.Watermark, accept)
	case !e.HasWatermark:
		return fmt.Sprintf("%s, and %s holds nothing although the group has read the partition: the store was emptied, and the %d records before %d are gone from Kafka. "+
			"Restore a snapshot of the store that is not older than offset %d, or %s", where, holder, e.First, e.First, e.First, accept)
	default:
		return fmt.Sprintf("%s, but %s holds only what is below %d: up to %d records were deleted by retention before they were applied. "+
			"Restore the records or a newer snapshot of the store, or %s", where, holder, e.Watermark, e.First-e.Watermark, accept)
	}
}

// gap stops, or accepts that the graph will not have what lies between the watermark and the oldest offset in Kafka.
func (p *partition) gap(ctx context.Context, watermark int64, ok bool) error {
	if err := p.missing(watermark, ok); err != nil {
		return err
	}
	return p.attempt(ctx, "set the watermark", func() error {
		return p.c.opt.Graph.SetWatermark(ctx, p.topic, p.id, p.first)
	})
}

// jumped stops, or accepts that the batch at hand lacks the records from hole to the oldest offset in Kafka. The batch
// covers the hole, so applying it moves the watermark over it.
func (p *partition) jumped(hole int64) error {
	watermark := hole
	if p.c.opt.OnGap == StopOnGap {
		watermark = p.applied // what was read before the hole is not applied, and cannot be read again
	}
	return p.missing(watermark, true)
}

// missing counts a gap and returns it as an error, or logs it where gaps are accepted.
func (s *source) missing(watermark int64, ok bool) error {
	err := &GapError{Topic: s.topic, Partition: s.id, Watermark: watermark, HasWatermark: ok, First: s.first, End: s.end, Holder: s.holder}
	s.g.metrics.gaps.WithLabelValues(s.topic).Inc()
	if s.g.member.OnGap == StopOnGap {
		return err
	}
	s.log.Error("events are lost, going on at the oldest offset there is", "watermark", watermark, "first", s.first, "end", s.end, "error", err)
	return nil
}
