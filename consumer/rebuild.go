package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/event"
)

// RebuildGraph is a graph that is filled beside the one that serves, and then takes its place.
type RebuildGraph interface {
	Graph
	// Remember is ApplyUsers while no interaction was applied yet.
	Remember(ctx context.Context, span event.Span, batch []event.User) error
	// Switch puts the graph in the place of the one that serves. Done again, it does nothing.
	Switch(ctx context.Context) error
}

// RebuildOptions say from what a graph is built anew.
type RebuildOptions struct {
	// Member says how Kafka is read. No consumer group is joined, and nothing is committed. OnGap says what happens where
	// retention deletes what is being read.
	Member
	// Topics names the topics, as for a Consumer. Dead letters are not published again.
	Topics Topics
	// Graph is filled. Required, and empty.
	Graph RebuildGraph
	// From leaves out interactions that Kafka recorded before; items and users are always read whole. Zero: from the
	// beginning.
	From time.Time
	// Near is how many records may be left for the moment of the switch: they are applied right after it. Default 1000.
	Near int64
	// Rounds is how often, at most, what came meanwhile is read before the switch: a topic that grows as fast as it is read
	// is never caught up with. Default 10.
	Rounds int
	// Progress hears of what was read, and of how much there is, in records. Calls do not overlap. Default: nothing.
	Progress func(done, total int64)
}

// Rebuilt is what a rebuild read.
type Rebuilt struct {
	Records     map[string]int64 `json:"records"`      // applied, by topic, dead letters included
	DeadLetters map[string]int   `json:"dead_letters"` // records that cannot be applied, by reason
	Rounds      int              `json:"rounds"`       // of reading what came meanwhile
	Behind      int64            `json:"behind"`       // records that were left at the moment of the switch
}

// Rebuilder fills a graph from the beginning of Kafka's topics, with a reader for each partition of its own, beside the
// consumers, whom it does not disturb: the same records give the same graph as a Consumer's. Batches, watermarks, retries
// and rewinds are a Consumer's, too.
//
// The order is: users, so that who is to be forgotten is known before anything else; items and interactions; what came meanwhile,
// users first, until little is left; the switch; and once more what came before the switch.
type Rebuilder struct {
	opt   RebuildOptions
	c     *Consumer
	found Rebuilt
	early bool // no edge was applied yet

	mu      sync.Mutex
	parts   map[partitionKey]*rebuilding
	letters map[partitionKey]int64 // offset after the last that was counted
}

// rebuilding is one partition that is read.
type rebuilding struct {
	*partition
	begun, until, read int64
}

// NewRebuilder checks the options and fills in the defaults. It does not connect.
func NewRebuilder(opt RebuildOptions) (*Rebuilder, error) {
	if opt.Graph == nil {
		return nil, errors.New("rebuild options: Graph is missing")
	}
	checks := checks{of: "rebuild"}
	checks.number("Rounds", &opt.Rounds, 10)
	if opt.Near == 0 {
		opt.Near = 1000
	}
	if opt.Near < 0 {
		checks.fail("Near is %d, want at least 1", opt.Near)
	}
	if err := errors.Join(checks.errs...); err != nil {
		return nil, err
	}
	if opt.Progress == nil {
		opt.Progress = func(int64, int64) {}
	}
	c, err := New(Options{Member: opt.Member, Topics: opt.Topics, Graph: opt.Graph})
	if err != nil {
		return nil, err
	}
	return &Rebuilder{opt: opt, c: c, parts: map[partitionKey]*rebuilding{}, letters: map[partitionKey]int64{},
		found: Rebuilt{Records: map[string]int64{}, DeadLetters: map[string]int{}}}, nil
}

// Run fills the graph and switches to it. An error before the switch leaves what serves as it is; ctx's own, where it ends.
// Call it once.
func (r *Rebuilder) Run(ctx context.Context) (Rebuilt, error) {
	defer func() {
		var closing sync.WaitGroup // each waits for its last fetch
		for _, p := range r.parts {
			closing.Go(p.close)
		}
		closing.Wait()
	}()
	err := r.fill(ctx)
	if err == nil {
		err = r.replace(ctx)
	}
	for key, p := range r.parts {
		r.found.Records[key.topic] += p.read
	}
	return r.found, err
}

