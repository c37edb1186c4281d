package graphcache

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/event"
)

// While Redis works on one convoy the next is made ready and sent, if that is worth it: a convoy costs Redis what 50 events
// do, because it moves the watermarks of 64 groups, and departing early makes it smaller. Waiting for larger ones (6,000)
// is no faster where much is to be read and takes events 2 to 4 times as long into the graph where they trickle in.
const (
	atOnce       = 2
	worthwhile   = 700    // events for which a second convoy departs
	convoyEvents = 16_384 // that one holds at most; a single larger batch travels alone
	convoyParts  = 32     // a bit each in what the script advance answers
)

// convoys let batches of different partitions that come at the same time travel in one convoy: what they have for one
// list goes into one command, and the transactions of the 64 groups are paid for once. Nobody waits for company: whoever
// comes when none is under way departs at once, and when one has arrived all who came meanwhile make up the next.
type convoys struct {
	mu       sync.Mutex
	underway int
	waiting  []*part
}

// part is one batch on its way.
type part struct {
	ctx   context.Context
	span  event.Span
	batch []event.Interaction

	lead    chan struct{} // holds a notice, while it waits, that it is to lead the next convoy
	arrived chan struct{} // closed when err stands
	err     error
}

// do brings a batch to travel, in this goroutine or another's. Where ctx ends before it has departed, it stays and the
// error is that of ctx; afterwards do waits until it has arrived, because travel holds on to it.
func (c *convoys) do(ctx context.Context, span event.Span, batch []event.Interaction, travel func(context.Context, []*part)) error {
	p := &part{ctx: ctx, span: span, batch: batch, lead: make(chan struct{}, 1), arrived: make(chan struct{})}
	c.join(p)
	ended := ctx.Done()
	for {
		select {
		case <-p.arrived:
			return p.err
		case <-p.lead:
			c.depart(travel)
		case <-ended:
			if c.withdraw(p) {
				return ctx.Err()
			}
			ended = nil
		}
	}
}

// join queues p, and has it lead where there is room for a convoy.
func (c *convoys) join(p *part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, p)
	events := 0
	for _, p := range c.waiting {
		events += len(p.batch)
	}
	if c.underway == 0 || c.underway < atOnce && events >= worthwhile {
		c.underway++
		c.next()
	}
}

// next lets the first who waits lead a convoy, or gives it up where nobody does.
func (c *convoys) next() {
	for _, p := range c.waiting {
		if len(p.lead) == 0 {
			p.lead <- struct{}{}
			return
		}
	}
	c.underway--
}

// depart travels with those who wait, and then passes its place on. The leader may be left behind or have departed already.
func (c *convoys) depart(travel func(context.Context, []*part)) {
	c.mu.Lock()
	parts := c.board()
	c.mu.Unlock()
	if len(parts) > 0 {
		ctx, done := whileAny(parts)
		travel(ctx, parts)
		done()
		for _, p := range parts {
			close(p.arrived)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next()
}

// board takes those who travel next out of the queue, in its order: as many as fit, of each partition one at most.
func (c *convoys) board() (parts []*part) {
	events := 0
	c.waiting = slices.DeleteFunc(c.waiting, func(p *part) bool {
		full := len(parts) == convoyParts || len(parts) > 0 && events+len(p.batch) > convoyEvents
		if full || slices.ContainsFunc(parts, func(o *part) bool {
			return o.span.Topic == p.span.Topic && o.span.Partition == p.span.Partition
		}) {
			return false
		}
		parts, events = append(parts, p), events+len(p.batch)
		return true
	})
	for _, p := range parts {
		c.relieve(p)
	}
	return parts
}

// relieve passes on the place of one who was told to lead, and no longer waits.
func (c *convoys) relieve(p *part) {
	select {
	case <-p.lead:
		c.next()
	default: // was not told, or is about to depart
	}
}

// withdraw takes p out of the queue; false: it has departed.
func (c *convoys) withdraw(p *part) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, p)
	if i < 0 {
		return false
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	c.relieve(p)
	return true
}

// whileAny is a context that lives until those of all parts have ended.
func whileAny(parts []*part) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parts[0].ctx))
	var left atomic.Int64
	left.Store(int64(len(parts)))
	stops := make([]func() bool, len(parts))
	for i, p := range parts {
		stops[i] = context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
