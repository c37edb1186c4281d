package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/segmentio/kafka-go"
)

type forgetCommand struct {
	User       string        `arg:"" help:"The user's id."`
	Before     string        `help:"Forget what the user did before this instant, RFC 3339; without it, before now." placeholder:"TIME"`
	Wait       bool          `help:"Wait until a consumer has applied it, and look whether anything is left." default:"true" negatable:""`
	WaitFor    time.Duration `help:"Longest wait." default:"1m"`
	JSON       bool          `help:"Print what was found as one JSON object."`
	kafkaFlags `embed:""`
	redisFlags `embed:""`
}

// Help is shown by r2rec forget --help.
func (forgetCommand) Help() string {
	return `Publishes to the topic users that everything the user did before an instant is to be forgotten. Whoever applies that
topic (r2rec consume, r2rec serve --consume) removes the user's edges, purchases and hides, the user from the lists of
all items, and what apps read of the user; and ignores what is older from then on, also when topics are replayed.
It cannot be taken back.

The command waits until that is done, looks through Redis and tells what was there and what is left. It fails where
something older is left, or no consumer has applied it within --wait-for; the request is in Kafka all the same, and is
applied when a consumer runs. What remains in Kafka, files and logs, and what to do about it: docs/forgetting.md.`
}

// forgetAhead is how far ahead of its record in Kafka an instant may lie.
const forgetAhead = 24 * time.Hour

// forgetReport is what the command found.
type forgetReport struct {
	Command      string             `json:"command"`
	UserID       string             `json:"user_id"`
	ForgetBefore event.Time         `json:"forget_before"`
	Topic        string             `json:"topic"`
	Partition    int                `json:"partition"`
	Waited       bool               `json:"waited"`
	Found        graphcache.Traces  `json:"found"`          // before
	Left         *graphcache.Traces `json:"left,omitempty"` // after, where it waited until it was applied

	asked bool // it is in Kafka
}

func (c forgetCommand) Run(p *process) error {
	u := event.User{UserID: c.User, ForgetBefore: event.At(time.Now()) + 1} // this millisecond included
	if c.Before != "" {
		at, err := time.Parse(time.RFC3339, c.Before)
		if err != nil {
			return misuse("--before %q: want an instant as RFC 3339, such as 2026-11-23T10:15:30Z", c.Before)
		}
		u.ForgetBefore = event.At(at)
		if ahead := time.Until(at); ahead > forgetAhead {
			return misuse("--before %s lies %v ahead: want at most %v, more is no valid request", c.Before, ahead.Round(time.Minute), forgetAhead)
		}
	}
	if err := u.Validate(); err != nil {
		return wrong(err)
	}
	s, err := connect(p, c.kafkaFlags, c.redisFlags)
	if err != nil {
		return err
	}
	defer s.close()
	c.warnForgetKey(p)
	r := forgetReport{Command: "forget", UserID: u.UserID, ForgetBefore: u.ForgetBefore, Topic: s.kafka.Topic(broker.Users), Waited: c.Wait}
	if r.Found, err = s.graph.Traces(p.ctx, u.UserID); err != nil {
		return err
	}
	if r.Found.Before > u.ForgetBefore {
		p.log.Info("the user is forgotten already, up to a later instant, which stays", "user", u.UserID, "forget_before", r.Found.Before.String())
		u.ForgetBefore = r.Found.Before // Kafka keeps the last request, not the highest
		r.ForgetBefore = u.ForgetBefore
	}
	err = c.carryOut(p.ctx, s, u, &r)
	switch {
	case !r.asked:
		return unfinished{err}
	case err != nil:
		err = unfinished{fmt.Errorf("%w. The request is in Kafka all the same, in %s, and is applied when a consumer runs", err, r.Topic)}
	case r.Left != nil:
		err = leftOver(r)
	}
	return errors.Join(err, c.print(p, r))
}

// carryOut asks for it and, where that is wanted, waits and looks what is left.
func (c forgetCommand) carryOut(ctx context.Context, s stores, u event.User, r *forgetReport) error {
	for {
		end, err := c.publish(ctx, s, u, r)
		if err != nil || !c.Wait {
			return err
		}
		if err := c.await(ctx, s, *r, end); err != nil {
			return err
		}
		left, err := c.look(ctx, s, u)
		if err != nil {
			return err
		}
		if left.Before <= u.ForgetBefore {
			r.Left = &left
			return nil
		}
		// Somebody asked for more meanwhile, and it may stand before ours in Kafka.
		u.ForgetBefore, r.ForgetBefore = left.Before, left.Before
	}
}

