package consumer

import (
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// Whatever Kafka is known to have when the linger ends belongs to the batch: who is behind is not kept there by small
// batches. The clock stands one nanosecond before the end of a linger.
func TestLingerDoesNotCutWhatIsBehind(t *testing.T) {
	c := fakeCluster(t)
	const n = 900
	c.produce(c.clicks(0, n)...)
	g := newMemory()
	opt := c.options(g)
	opt.MaxBatch, opt.Linger = n, 10*time.Second
	opt.Now = func() time.Time { return time.Now().Truncate(opt.Linger).Add(opt.Linger - 1) }
	spans := make(chan event.Span, n)
	opt.OnApplied = func(s event.Span, _ []event.Interaction) { spans <- s }
	r := start(t, opt)
	defer r.stop()
	for total := int64(0); total < n; {
		s := <-spans
		if s.Start != 0 || s.End < n/partitions/2 {
			t.Fatalf("a batch is %v: want all that was in the partition", s)
		}
		total += s.End - s.Start
	}
}
