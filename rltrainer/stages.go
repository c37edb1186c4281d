package rltrainer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/ope"
)

// material is what a round works with.
type material struct {
	training, held []Rollout
	parent         string // path of the file of the adapter that is current; empty: none is
}

// gather reads the history and cuts it: the newest of the decisions that no gate has used, made by the adapter that is
// current, are held out for the gate; all that are older teach.
func (r *round) gather(ctx context.Context) (m material, err error) {
	r.Told("reading decisions and rewards", 0, 1)
	joined, read, err := recall(ctx, r.History, r.note.Input, r.note.Model)
	if err != nil {
		return m, err
	}
	if r.Import.Path != "" {
		m.held = judges(joined.Rollouts, max(r.note.Used, r.Import.Before-1), r.note.Parent, r.note.Model.Think)
	} else {
		m.training, m.held = cut(joined.Rollouts, judges(joined.Rollouts, r.note.Used, r.note.Parent, r.note.Model.Think), r.Gate.Held)
	}
	rep := &r.note.Report
	rep.Read, rep.Repeated, rep.Dropped = read, joined.Repeated, joined.Dropped
	rep.Training, rep.Held, rep.Users = len(m.training), len(m.held), users(m.training)
	if why := thoughtOtherwise(joined.Rollouts, r.note.Used, r.note.Parent, r.note.Model.Think); why != "" {
		return m, r.finish(NothingToLearn, why)
	}
	if r.Import.Path != "" {
		if len(m.held) == 0 {
			return m, r.finish(NothingToLearn, fmt.Sprintf("no decision since %s that the adapter was not learned from, that no gate has used, and that was made by what is current: the gate has nothing to go by", r.Import.Before))
		}
		return m, nil
	}
	if len(m.training) < r.Learn.Least || len(m.held) == 0 {
		return m, r.finish(NothingToLearn, fmt.Sprintf("%d decisions to learn from, and %d for the gate: want %d and some more", len(m.training), len(m.held), r.Learn.Least))
	}
	if err := r.learns(m.training); err != nil {
		return m, err
	}
	if r.note.Parent != "" {
		if m.parent, _, err = r.Store.Fetch(ctx, r.note.Parent, r.path(parentFolder)); err != nil {
			return m, fmt.Errorf("fetch the adapter to go on from: %w", err)
		}
	}
	return m, nil
}

// cut divides rollouts into those that teach and those held out: the newest share of those that can judge.
func cut(rollouts, judges []Rollout, share float64) (training, held []Rollout) {
	_, held = Split(judges, share)
	if len(held) == 0 {
		return rollouts, nil
	}
	return before(rollouts, held[0].Decision.Timestamp), held
}

// judges are the rollouts that a gate may go by: those that none has used, made by the adapter that is current, which thought
// for as long as it is served with.
func judges(rollouts []Rollout, used event.Time, parent string, think int) (out []Rollout) {
	for _, r := range rollouts {
		if r.Decision.Timestamp > used && r.Decision.Model.Adapter == parent && thought(r.Decision) == think {
			out = append(out, r)
		}
	}
	return out
}

// thought is how many tokens a decision's model was given to think before it answered; -1: some, which nobody wrote down.
func thought(d event.Decision) int {
	if d.Model.Think == 0 && len(d.Said) > 0 {
		return -1
	}
	return d.Model.Think
}

// thoughtOtherwise says why nothing judges where decisions would, but for how long the model thought; "": that is not why.
func thoughtOtherwise(rollouts []Rollout, used event.Time, parent string, think int) string {
	n, as := 0, 0
	for _, r := range rollouts {
		d := r.Decision
		if with := thought(d); d.Timestamp > used && d.Model.Adapter == parent && with >= 0 && with != think {
			n, as = n+1, with
		}
	}
	if n == 0 || len(judges(rollouts, used, parent, think)) > 0 {
		return ""
	}
	return fmt.Sprintf("%d decisions could judge, but they were made with --think %d (the newest), and this is for servers with --think %d: say --think as the servers do", n, as, think)
}

// before is the rollouts older than a time, of those in the order of time.
func before(rollouts []Rollout, at event.Time) []Rollout {
	n := 0
	for n < len(rollouts) && rollouts[n].Decision.Timestamp < at {
		n++
	}
	return rollouts[:n:n]
}

func users(rollouts []Rollout) int {
	seen := map[string]bool{}
	for _, r := range rollouts {
		seen[r.Decision.UserID] = true
	}
	return len(seen)
}

