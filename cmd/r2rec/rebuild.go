package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
)

type rebuildCommand struct {
	From       string        `help:"Leave out interactions that Kafka recorded before this instant, RFC 3339." placeholder:"TIME"`
	AcceptLoss bool          `help:"Go on where Kafka no longer has all that the serving graph was made from: what only that told is not in the new one."`
	Tight      bool          `help:"Go on where Redis' maxmemory may not hold two graphs."`
	KeepOld    bool          `help:"Keep the former graph, to go back to it with --back; --drop-old deletes it."`
	Grace      time.Duration `help:"Time between the switch and the deletion of the former graph, for reads that are under way." default:"1m"`
	Pause      time.Duration `help:"Pause between two deletions of up to 1000 keys." default:"10ms"`
	Back       bool          `help:"Only go back to the newest graph that was kept."`
	DropOld    bool          `help:"Only delete graphs that do not serve: those that were kept, or left by a rebuild that was killed."`
	JSON       bool          `help:"Print what was done as one JSON object; no progress bar."`
	kafkaFlags `embed:""`
	redisFlags `embed:""`
}

// Help is shown by r2rec rebuild --help.
func (rebuildCommand) Help() string {
	return `Reads users, items and interactions from the beginning of Kafka into a second graph, at full speed, while the present one
serves and consumers go on. Then all readers and consumers switch to it at once; nobody has to be restarted. Consumers
apply what came meanwhile by themselves. Then the former graph is deleted, slowly.

For a graph whose lists users were forgotten from, that a version made which had no edge for ratings between the bounds,
or in which somebody wrote by hand; to count ratings otherwise (--positive, --negative, --no-seen), to keep more edges
(--bound), or for another --forget-key. Use the same flags for all processes from then on.

Redis needs room for two graphs. Dead letters are counted, not published again. A rebuild that is killed has changed
nothing; the next one deletes what it left. Only one runs at a time. docs/rebuilding.md tells more.`
}

const rebuildLease = 30 * time.Second

func (c rebuildCommand) Run(p *process) error {
	var from time.Time
	if c.From != "" {
		var err error
		if from, err = time.Parse(time.RFC3339, c.From); err != nil {
			return misuse("--from %q: want an instant as RFC 3339, such as 2026-11-23T10:15:30Z", c.From)
		}
	}
	if c.Back && c.DropOld {
		return misuse("--back and --drop-old: want one of them")
	}
	c.anew = true
	s, err := look(p, c.kafkaFlags, c.redisFlags, broker.Interactions, broker.Items, broker.Users)
	if err != nil {
		return err
	}
	defer s.close()
	lease, err := adapters.TakeLease(p.ctx, adapters.LeaseOptions{Client: s.rdb, Key: c.Prefix + "rebuild", TTL: rebuildLease, Logger: p.log})
	if err != nil {
		if errors.Is(err, adapters.ErrLeased) {
			err = fmt.Errorf("another rebuild is running: %w", err)
		}
		return err
	}
	defer func() {
		if err := lease.Release(context.WithoutCancel(p.ctx)); err != nil {
			p.log.Warn("the lease is left to expire", "error", err)
		}
	}()
	work := *p
	work.ctx = lease.Lost()
	r := &rebuild{p: &work, rebuildCommand: c, graph: s.graph, from: from}
	switch {
	case c.Back:
		err = r.back()
	case c.DropOld:
		err = r.dropOld()
	default:
		c.warnForgetKey(p)
		err = r.run(s.kafka)
	}
	if lost := context.Cause(work.ctx); err != nil && errors.Is(lost, adapters.ErrLost) {
		err = errors.Join(lost, err)
	}
	if err != nil && r.did.Before == nil {
		return err
	}
	return errors.Join(err, r.print()) // after a switch it is told what was done, however it ended
}

// rebuild is one run.
type rebuild struct {
	rebuildCommand
	p     *process
	graph *graphcache.Generations
	from  time.Time
	did   rebuildReport
}

// rebuildReport is what was done.
type rebuildReport struct {
	Command    string `json:"command"`
	Generation int    `json:"generation"`       // that serves now
	Before     *int   `json:"before,omitempty"` // that served before; absent: nothing was switched
	consumer.Rebuilt
	Total      int64           `json:"total"` // records
	Seconds    float64         `json:"seconds"`
	Rate       float64         `json:"records_per_second"`
	Room       graphcache.Room `json:"memory_before"`
	RoomAfter  graphcache.Room `json:"memory_with_both"`
	Lost       []consumer.Loss `json:"lost,omitempty"` // what Kafka no longer had of it
	Deleted    int64           `json:"deleted_keys"`
	Leftovers  []int           `json:"leftovers,omitempty"` // generations that earlier rebuilds left and that were deleted
	KeptBefore bool            `json:"kept_before"`
	LeftBefore bool            `json:"left_before,omitempty"` // it should have been deleted and was not, or not wholly
}

