package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

const (
	// maxSettle is how long a record may be on its way from its Kafka time to the moment it can be read: retries of a
	// producer count. Only where a topic has nothing new does anything depend on it.
	maxSettle = 30 * time.Second

	// maxDue is how many users, besides those of the batch, are settled at once.
	maxDue = 1000
)

// pair is what one goroutine knows about the partition, of both topics, that it owns.
type pair struct {
	j       *Joiner
	id      int
	dead    *deadLetters
	rewards *rewardLog

	decisions, interactions stream
	merge                   merge
	clock                   clock

	version int64    // of the store's state that the streams go on from
	stored  []byte   // its head
	head    joinHead // the same, decoded
	rewinds backoff.BackOff
}

func newPair(j *Joiner, interactions, decisions kafka.PartitionAssignment, dead *deadLetters, rewards *rewardLog) *pair {
	const holder = "the state of the join"
	return &pair{j: j, id: interactions.ID, dead: dead, rewards: rewards,
		interactions: stream{source: j.source(j.opt.Topics.Interactions, interactions, holder)},
		decisions:    stream{source: j.source(j.opt.Topics.Decisions, decisions, holder)},
	}
}

func (p *pair) sources() []*source { return []*source{&p.interactions.source, &p.decisions.source} }

func (p *pair) streams() []*stream { return []*stream{&p.decisions, &p.interactions} }