func (r *Rebuilder) fill(ctx context.Context) error {
	if err := r.c.awaitTopics(ctx); err != nil {
		return err
	}
	t := r.c.opt.Topics
	r.early = true
	if err := r.round(ctx, t.Users); err != nil {
		return err
	}
	r.early = false
	for key, p := range r.parts { // from here on, forgetting has to look for edges
		p.batch.sink = r.c.sink(key.topic)
	}
	return r.round(ctx, t.Items, t.Interactions)
}

// replace catches up, switches, and reads what came before the switch.
func (r *Rebuilder) replace(ctx context.Context) error {
	t := r.c.opt.Topics
	for {
		left, err := r.ask(ctx, t.Users, t.Items, t.Interactions)
		if err != nil {
			return err
		}
		if r.found.Behind = left; left <= r.opt.Near || r.found.Rounds == r.opt.Rounds {
			break
		}
		r.found.Rounds++
		if err := r.catchUp(ctx); err != nil {
			return err
		}
	}
	// Whoever is forgotten until now is so in the new graph from its first moment.
	if err := r.round(ctx, t.Users); err != nil {
		return err
	}
	if err := retry(ctx, r.c.member.Backoff(), func(err error) {
		r.c.member.Logger.Warn("cannot switch yet, trying again", "error", err)
	}, func() error { return r.opt.Graph.Switch(ctx) }); err != nil {
		return fmt.Errorf("switch to the new graph: %w", err)
	}
	if err := r.catchUp(ctx); err != nil {
		return fmt.Errorf("the new graph serves, but what came last is left to the consumers: %w", err)
	}
	return nil
}

func (r *Rebuilder) catchUp(ctx context.Context) error {
	t := r.c.opt.Topics
	if err := r.round(ctx, t.Users); err != nil {
		return err
	}
	return r.round(ctx, t.Items, t.Interactions)
}

// Loss is a stretch of a partition that the serving graph covers, as its watermark says, and that Kafka does not have: what
// only it told is not in a graph that is built anew. Either the beginning was deleted, or the graph holds more than Kafka ever
// had: then the topic was made again, or this is another cluster.
type Loss struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	First     int64  `json:"first"`     // the oldest offset that Kafka has
	End       int64  `json:"end"`       // the offset that the next record will get
	Watermark int64  `json:"watermark"` // everything below it is in the serving graph; 0: a part of that graph was lost
}

// Losses compares what Kafka has with the graph that serves. That the beginning of interactions is gone is none where From leaves
// out old ones.
func (r *Rebuilder) Losses(ctx context.Context, serving Graph) (lost []Loss, err error) {
	if err := r.c.awaitTopics(ctx); err != nil {
		return nil, err
	}
	for _, topic := range r.c.topics {
		early := topic != r.c.opt.Topics.Interactions || r.opt.From.IsZero() // what is early counts
		partitions, err := r.partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, key := range partitions {
			s := r.c.source(key.topic, kafka.PartitionAssignment{ID: key.id, Offset: -1}, "")
			var at int64
			var ok bool
			if err := s.attempt(ctx, "read the watermark", func() (err error) {
				at, ok, err = serving.Watermark(ctx, key.topic, key.id)
				return err
			}); err != nil {
				return nil, err
			}
			// After the watermark, so that the end cannot be older than it.
			if err := s.ask(ctx); err != nil {
				return nil, err
			}
			if ok && (early && s.first > 0 || at > s.end) {
				lost = append(lost, Loss{key.topic, key.id, s.first, s.end, at})
			}
		}
	}
	return lost, nil
}

// partitions that the topics have.
func (r *Rebuilder) partitions(ctx context.Context, topics ...string) (all []partitionKey, err error) {
	var known *kafka.MetadataResponse
	if err := r.patiently(ctx, "look up topics", func() (err error) {
		known, err = r.c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
		return err
	}); err != nil {
		return nil, err
	}
	for _, t := range known.Topics {
		for _, p := range t.Partitions {
			all = append(all, partitionKey{t.Name, p.ID})
		}
	}
	return all, nil
}

// round reads topics up to where they end now, all partitions side by side.
func (r *Rebuilder) round(ctx context.Context, topics ...string) error {
	if _, err := r.ask(ctx, topics...); err != nil {
		return err
	}
	working, ctx := errgroup.WithContext(ctx)
	for key, p := range r.parts {
		if slices.Contains(topics, key.topic) {
			working.Go(func() error { return r.read(ctx, p) })
		}
	}
	return working.Wait()
}