func (r *rebuild) run(kc *broker.Client) error {
	if err := r.clean(); err != nil {
		return err
	}
	if err := r.room(); err != nil {
		return err
	}
	target := &rebuildTarget{graph: r.graph, token: rand.Text(), keep: r.KeepOld}
	bar := r.bar()
	defer bar.close()
	opt := consumer.RebuildOptions{Graph: target, From: r.from, Progress: func(done, total int64) { bar.set("rebuilding", int(done), int(total)) }}
	opt.Brokers, opt.Dialer, opt.Transport, opt.Topics = kc.Brokers(), kc.Dialer, kc.Transport, consumedTopics(kc)
	opt.Logger, opt.Now, opt.MaxBatch, opt.OnGap = r.p.log, time.Now, rebuildBatch, consumer.StopOnGap
	if r.AcceptLoss {
		opt.OnGap = consumer.EarliestOnGap
	}
	builder, err := consumer.NewRebuilder(opt)
	if err != nil {
		return err
	}
	if err := r.losses(builder); err != nil {
		return err
	}
	if target.Cache, err = r.graph.Begin(r.p.ctx, target.token); err != nil {
		return err
	}
	begun := time.Now()
	r.did.Rebuilt, err = builder.Run(r.p.ctx)
	bar.close()
	if err != nil && !target.switched {
		return r.undo(target, err)
	}
	if err != nil {
		r.p.log.Warn("the new graph serves", "error", err)
	}
	r.did.Seconds = time.Since(begun).Seconds()
	for _, n := range r.did.Records {
		r.did.Total += n
	}
	r.did.Rate = float64(r.did.Total) / r.did.Seconds
	r.did.Before = &target.before
	if r.did.RoomAfter, err = r.graph.Room(r.p.ctx); err != nil {
		r.p.log.Warn("what redis uses with both graphs is not known", "error", err)
	}
	if r.KeepOld {
		r.did.KeptBefore = true
		return nil
	}
	r.p.log.Info("switched", "generation", target.Generation(), "before", target.before, "deleted_in", r.Grace)
	err = r.drop(target.before, r.Grace)
	r.did.LeftBefore = err != nil
	return err
}

// rebuildBatch is how many records a partition applies at once: more than a consumer does, for nobody waits for one of them.
const rebuildBatch = 5000

// bar shows progress, unless what is printed is for machines.
func (r *rebuild) bar() *stages {
	s := &stages{p: r.p}
	s.held = r.JSON
	return s
}

// undo deletes what was built in vain; what serves was not touched. Where a switch was tried, its answer may have been lost.
func (r *rebuild) undo(target *rebuildTarget, err error) error {
	if target.tried {
		ctx, cancel := r.afterwards()
		defer cancel()
		switch now, lost := r.graph.Current(ctx); {
		case lost != nil:
			return unfinished{fmt.Errorf("whether the new graph, generation %d, was switched to is not known; r2rec rebuild --drop-old tells, and deletes the other: %w", target.Generation(), errors.Join(err, lost))}
		case now.Generation() == target.Generation():
			return unfinished{fmt.Errorf("the new graph serves, generation %d, and the former one is still there: r2rec rebuild --drop-old deletes it: %w", target.Generation(), err)}
		}
	}
	err = fmt.Errorf("nothing was switched, the graph that served goes on: %w", err)
	if r.p.ctx.Err() != nil {
		return unfinished{err} // the next run finds it
	}
	_, dropped := r.graph.Drop(r.p.ctx, target.Generation(), r.Pause)
	return errors.Join(err, dropped)
}

// clean deletes what rebuilds have left that were killed.
func (r *rebuild) clean() error {
	left, err := r.graph.Leftovers(r.p.ctx)
	if err != nil {
		return err
	}
	for _, n := range left {
		r.p.log.Info("an earlier rebuild left a graph that serves nobody: deleting it", "generation", n)
		if err := r.drop(n, 0); err != nil {
			return err
		}
	}
	r.did.Leftovers = left
	return nil
}

// drop deletes a generation after a grace period.
func (r *rebuild) drop(n int, grace time.Duration) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.p.ctx.Done():
		return isLeft(n, r.p.ctx.Err())
	}
	deleted, err := r.graph.Drop(r.p.ctx, n, r.Pause)
	r.did.Deleted += deleted
	if err != nil {
		return isLeft(n, err)
	}
	return nil
}

func isLeft(n int, err error) error {
	return unfinished{fmt.Errorf("the graph of generation %d is left: r2rec rebuild --drop-old deletes it: %w", n, err)}
}

