package main

import (
	"context"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/rltrainer"
)

// loopParts say what a process shows of the learning loop, and does for it.
type loopParts struct {
	rule      string        // when rewards are final, for people; empty: another process makes them
	every     time.Duration // between two looks at the rewards
	back      time.Duration // rewards older than this are not counted
	note      string        // by which rules the loop runs, for people
	elsewhere string        // why no rounds are run here; empty: they are
	needed    int           // decisions for a round
}

// loop watches rewards, and tells how learning goes.
type loop struct {
	p        *process
	parts    loopParts
	follower *follower // nil: no log of adapters is followed
	tail     *recordsSince[event.Reward]
	tally    *tally

	mu         sync.Mutex
	simulation *web.Simulation
	rollOut    *web.RollOut // where the one stands that was watched last
	running    *web.Running
	ended      []web.Round // newest first
	from       int         // usable decisions that rounds have already begun with
}

// newLoop follows the rewards that a service's decisions earn.
func newLoop(s *service, parts loopParts) *loop {
	tail := rewardsSince(s.parts.kafka, event.At(time.Now().Add(-parts.back)))
	tail.every, tail.most = parts.every, tallyAtOnce
	return &loop{p: s.p, parts: parts, follower: s.follower, tally: newTally(tallyRewards), tail: tail}
}

// tallyAtOnce is how many rewards of a partition are read at once: a server may have many behind it when it starts.
const tallyAtOnce = 5000

// run counts until ctx ends.
func (l *loop) run(ctx context.Context) error { return l.tail.follow(ctx, l.p.log, l.tally.add) }

// watched hears where a roll-out stands that goes back at the limit.
func (l *loop) watched(w *rltrainer.Watch, limit time.Duration) {
	look := w.Look()
	r := &web.RollOut{Candidate: w.Candidate, Current: w.Current, Share: w.Share, Since: w.Since, Until: event.At(w.Since.Std().Add(limit)),
		Decisions: look.Decisions, Users: look.Users, Mean: look.Mean, Reason: look.Reason}
	if look.Known {
		r.Interval = &web.Interval{Low: look.Low, High: look.High}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rollOut = r
}

// Loop implements web.Loop.
func (l *loop) Loop(context.Context) (web.LoopState, error) {
	var s web.LoopState
	l.tally.show(&s)
	s.Note, s.Rewards.Rule = l.parts.note, l.parts.rule
	if l.follower != nil {
		l.follower.loop(&s)
	}
	usable := l.tally.learned()
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rollOut; s.RollOut != nil && r != nil && r.Candidate == s.RollOut.Candidate && r.Since == s.RollOut.Since {
		s.RollOut = r // never changed once it is there
	}
	if l.simulation != nil {
		sim := *l.simulation
		s.Simulation = &sim
	}
	s.Rounds = web.Rounds{Elsewhere: l.parts.elsewhere, Usable: usable - l.from, Needed: l.parts.needed, Ended: append([]web.Round(nil), l.ended...)}
	if l.running != nil {
		running := *l.running
		s.Rounds.Running = &running
	}
	return s, nil
}

// loop tells what the log of adapters says.
func (f *follower) loop(s *web.LoopState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.read {
		return
	}
	offset := f.state.Offset // a copy: the state goes on
	s.Offset = &offset
	if of, ok := rltrainer.RollOutOf(f.state); ok {
		s.RollOut = &web.RollOut{Candidate: of.Candidate, Current: of.Current, Share: of.Share, Since: of.Since}
	}
}

// simulated is told of every change of the simulation.
func (l *loop) simulated(s web.Simulation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.simulation = &s
}

// ready tells whether there is enough to learn from for the next round.
func (l *loop) ready() bool {
	usable := l.tally.learned()
	l.mu.Lock()
	defer l.mu.Unlock()
	return usable-l.from >= l.parts.needed
}

// began takes what is there for the round that begins.
func (l *loop) began() {
	usable := l.tally.learned()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = usable
	l.running = &web.Running{Doing: "beginning", Total: 1, Began: event.At(time.Now())}
}

// told hears of a round's progress.
func (l *loop) told(doing string, done, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		l.running.Doing, l.running.Done, l.running.Total = doing, done, total
	}
}

// endedRounds is how many of the last are shown.
const endedRounds = 20

// roundEnded keeps how a round ended; failed is its error.
func (l *loop) roundEnded(r *rltrainer.Report, failed error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var round web.Round
	if failed != nil {
		round = web.Round{Verdict: "failed", Reason: failed.Error(), Ended: event.At(time.Now())}
		if l.running != nil {
			round.Began = l.running.Began
		}
	} else {
		round = web.Round{Verdict: string(r.Verdict), Reason: r.Reason, Adapter: r.Adapter, Began: r.Began, Ended: r.Ended, Learned: r.Training, Users: r.Users,
			Held: r.Held, Gate: r.Gate, Reward: rewardCurve(r)}
	}
	if round.Reward == nil {
		round.Reward = []float64{}
	}
	l.running = nil
	l.ended = append([]web.Round{round}, l.ended[:min(len(l.ended), endedRounds-1)]...)
}

// rewardCurve is the expected reward as a round's policy followed its gradient: means of so many steps that few points are left.
func rewardCurve(r *rltrainer.Report) []float64 {
	const points = 24
	each := max(1, (len(r.Policy)+points-1)/points)
	var curve []float64
	for i := 0; i < len(r.Policy); i += each {
		part := r.Policy[i:min(i+each, len(r.Policy))]
		sum := 0.
		for _, s := range part {
			sum += s.Reward
		}
		curve = append(curve, sum/float64(len(part)))
	}
	return curve
}