// run joins until ctx ends, then returns nil, or until it fails for good. The batch at hand is abandoned, which is safe:
// the store has all of it or nothing, and what was published will be published again.
func (p *pair) run(ctx context.Context) error {
	defer p.interactions.close()
	defer p.decisions.close()
	defer p.j.joins.pending.DeleteLabelValues(strconv.Itoa(p.id))
	err := p.locate(ctx)
	for err == nil {
		err = p.step(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// step takes one batch, or none where nothing can be read for certain in order, into the store.
func (p *pair) step(ctx context.Context) error {
	for _, s := range p.streams() {
		if p.j.opt.Now().Sub(s.asked) < p.j.opt.CheckInterval {
			continue
		}
		if err := s.ask(ctx); err != nil {
			return err
		}
		if s.next > s.end || s.next < s.first { // made again, or deleted before we could read
			return p.locate(ctx)
		}
		if s.ahead != nil { // the reader has given what waits for its turn
			s.gave()
		} else {
			s.watchStall(s.next)
		}
	}
	b, err := p.collect(ctx)
	switch {
	case errors.Is(err, kafka.OffsetOutOfRange):
		p.interactions.log.Warn("kafka has no such offset, asking the store where to go on", "error", err)
		return p.locate(ctx)
	case err != nil:
		return err
	}
	more, err := p.settle(ctx, b)
	if err != nil || more || b.taken > 0 {
		return err
	}
	return pause(ctx, p.j.opt.CheckInterval)
}

// locate places the readers where the store's state says.
func (p *pair) locate(ctx context.Context) error {
	state, err := p.load(ctx, nil, 0)
	if err != nil {
		return err
	}
	head, err := decodeHead(state.Head)
	if err != nil {
		return err
	}
	if err := p.interactions.awaitForgets(ctx); err != nil {
		return err
	}
	for _, at := range []struct {
		s        *stream
		position *int64
	}{{&p.decisions, &head.Decisions}, {&p.interactions, &head.Interactions}} {
		s := at.s
		// After the state, so that the end cannot be older than it.
		if err := s.ask(ctx); err != nil {
			return err
		}
		// A store without state begins with what there is: it only repeats rewards.
		s.known = state.Version > 0 && len(state.Head) > 0
		if *at.position < s.first || *at.position > s.end {
			if s.known {
				if err := s.missing(*at.position, true); err != nil {
					return err
				}
			}
			*at.position = s.first
		}
		if err := s.open(*at.position); err != nil {
			return err
		}
	}
	hold := p.j.rules.lateness
	p.version, p.stored, p.head = state.Version, state.Head, head
	p.merge = merge{hold: hold, decisions: side{last: head.DecisionsAt}, interactions: side{last: head.InteractionsAt}}
	p.clock = clock{now: head.Clock, lateness: p.j.rules.lateness, hold: hold}
	return nil
}

// load reads the store.
func (p *pair) load(ctx context.Context, users []string, due int64) (state event.JoinState, err error) {
	err = p.interactions.attempt(ctx, "read the state of the join", func() (err error) {
		state, err = p.j.opt.Store.LoadJoin(ctx, p.j.opt.Topics.Interactions, p.id, users, event.Time(due), maxDue)
		return err
	})
	return state, err
}

// joinBatch is a stretch of the merged order.
type joinBatch struct {
	records []joinRecord // those that can change something
	users   []string     // of them, each once
	letters []*letter
	taken   int // records, of each topic below
	of      map[string]int
	head    joinHead // once the batch is worked in; Pending is the one before
}

// collect takes what can be taken in order for now.
func (p *pair) collect(ctx context.Context) (joinBatch, error) {
	opt := &p.j.opt
	b := joinBatch{of: map[string]int{}, head: p.head}
	wait, cancel := context.WithTimeout(ctx, opt.CheckInterval)
	defer cancel()
	settle := min(opt.Lateness, maxSettle)
	soon := opt.Now().Add(opt.Lateness).UnixMilli()
	named := map[string]bool{}
	for size := 0; b.taken < opt.MaxBatch && size < opt.MaxBytes; {
		if err := p.decisions.peek(ctx, wait, &p.merge.decisions, settle, p.decisions.decodeDecision); err != nil {
			return b, err
		}
		if err := p.interactions.peek(ctx, wait, &p.merge.interactions, settle, p.interactions.decodeInteraction); err != nil {
			return b, err
		}
		p.decisions.watchTime(soon)
		p.interactions.watchTime(soon)
		from := p.merge.next()
		if from == neither {
			break
		}
		s, at := &p.decisions, &b.head.Decisions
		if from == fromInteractions {
			s, at = &p.interactions, &b.head.Interactions
		}
		a := s.ahead
		s.ahead = nil
		*at = a.offset + 1
		b.taken++
		b.of[s.topic]++
		size += a.bytes
		if a.letter != nil {
			b.letters = append(b.letters, a.letter)
		}
		r, ok := p.j.rules.order(&p.merge, &p.clock, from, a.joinRecord)
		if !ok {
			continue
		}
		b.records = append(b.records, r)
		if user := r.user(); r.out == "" && !named[user] {
			named[user] = true
			b.users = append(b.users, user)
		}
	}
	for _, s := range p.streams() {
		if s.ahead == nil || s.ahead.time <= soon {
			s.recovered(waitingForTime)
		}
	}
	p.clock.reached(p.merge.reached())
	b.head.DecisionsAt, b.head.InteractionsAt, b.head.Clock = p.merge.decisions.last, p.merge.interactions.last, p.clock.now
	return b, nil
}

// settle works a batch into the store, and finishes what the clock allows; more tells that not all of that is done yet.
func (p *pair) settle(ctx context.Context, b joinBatch) (more bool, err error) {
	i, started := &p.interactions, p.j.opt.Now()
	if len(b.letters) > 0 {
		if err := p.decisions.attempt(ctx, "publish dead letters", func() error { return p.dead.publish(ctx, b.letters) }); err != nil {
			return false, err
		}
		p.j.metrics.buried(p.decisions.topic, b.letters)
	}
	var tried []byte // head of a commit that was refused
	for {
		state, err := p.load(ctx, b.users, b.head.Clock)
		if err != nil {
			return false, err
		}
		switch {
		case bytes.Equal(state.Head, p.stored): // and not the version: a store that lost writes may have reached it another way
			p.version = state.Version
		case tried != nil && bytes.Equal(state.Head, tried): // an earlier attempt got through, and its answer was lost
			return true, p.locate(ctx)
		default:
			return false, p.rewind(ctx)
		}
		j, err := newJoining(p.j.rules, state, b.users)
		if err != nil {
			return false, err
		}
		j.work(b.records, b.head.Clock)
		changes, err := j.changes()
		if err != nil {
			return false, err
		}
		if b.taken == 0 && len(changes) == 0 {
			return state.More, nil
		}
		messages, err := encodeRewards(j.rewards)
		if err != nil {
			return false, err
		}
		if err := i.attempt(ctx, "publish rewards", func() (err error) {
			messages, err = p.rewards.publish(ctx, messages)
			return err
		}); err != nil {
			return false, err
		}
		head := b.head
		head.Pending = p.head.Pending + j.pending
		raw, err := json.Marshal(head)
		if err != nil {
			return false, err
		}
		applied := false
		if err := i.attempt(ctx, "write the state of the join", func() (err error) {
			applied, err = p.j.opt.Store.CommitJoin(ctx, p.j.opt.Topics.Interactions, p.id, p.version, raw, changes)
			return err
		}); err != nil {
			return false, err
		}
		if !applied {
			tried = raw
			continue // the store says why
		}
		p.version, p.stored, p.head, p.rewinds = p.version+1, raw, head, nil
		p.applied(b, j, p.j.opt.Now().Sub(started))
		return state.More, nil
	}
}

// applied tells everybody.
func (p *pair) applied(b joinBatch, j *joining, took time.Duration) {
	p.interactions.source.applied, p.decisions.source.applied = p.head.Interactions, p.head.Decisions
	for _, s := range p.streams() {
		s.known = true
		if n := b.of[s.topic]; n > 0 {
			p.j.metrics.applied(s.topic, n, took)
		}
		s.report()
	}
	p.j.joins.joined(j)
	p.j.joins.pending.WithLabelValues(strconv.Itoa(p.id)).Set(float64(p.head.Pending))
	if len(j.rewards) > 0 {
		p.j.opt.OnReward(j.rewards)
	}
}

// rewind goes to where the store stands, which is not where the last batch left it: it lost writes, or another owner
// was faster.
func (p *pair) rewind(ctx context.Context) error {
	p.j.metrics.rewinds.WithLabelValues(p.interactions.topic).Inc()
	p.interactions.log.Warn("the state of the join is not the one that was left, going on from what there is", "position", p.head.Interactions)
	if p.rewinds == nil {
		p.rewinds = p.j.opt.Backoff()
	} else if err := pause(ctx, p.rewinds.NextBackOff()); err != nil { // it did not help the last time
		return err
	}
	return p.locate(ctx)
}