// room refuses where two graphs may not fit.
func (r *rebuild) room() (err error) {
	if r.did.Room, err = r.graph.Room(r.p.ctx); err != nil {
		return err
	}
	used, most := r.did.Room.Used, r.did.Room.Max
	if most == 0 {
		r.p.log.Info("redis needs room for two graphs until the former one is deleted", "used", mebibytes(used), "maxmemory", "none or not told")
		return nil
	}
	r.p.log.Info("redis needs room for two graphs until the former one is deleted", "used", mebibytes(used), "maxmemory", mebibytes(most))
	if 2*used > most && !r.Tight {
		return fmt.Errorf("redis uses %s of %s (maxmemory), and may not hold a second graph beside the first: raise maxmemory, or go on with --tight (what is full then refuses writes: the rebuild waits and consumers do, too)", mebibytes(used), mebibytes(most))
	}
	return nil
}

// losses refuses where the new graph would know less than the present one.
func (r *rebuild) losses(b *consumer.Rebuilder) (err error) {
	if r.did.Lost, err = b.Losses(r.p.ctx, r.graph); err != nil {
		return err
	}
	for _, l := range r.did.Lost {
		why := "kafka no longer has the beginning: what only that told is not in a new graph"
		if l.Watermark > l.End {
			why = "the graph holds more than kafka has: the topic was made again or cut off, or this is another cluster"
		}
		r.p.log.Warn(why, "topic", l.Topic, "partition", l.Partition, "first", l.First, "end", l.End, "graph_holds_below", l.Watermark)
	}
	if len(r.did.Lost) > 0 && !r.AcceptLoss {
		return fmt.Errorf("of %d partitions kafka does not have all that the present graph was made from: a new one would know less. Keep the graph, see whether --kafka and --topic-prefix are right, or accept the loss with --accept-loss; where only old interactions are gone, --from says from when on", len(r.did.Lost))
	}
	return nil
}

// back goes back to the newest graph that was kept.
func (r *rebuild) back() error {
	all, err := r.graph.List(r.p.ctx)
	if err != nil {
		return err
	}
	newest := -1
	for _, g := range all[1:] {
		if g.State == graphcache.Kept {
			newest = max(newest, g.Number)
		}
	}
	if newest < 0 {
		return errors.New("--back: no former graph was kept: rebuild with --keep-old keeps it")
	}
	before, err := r.graph.Back(r.p.ctx, newest)
	if err != nil {
		return err
	}
	r.did.Before, r.did.KeptBefore = &before, true
	return nil
}

// dropOld deletes every graph that does not serve.
func (r *rebuild) dropOld() error {
	if err := r.clean(); err != nil {
		return err
	}
	all, err := r.graph.List(r.p.ctx)
	if err != nil {
		return err
	}
	for _, g := range all[1:] {
		if err := r.drop(g.Number, 0); err != nil {
			return err
		}
	}
	return nil
}

// afterwards is for what is asked when all is done, also after a Ctrl-C.
func (r *rebuild) afterwards() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.p.ctx), cleanUpWithin)
}

func (r *rebuild) print() error {
	ctx, cancel := r.afterwards()
	defer cancel()
	c, err := r.graph.Current(ctx)
	if err != nil {
		return err
	}
	r.did.Command, r.did.Generation = "rebuild", c.Generation()
	if r.JSON {
		return json.NewEncoder(r.p.stdout).Encode(r.did)
	}
	w := r.p.stdout
	if r.did.Seconds > 0 {
		fmt.Fprintf(w, "%d records in %.1f s (%.0f records/s)", r.did.Total, r.did.Seconds, r.did.Rate)
		for reason, n := range r.did.DeadLetters {
			fmt.Fprintf(w, ", %d of them cannot be applied: %s", n, reason)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "Generation %d serves", r.did.Generation)
	switch {
	case r.did.KeptBefore:
		fmt.Fprintf(w, "; generation %d is kept (--back, --drop-old)", *r.did.Before)
	case r.did.LeftBefore:
		fmt.Fprintf(w, "; generation %d is left (--drop-old)", *r.did.Before)
	case r.did.Before != nil:
		fmt.Fprintf(w, "; generation %d is deleted", *r.did.Before)
	}
	_, err = fmt.Fprintf(w, "; %d keys deleted\n", r.did.Deleted)
	return err
}

// rebuildTarget is the generation that is being built.
type rebuildTarget struct {
	*graphcache.Cache
	graph    *graphcache.Generations
	token    string
	keep     bool
	tried    bool // to switch
	switched bool
	before   int
}

func (t *rebuildTarget) Switch(ctx context.Context) (err error) {
	t.tried = true
	t.before, err = t.graph.Switch(ctx, t.Generation(), t.token, t.keep)
	t.switched = err == nil
	return err
}

// mebibytes says a size.
func mebibytes(n int64) string {
	const mib = 1 << 20
	return fmt.Sprintf("%.1f MiB", float64(n)/mib)
}