// publish asks for it, and gives the end of the user's partition then.
func (c forgetCommand) publish(ctx context.Context, s stores, u event.User, r *forgetReport) (end int64, err error) {
	users := s.kafka.NewBoundedWriter(broker.Users)
	_, err = publisher{users: users}.Forget(ctx, u)
	if err := errors.Join(err, users.Close()); err != nil {
		err = fmt.Errorf("publish to %s: %w", r.Topic, err)
		if !r.asked { // a writer that gave up may have been heard all the same
			err = fmt.Errorf("%w; whether the request is in Kafka is not known: it may be applied; run it again", err)
		}
		return 0, err
	}
	r.asked = true
	ends, err := s.kafka.Offsets(ctx, broker.Users)
	if err != nil {
		return 0, err
	}
	all := make([]int, len(ends))
	for i := range all {
		all[i] = i
	}
	r.Partition = kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: []byte(u.UserID)}, all...)
	return ends[r.Partition].Last, nil
}

// await waits until the graph has everything below end of the user's partition.
func (c forgetCommand) await(ctx context.Context, s stores, r forgetReport, end int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.WaitFor, fmt.Errorf("nobody has applied %s/%d up to offset %d within %v: start r2rec consume, or r2rec serve --consume, with the same --redis and --forget-key; "+
		"--no-wait does not wait for it", r.Topic, r.Partition, end, c.WaitFor))
	defer cancel()
	return poll(ctx, func() (bool, error) {
		at, _, err := s.graph.Watermark(ctx, r.Topic, r.Partition)
		return at >= end, err
	})
}

// look tells what is left, once the joiner had its second to forget its part, too.
func (c forgetCommand) look(ctx context.Context, s stores, u event.User) (t graphcache.Traces, err error) {
	wait, cancel := context.WithTimeoutCause(ctx, joinerTurn, errLate)
	defer cancel()
	err = poll(wait, func() (bool, error) {
		t, err = s.graph.Traces(wait, u.UserID)
		return t.Joins == 0, err
	})
	if errors.Is(err, errLate) {
		return s.graph.Traces(ctx, u.UserID)
	}
	return t, err
}

// joinerTurn is how long a running joiner takes at most, as a rule, until it looks at who is to be forgotten. Tests give it
// more: their machine may have other work.
var joinerTurn = 5 * time.Second

var errLate = errors.New("not done in time")

// poll asks until done, five times a second at most; where ctx ends first, it returns the cause.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil || ok:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c forgetCommand) print(p *process, r forgetReport) error {
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(r)
	}
	fmt.Fprintf(p.stdout, "User %q, everything before %s, in %s/%d\n\n", r.UserID, r.ForgetBefore, r.Topic, r.Partition)
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, count func(graphcache.Traces) int64) {
		fmt.Fprintf(w, "%s\t%d\t", what, count(r.Found))
		if r.Left != nil {
			fmt.Fprintf(w, "%d\t", count(*r.Left))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "in redis\tfound\t")
	if r.Left != nil {
		fmt.Fprint(w, "left\t")
	}
	fmt.Fprintln(w)
	row("edges of the user", func(t graphcache.Traces) int64 { return t.Edges })
	row("purchases and hides", func(t graphcache.Traces) int64 { return t.Settled })
	row("lists of items that name the user", func(t graphcache.Traces) int64 { return t.Lists })
	row("of all these, later", func(t graphcache.Traces) int64 { return t.Later })
	row("documents that apps read", func(t graphcache.Traces) int64 { return t.Documents })
	row("partitions with rewards pending", func(t graphcache.Traces) int64 { return t.Joins })
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Left == nil {
		_, err := fmt.Fprintln(p.stdout, "\nA consumer forgets it when it reads that.")
		return err
	}
	_, err := fmt.Fprintln(p.stdout, "\nKafka, files and logs hold more: docs/forgetting.md.")
	return err
}

// leftOver is nil where nothing is left that should be gone.
func leftOver(r forgetReport) error {
	left := *r.Left
	switch {
	case left.Before < r.ForgetBefore:
		return fmt.Errorf("the graph does not know that user %q is forgotten, although a consumer has applied the request: it uses another --forget-key than this command; give the same to all", r.UserID)
	case left.Joins > 0:
		return fmt.Errorf("decisions of user %q still wait for their reward: they go when r2rec consume runs, at the latest a week after it last did", r.UserID)
	case left.Edges+left.Settled+left.Lists > 0:
		return fmt.Errorf("something of user %q is left that should be gone: was it written by a process with another --forget-key? Run it again; r2rec rebuild makes the graph anew", r.UserID)
	case left.Documents > 0:
		return fmt.Errorf("apps read a recommendation of user %q that was made since: it was asked for again", r.UserID)
	case left.Later > 0:
		return fmt.Errorf("user %q did something that is not older than %s, the newest at %s: it stays. Where that was a wrong clock, forget once more with a later --before, at most 24h ahead",
			r.UserID, r.ForgetBefore, left.Newest)
	}
	return nil
}