// learn makes the adapter's file, or goes on making it.
func (r *round) learn(ctx context.Context, m material) error {
	if there(r.path(adapterFile)) {
		return nil
	}
	if r.Import.Path != "" {
		raw, err := os.ReadFile(r.Import.Path)
		if err != nil {
			return fmt.Errorf("read what was learned elsewhere: %w", err)
		}
		return gguf.WriteFile(r.path(adapterFile), func(w io.Writer) error {
			_, err := w.Write(raw)
			return err
		})
	}
	q, err := FitClicks(m.training, Folds)
	if err != nil {
		return err
	}
	r.note.Report.Clicks = ClickReport{Error: q.Error, Constant: q.Constant, Means: q.Means}
	if r.note.Model.Think > 0 {
		return r.think(ctx, RewardedBy(m.training, q.Q), m.parent)
	}
	from := m.parent
	if choices := Choices(m.training); r.Learn.SFTSteps > 0 && len(choices) >= r.Learn.Batch {
		if from, err = r.fit(ctx, choices, from); err != nil {
			return err
		}
	}
	return r.improve(ctx, m.training, q.Q, from)
}

// fit is supervised fine-tuning on what was chosen; it returns the path of what came of it.
func (r *round) fit(ctx context.Context, choices []Example, from string) (string, error) {
	to := r.path(fittedFile)
	if there(to) {
		return to, nil
	}
	digest, err := Digest(choices)
	if err != nil {
		return "", err
	}
	l, err := r.learner(LearnerOptions{From: from, Seed: r.Seed, Steps: r.Learn.SFTSteps, Rate: r.Learn.SFTRate, Run: "fit " + digest, Note: "fitted on what was chosen"})
	if err != nil {
		return "", err
	}
	rep := &r.note.Report.Fitted
	if rep.Choices, rep.Steps = len(choices), r.Learn.SFTSteps; l.Steps() == 0 {
		*rep = FitReport{Choices: rep.Choices, Steps: rep.Steps}
	}
	err = Fit(ctx, l, choices, FitOptions{PromptVersion: r.note.Model.PromptVersion, Steps: r.Learn.SFTSteps, Batch: r.Learn.Batch, Seed: r.Seed, From: l.Steps(),
		Told: func(at lm.Progress) error {
			r.Told("fitting on what was chosen", at.Step, r.Learn.SFTSteps)
			rep.Skipped = at.Skipped
			if at.Changed() {
				rep.Last = at.Loss
				if at.Step-at.Skipped == 1 {
					rep.First = at.Loss
				}
			}
			return r.checkpoint(l, at.Step)
		}})
	if err != nil {
		return "", err
	}
	return to, r.finished(l, to)
}

// improve follows the policy gradient.
func (r *round) improve(ctx context.Context, training []Rollout, q [][]float64, from string) error {
	reference, err := r.Teacher.Open(from)
	if err != nil {
		return fmt.Errorf("open the policy that the round begins with: %w", err)
	}
	r.Told("asking the policy before the round", 0, 1)
	tasks, err := Prepare(ctx, reference, training, q, TaskOptions{})
	if err := errors.Join(err, reference.Close()); err != nil {
		return err
	}
	l, err := r.learner(LearnerOptions{From: from, Seed: r.Seed, Steps: r.Learn.Steps, Rate: r.Learn.Rate, Run: "improve " + r.note.Learns, Note: "learned from rewards"})
	if err != nil {
		return err
	}
	rep := &r.note.Report
	rep.Policy = rep.Policy[:min(len(rep.Policy), l.Steps())]
	begun, tokens := r.Now(), 0
	err = Improve(ctx, l, tasks, ImproveOptions{Steps: r.Learn.Steps, Batch: r.Learn.Batch, Beta: r.Learn.Beta, Seed: r.Seed, From: l.Steps(), Told: func(s Step) error {
		r.Told("following the policy gradient", s.Step, r.Learn.Steps)
		tokens += s.Tokens
		step := PolicyStep{Skipped: true}
		if s.Changed() {
			step = PolicyStep{Reward: s.Reward, KL: s.KL, Entropy: s.Entropy, Gradient: s.Gradient}
		}
		rep.Policy = append(rep.Policy, step)
		rep.Skipped = s.Skipped
		if took := r.Now().Sub(begun); took > 0 {
			rep.TokensPerSecond = float64(tokens) / took.Seconds()
		}
		return r.checkpoint(l, s.Step)
	}})
	if err != nil {
		return err
	}
	return r.finished(l, r.path(adapterFile))
}

// GateOptions say by what a new adapter is judged. The zero value of a field takes the default its comment states.
type GateOptions struct {
	Held   float64 // share of the unused decisions that is held out for the gate. Default .5
	Margin float64 // reward a decision by which the new adapter has to be better. Default 0
	Detect float64 // difference that is worth detecting: with too few decisions to see it the gate gives no answer. Default ope.DefaultDetect
}

func (o *GateOptions) fill() {
	setDefault(&o.Held, defaultHeld)
	setDefault(&o.Detect, ope.DefaultDetect)
}