// ask asks where topics end now, opens partitions that are new, and tells how many records are to be read.
func (r *Rebuilder) ask(ctx context.Context, topics ...string) (left int64, err error) {
	partitions, err := r.partitions(ctx, topics...)
	if err != nil {
		return 0, err
	}
	for _, key := range partitions {
		p := r.parts[key]
		if p == nil {
			if p, err = r.open(ctx, key); err != nil {
				return 0, err
			}
		}
		if err := p.ask(ctx); err != nil {
			return 0, err
		}
		r.mu.Lock()
		p.until = p.end
		r.mu.Unlock()
		left += max(0, p.until-p.applied)
	}
	r.tell()
	return left, nil
}

// patiently tries again what fails for the moment.
func (r *Rebuilder) patiently(ctx context.Context, what string, op func() error) error {
	err := retry(ctx, r.c.member.Backoff(), func(err error) {
		r.c.member.Logger.Warn("cannot go on, trying again", "doing", what, "error", err)
	}, op)
	if err != nil {
		return fmt.Errorf("consumer: rebuild: %s: %w", what, err)
	}
	return nil
}

// open begins with a partition.
func (r *Rebuilder) open(ctx context.Context, key partitionKey) (*rebuilding, error) {
	p := &rebuilding{partition: newPartition(r.c, key.topic, kafka.PartitionAssignment{ID: key.id, Offset: -1}, countedLetters{r})}
	if r.early {
		p.batch.sink = &collector[event.User]{
			decode: func(m kafka.Message, notAfter event.Time) (event.User, error) {
				return event.DecodeUser(m.Key, m.Value, notAfter)
			},
			send: r.opt.Graph.Remember,
		}
	}
	if key.topic == r.c.opt.Topics.Interactions && !r.opt.From.IsZero() {
		if err := r.skip(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := p.locate(ctx); err != nil {
		return nil, err
	}
	p.begun = p.applied
	r.parts[key] = p
	return p, r.covered(ctx, p)
}

// covered sets the watermark of a partition whose beginning Kafka has deleted: for the new graph that is not missing. Without
// it, whoever consumed the partition before would miss the watermark of one that has no records at all.
func (r *Rebuilder) covered(ctx context.Context, p *rebuilding) error {
	if p.applied == 0 {
		return nil
	}
	return p.attempt(ctx, "set the watermark", func() error {
		if lowest, _, err := r.opt.Graph.Watermark(ctx, p.topic, p.id); lowest >= p.applied || err != nil {
			return err
		}
		return r.opt.Graph.SetWatermark(ctx, p.topic, p.id, p.applied)
	})
}

// skip sets the watermark of a partition to the first record that is not older than From.
func (r *Rebuilder) skip(ctx context.Context, p *rebuilding) error {
	if err := p.ask(ctx); err != nil {
		return err
	}
	at := p.end // nothing is as young
	if err := p.attempt(ctx, "look for the first record since "+r.opt.From.UTC().Format(time.RFC3339), func() error {
		res, err := r.c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
			p.topic: {kafka.TimeOffsetOf(p.id, r.opt.From)},
		}})
		if err != nil {
			return err
		}
		for _, o := range res.Topics[p.topic] {
			if o.Error != nil {
				return o.Error
			}
			for offset := range o.Offsets {
				if offset >= 0 {
					at = offset
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return p.attempt(ctx, "set the watermark", func() error { return r.opt.Graph.SetWatermark(ctx, p.topic, p.id, at) })
}

// read applies a partition up to where it ended when it was asked.
func (r *Rebuilder) read(ctx context.Context, p *rebuilding) error {
	for p.applied < p.until {
		before := p.applied
		if err := p.step(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		p.read = max(p.read, p.applied-p.begun)
		p.until = max(p.until, p.applied)
		r.mu.Unlock()
		if p.applied != before {
			r.tell()
		}
	}
	return nil
}

// tell reports how far all of it is.
func (r *Rebuilder) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var done, total int64
	for _, p := range r.parts {
		done += p.read
		total += p.until - p.begun
	}
	r.opt.Progress(done, total)
}

// countedLetters counts what cannot be applied: the consumers have published it, or will.
type countedLetters struct{ r *Rebuilder }

func (c countedLetters) publish(_ context.Context, letters []*letter) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for _, l := range letters {
		key := partitionKey{l.record.Topic, l.record.Partition}
		if l.record.Offset < c.r.letters[key] { // read again
			continue
		}
		c.r.letters[key] = l.record.Offset + 1
		word, _, _ := reason(l.err)
		c.r.found.DeadLetters[word]++
	}
	return nil
}