func (o GateOptions) check() error {
	if !(o.Held > 0 && o.Held < 1) {
		return fmt.Errorf("round: the share of decisions for the gate is %v, must be between 0 and 1", o.Held)
	}
	return nil
}

// canaries of a manifest: how many.
const canaries = 20

// judge has the gate look at what was learned.
func (r *round) judge(ctx context.Context, m material) error {
	r.Told("the gate", 0, len(m.held))
	q, err := FitClicks(m.held, Folds)
	if err != nil {
		return err
	}
	adapter, err := r.Teacher.Open(r.path(adapterFile))
	if err != nil {
		return fmt.Errorf("open the new adapter: %w", err)
	}
	defer adapter.Close()
	if _, ok := thinks(adapter); ok != (r.note.Model.Think > 0) {
		return errors.New("the new adapter was opened to answer otherwise than servers have it answer: at once, or after a thought")
	}
	samples, change, err := Judge(ctx, adapter, m.held, q.Q, func(done, total int) { r.Told("the gate", done, total) })
	if err != nil {
		return err
	}
	found, err := Gate(m.held, samples, ope.GateOptions{Margin: r.Gate.Margin, Detect: r.Gate.Detect, Round: r.note.Gates + 1, Resampling: ope.Resampling{Seed: r.Seed}})
	if err != nil {
		return err
	}
	r.note.Report.Gate, r.note.Report.Change = &found.Found, &change
	if found.Verdict == ope.Underpowered {
		return r.finish(Underpowered, found.Reason)
	}
	base, err := r.Teacher.Open("")
	if err != nil {
		return fmt.Errorf("open the base model: %w", err)
	}
	defer base.Close()
	if r.note.Canaries, err = Canaries(ctx, r.note.Model.PromptVersion, m.held, base, adapter, canaries, func(done, total int) { r.Told("measuring canaries", done, total) }); err != nil {
		return err
	}
	if r.note.Adapter, err = fileDigest(r.path(adapterFile)); err != nil {
		return err
	}
	r.note.Passed, r.note.Reason, r.note.Gate = found.Verdict == ope.Passed, found.Reason, &found.Found
	return r.write()
}

// publish puts the file into the store and the verdict into the log. What is in the log already is not put there again.
func (r *round) publish(ctx context.Context) error {
	r.Told("publishing", 0, 1)
	report, err := r.note.Report.summary()
	if err != nil {
		return err
	}
	digest, err := r.Store.Put(ctx, r.path(adapterFile), adapters.Manifest{Digest: r.note.Adapter, Parent: r.note.Parent, Created: r.note.Began, Seed: r.Seed, Report: report, Canaries: r.note.Canaries})
	if err != nil {
		return fmt.Errorf("store the adapter: %w", err)
	}
	p := event.Promotion{Kind: event.Refuse, Adapter: digest, Parent: r.note.Parent, Base: r.note.Model.Digest, Readout: r.note.Model.Readout,
		Prompt: r.note.Model.PromptVersion, Think: r.note.Model.Think, Gate: r.note.Gate, Reason: r.note.Reason, Timestamp: event.At(r.Now())}
	if r.note.Passed {
		p.Kind, p.Share = event.Promote, r.Share
	}
	// The gate took the look that was next when the round began: where somebody else has taken one since, its share of the error
	// is spent.
	now, err := r.Log.State(ctx)
	if err != nil {
		return fmt.Errorf("read the log of adapters: %w", err)
	}
	if now.Used != r.note.Used {
		return r.finish(Waiting, "another gate has used decisions meanwhile")
	}
	state, counted, err := r.Log.Append(ctx, p)
	if err != nil {
		return fmt.Errorf("append to the log of adapters: %w", err)
	}
	void := ""
	if e := findIn(state, r.note); !counted && e != nil {
		void = e.Void
	}
	return r.settle(counted, void)
}

// settle is the end of a round whose verdict is in the log.
func (r *round) settle(counted bool, void string) error {
	r.note.Report.Adapter = r.note.Adapter
	switch {
	case !counted:
		return r.finish(Waiting, "somebody else was faster: "+void)
	case r.note.Passed:
		return r.finish(Promoted, r.note.Reason)
	}
	return r.finish(Refused, r.note.Reason)
}

// findIn is the log's entry about what a round judged; nil: there is none.
func findIn(state adapters.State, n note) *adapters.Entry {
	if n.Gate == nil {
		return nil
	}
	for i, e := range state.Entries {
		if p := e.Record; p.Gate != nil && p.Adapter == n.Adapter && p.Parent == n.Parent && *p.Gate == *n.Gate {
			return &state.Entries[i]
		}
	}
	return nil
}

// finish notes how the round ended.
func (r *round) finish(v Verdict, reason string) error {
	rep := &r.note.Report
	rep.Verdict, rep.Reason, rep.Ended = v, reason, event.At(r.Now())
	return r.write()
}

func fileDigest(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
