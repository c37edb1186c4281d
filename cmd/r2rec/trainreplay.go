package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/simulate"
	"github.com/r2rec/r2rec/rltrainer"
)

type trainReplayCommand struct {
	Events       string `help:"CSV of interactions: user_id,item_id,rating,timestamp in Unix seconds; an empty rating is a click. May be gzipped." required:"" type:"existingfile" placeholder:"FILE" group:"Data"`
	Items        string `help:"CSV of the catalogue: item_id,title,categories joined by |. May be gzipped." type:"existingfile" placeholder:"FILE" group:"Data"`
	FitBefore    string `help:"Learn from what happened before this time, Unix seconds or RFC 3339." required:"" placeholder:"TIME" group:"Data"`
	Cases        int    `help:"About how many cases to draw: moments at which a user chose, half of them among items drawn uniformly, half by popularity." default:"10000" group:"Data"`
	AdapterOut   string `help:"Write the adapter to this GGUF file." required:"" type:"path" placeholder:"FILE" group:"Data"`
	OnlyIfPassed bool   `help:"Write it only if it passes the gate; else what the supervised fine-tuning gave stays the best there is." group:"Data"`
	SFTOut       string `name:"sft-out" help:"Also write the adapter of the supervised fine-tuning, from which the recommending policy began." type:"path" placeholder:"FILE" group:"Data"`
	evalGraph    `embed:""`

	engineFlags   `embed:""`
	replayStages  `embed:""`
	replayThink   `embed:""`
	replayResults `embed:""`
}

// replayStages are what is learned, one after the other.
type replayStages struct {
	Rank    int      `help:"Rank of the adapter: how much it can learn, and how large it is." default:"8" group:"Learning"`
	Targets []string `help:"Layers to change: some of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down. Default: all." placeholder:"LAYER" group:"Learning"`
	Batch   int      `help:"Cases or decisions a step, of every stage." default:"64" group:"Learning"`
	Threads int      `help:"Cases worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed    uint64   `help:"Seed of everything that is drawn: cases, slates, users, order, the adapter's start." default:"1" group:"Learning"`

	SFTShare float64 `name:"sft-share" help:"The earliest share of the cases, whose answers are told: supervised fine-tuning." default:"${replay_sft_share}" group:"First, fine-tuning"`
	SFTSteps int     `name:"sft-steps" help:"Steps on them; 0: none, the policy that recommends is the model as it is." default:"${replay_sft_steps}" group:"First, fine-tuning"`
	SFTRate  float64 `name:"sft-rate" help:"Rate of learning: warmed up over 20 steps or a fifth of all, full up to 30 % of all, then falling to 3 % of itself." default:"${replay_sft_rate}" group:"First, fine-tuning"`

	Temperature float64 `help:"τ of the softmax from which the policy draws what it shows. Smaller: nearer to its best list." default:"1" group:"Then, recommending"`
	K           int     `help:"Items shown at once." default:"5" group:"Then, recommending"`
	Stays       float64 `help:"Probability that a user looks at the next item after one that was not clicked." default:".85" group:"Then, recommending"`
	Examination string  `help:"How far who clicks nothing is taken to have looked: habit, as --stays says, or cascade, to the end of the list, as r2rec consume takes it unless it is told (r2rec train examination)." enum:"habit,cascade" default:"habit" group:"Then, recommending"`

	ChoiceSteps int     `help:"Steps of supervised fine-tuning on what was clicked; 0: none." default:"${replay_choice_steps}" group:"Then, learning from clicks"`
	ChoiceRate  float64 `help:"Its rate of learning." default:"${replay_choice_rate}" group:"Then, learning from clicks"`
	Steps       int     `help:"Steps of the policy gradient." default:"${replay_steps}" group:"Then, learning from clicks"`
	Rate        float64 `help:"Its rate of learning." default:"${replay_rate}" group:"Then, learning from clicks"`
	Beta        float64 `help:"Weight of the KL divergence from the policy before: larger keeps nearer to it." default:"${replay_beta}" group:"Then, learning from clicks"`

	GateShare  float64 `help:"The last share of the decisions, by which the gate judges." default:".15" group:"At last, the gate"`
	GateMargin float64 `help:"Reward a decision by which the lower bounds must be above 0." default:"0" group:"At last, the gate"`
	GateDetect float64 `help:"Difference beyond the margin that is worth detecting: with too few decisions for it the answer is underpowered." default:".02" group:"At last, the gate"`
}

// replayVars are the defaults that were chosen on validation cases (docs/learning.md).
func replayVars() kong.Vars {
	return kong.Vars{
		"replay_sft_share": ".1", "replay_sft_steps": "50", "replay_sft_rate": "1.5e-3",
		"replay_choice_steps": "100", "replay_choice_rate": "1e-3",
		"replay_steps": "40", "replay_rate": "5e-4", "replay_beta": "2",
	}
}

// Help is shown by `r2rec train replay --help`.
func (trainReplayCommand) Help() string {
	return `Streams the events through a graph as a server would and draws cases from what happened before --fit-before, by the rule of
the evaluation. The model is fine-tuned on the earliest cases, whose answers it is told. At the later ones it only
recommends: lists are drawn, and the user of the case clicks what the real one chose next, if it is shown and looked at,
and nothing else. From these clicks it learns as r2rec train does: a click model of slot 1, fine-tuning on what was
clicked, and the policy gradient with doubly robust values and a KL divergence; and the gate judges by the last decisions.

  r2rec train replay --events events.csv --items items.csv --fit-before 1436920119 --adapter-out clicks.gguf
  r2rec eval --events events.csv --items items.csv --cases test.jsonl --ranker lm --adapter clicks.gguf

With --think and --from, an adapter that was taught to write thoughts, the policy says why before it answers, and learns its
thoughts by what their answers earned (r2rec lm think); there is no fine-tuning first.

--test measures before and after learning from clicks on cases with known answers, and --outcomes keeps each one's result,
for r2rec train compare over several data sets and seeds.`
}

func (c trainReplayCommand) Run(p *process) (err error) {
	before, err := c.check()
	if err != nil {
		return err
	}
	r := &replay{trainReplayCommand: c, p: p, before: before, shown: &stages{p: p}, begun: time.Now()}
	defer r.shown.close()
	if r.data, err = dataset.OpenFiles(c.Events, c.Items); err != nil {
		return err
	}
	if r.tests, err = c.readTests(before); err != nil {
		return err
	}
	if err := r.testsUntaught(); err != nil {
		return err
	}
	if r.base, err = c.engineFlags.open(thinking(engine.Options{Trainable: true}, c.Think)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.base.Close()) }()
	if r.who, err = r.base.Identity(p.ctx); err != nil {
		return err
	}
	if _, err := r.base.NewAdapter(engine.AdapterOptions{Rank: c.Rank, Targets: c.Targets}); err != nil { // told before anything takes time
		return misuse("--rank %d: %w", c.Rank, err)
	}
	if r.dir, err = os.MkdirTemp("", "r2rec-replay-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	return r.run()
}

// check finds what is wrong with the flags before anything takes time.
func (c trainReplayCommand) check() (event.Time, error) {
	before, err := parseMoment(c.FitBefore)
	if err != nil {
		return 0, misuse("--fit-before: %w", err)
	}
	if err := errors.Join(c.evalGraph.check(), wrong(checkCounts(count{"--cases", c.Cases, 1}, count{"--rank", c.Rank, 1}, count{"--k", c.K, 1},
		count{"--sft-steps", c.SFTSteps, 0}, count{"--choice-steps", c.ChoiceSteps, 0}, count{"--steps", c.Steps, 0}))); err != nil {
		return 0, err
	}
	for _, f := range []struct {
		name      string
		value     float64
		low, high float64
		want      string
	}{
		{"--sft-share", c.SFTShare, 0, .9, "a share from 0 to .9"},
		{"--gate-share", c.GateShare, .01, .9, "a share from .01 to .9"},
		{"--stays", c.Stays, math.SmallestNonzeroFloat64, 1, "a probability above 0 and up to 1"},
		{"--temperature", c.Temperature, .01, 100, ".01 to 100"},
		{"--beta", c.Beta, math.SmallestNonzeroFloat64, math.MaxFloat64, "more than 0: without a divergence the policy becomes overconfident"},
		{"--gate-detect", c.GateDetect, math.SmallestNonzeroFloat64, math.MaxFloat64, "more than 0"},
	} {
		if !(f.value >= f.low && f.value <= f.high) {
			return 0, misuse("%s %v: want %s", f.name, f.value, f.want)
		}
	}
	if err := c.replayThink.check(c.engineFlags); err != nil {
		return 0, err
	}
	if c.Think == 0 && c.Steps+c.ChoiceSteps == 0 {
		return 0, misuse("--steps 0, --choice-steps 0: nothing would be learned from clicks; r2rec lm tune only fine-tunes")
	}
	if c.SFTOut != "" && (c.Think > 0 || c.SFTSteps == 0 || c.SFTShare == 0) {
		return 0, misuse("--sft-out: there is no fine-tuning with --sft-steps 0, --sft-share 0 or --think; leave out one of them")
	}
	for _, s := range []struct {
		steps int
		rate  float64
	}{{c.SFTSteps, c.SFTRate}, {c.ChoiceSteps, c.ChoiceRate}, {c.Steps, c.Rate}} {
		l := learning{steps: max(1, s.steps), batch: c.Batch, threads: c.Threads, rate: s.rate, out: c.AdapterOut, outFlag: "--adapter-out",
			checkpointFlags: checkpointFlags{CheckpointEvery: 1}}
		if err := l.check(); err != nil {
			return 0, err
		}
	}
	for flag, file := range map[string]string{"--sft-out": c.SFTOut, "--report": c.replayResults.Report, "--outcomes": c.Outcomes} {
		if file == "" {
			continue
		}
		if file == c.AdapterOut {
			return 0, misuse("%s %s: --adapter-out is to be written there", flag, file)
		}
		if err := checkWritable(flag, file); err != nil {
			return 0, err
		}
	}
	if c.Outcomes != "" && len(c.Test) == 0 {
		return 0, misuse("--outcomes: nothing is measured without --test")
	}
	return before, nil
}

// replay is one run.
type replay struct {
	trainReplayCommand
	p      *process
	before event.Time
	shown  *stages
	begun  time.Time
	data   *dataset.Dataset
	tests  []testCases
	base   *engine.Model // without an adapter
	who    event.Model
	dir    string

	report rltrainer.Learned
}

func (r *replay) run() error {
	cases, examples, err := r.cases()
	if err != nil {
		return err
	}
	sft, n := r.From, int(math.Round(r.SFTShare*float64(len(cases))))
	if r.Think > 0 { // what would be fitted first are answers at once
		n = 0
	}
	if r.SFTSteps > 0 && n > 0 {
		sft, err = r.teach("fine-tuning", "", r.SFTSteps, r.SFTRate, "supervised fine-tuning", func(l *engine.Learner, told func(int, int)) error {
			return rltrainer.Fit(r.p.ctx, l, examples[:n], r.fitOptions(r.SFTSteps, told))
		})
		if err != nil {
			return err
		}
	}
	before, err := r.openWith(sft)
	if err != nil {
		return err
	}
	defer before.Close()
	learnFrom, held, err := r.recommend(before, cases[n:], examples[n:])
	if err != nil {
		return err
	}
	clicked, err := r.learn(before, sft, learnFrom)
	if err != nil {
		return err
	}
	after, err := r.openWith(clicked)
	if err != nil {
		return err
	}
	defer after.Close()
	if err := r.judge(after, held); err != nil {
		return err
	}
	if err := r.write(sft, clicked); err != nil {
		return err
	}
	return r.results(before, after)
}

// cases in the order of time, and what the graph knew when they were asked. Those to measure by are asked along the way.
func (r *replay) cases() ([]eval.Case, []rltrainer.Example, error) {
	cases, err := drawCases(r.data, r.FitBefore, r.before, r.Cases, r.Seed)
	if err != nil {
		return nil, nil, err
	}
	if cases, err = r.untaught(cases); err != nil {
		return nil, nil, err
	}
	all := slices.Clone(cases)
	for i, t := range r.tests {
		for _, k := range t.cases {
			k.ID = fmt.Sprintf("test-%d-%s", i, k.ID)
			all = append(all, k)
		}
	}
	examples, err := r.evalGraph.ask(r.p, r.shown, r.data, all, r.before, r.who)
	if err != nil {
		return nil, nil, err
	}
	r.shown.close()
	r.p.log.Info("cases asked", "cases", len(cases), "before", r.before.String(), "to_measure_by", len(all)-len(cases), "took", time.Since(r.begun).Round(time.Second))
	rest := examples[len(cases):]
	for i := range r.tests {
		r.tests[i].examples, rest = rest[:len(r.tests[i].cases)], rest[len(r.tests[i].cases):]
	}
	return cases, examples[:len(cases)], nil
}

func (r *replay) openWith(adapter string) (*engine.Model, error) {
	return r.engineFlags.open(thinking(engine.Options{Adapter: adapter}, r.Think))
}

func (r *replay) fitOptions(steps int, told func(int, int)) rltrainer.FitOptions {
	return rltrainer.FitOptions{PromptVersion: r.who.PromptVersion, Steps: steps, Batch: r.Batch, Seed: r.Seed, Told: toldOf(steps, told)}
}

// teach makes an adapter that goes on from another (empty: from none) and gives its file.
func (r *replay) teach(what, from string, steps int, rate float64, note string, learn func(*engine.Learner, func(done, total int)) error) (string, error) {
	l := learning{steps: steps, threads: r.Threads, rate: rate}
	o := engine.AdapterOptions{From: from, Seed: r.Seed, Note: fmt.Sprintf("%s, replayed before %s", note, r.before), Learn: l.options(""),
		LearnedEvents: event.PastOf(r.data.Interactions(), r.before)}
	if from == "" {
		o.Rank, o.Targets = r.Rank, r.Targets
	}
	learner, err := r.base.NewAdapter(o)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	if err := learn(learner, func(done, total int) { r.shown.set(what, done, total) }); err != nil {
		return "", err
	}
	r.shown.close()
	r.p.log.Info(what, "steps", steps, "skipped", learner.Trainer().Skipped(), "took", time.Since(begun).Round(time.Second))
	path := filepath.Join(r.dir, fmt.Sprintf("%s.gguf", what))
	return path, gguf.WriteFile(path, learner.Write)
}

// recommend has the policy meet the users of the cases, and gives the decisions to learn from and the later ones to
// judge by.
func (r *replay) recommend(policy *engine.Model, cases []eval.Case, examples []rltrainer.Example) (learnFrom, held []rltrainer.Rollout, err error) {
	who, err := policy.Identity(r.p.ctx)
	if err != nil {
		return nil, nil, err
	}
	decisions, rewards, err := rltrainer.Replay(r.p.ctx, cases, examples, rltrainer.ReplayOptions{Stays: r.Stays, Cascade: r.Examination == "cascade", Seed: r.Seed,
		Service: simulate.Service{Model: policy, Identity: who, Temperature: r.Temperature, K: r.K}, Told: func(done, total int) { r.shown.set("recommending", done, total) }})
	if err != nil {
		return nil, nil, err
	}
	r.shown.close()
	j := rltrainer.Join(decisions, rewards, rltrainer.JoinOptions{Model: who})
	learnFrom, held = rltrainer.Split(j.Rollouts, r.GateShare)
	if len(learnFrom) == 0 || len(held) == 0 {
		return nil, nil, fmt.Errorf("%d decisions are too few to learn from and to judge by: want more --cases, or a smaller --sft-share", len(decisions))
	}
	r.report = rltrainer.Learned{Rollouts: len(learnFrom), Held: len(held), Dropped: j.Dropped, Repeated: j.Repeated, Orphans: j.Orphans,
		Choices: len(rltrainer.Choices(learnFrom))}
	r.p.log.Info("recommended", "decisions", len(decisions), "learn_from", len(learnFrom), "judge_by", len(held), "clicked", r.report.Choices)
	return learnFrom, held, nil
}

// learn is the round: it gives the file of the adapter that came of it.
func (r *replay) learn(before *engine.Model, from string, learnFrom []rltrainer.Rollout) (string, error) {
	if r.Think > 0 {
		return r.learnThoughts(from, learnFrom)
	}
	begun := time.Now()
	var err error
	if r.ChoiceSteps > 0 {
		from, err = r.teach("learning choices", from, r.ChoiceSteps, r.ChoiceRate, "supervised fine-tuning on what was clicked", func(l *engine.Learner, told func(int, int)) error {
			return rltrainer.Fit(r.p.ctx, l, rltrainer.Choices(learnFrom), r.fitOptions(r.ChoiceSteps, told))
		})
		if err != nil {
			return "", err
		}
		reference, err := r.openWith(from)
		if err != nil {
			return "", err
		}
		defer reference.Close()
		before = reference
	}
	if r.report.Clicks, err = rltrainer.FitClicks(learnFrom, rltrainer.Folds); err != nil {
		return "", err
	}
	tasks, err := rltrainer.Prepare(r.p.ctx, before, learnFrom, r.report.Clicks.Q, rltrainer.TaskOptions{})
	if err != nil {
		return "", err
	}
	if r.report.Before, err = rltrainer.MeasurePolicy(r.p.ctx, before, tasks); err != nil {
		return "", err
	}
	r.report.After = r.report.Before
	if r.Steps == 0 {
		return from, nil
	}
	path, err := r.teach("learning rewards", from, r.Steps, r.Rate, "policy gradient on what was clicked", func(l *engine.Learner, told func(int, int)) error {
		return rltrainer.Improve(r.p.ctx, l, tasks, rltrainer.ImproveOptions{Steps: r.Steps, Batch: r.Batch, Beta: r.Beta, Seed: r.Seed, Told: func(s rltrainer.Step) error {
			told(s.Step, r.Steps)
			if s.Changed() {
				r.report.Steps = append(r.report.Steps, s)
			}
			r.report.Tokens += s.Tokens
			return nil
		}})
	})
	if err != nil {
		return "", err
	}
	r.report.Seconds = time.Since(begun).Seconds()
	after, err := r.openWith(path)
	if err != nil {
		return "", err
	}
	defer after.Close()
	r.report.After, err = rltrainer.MeasurePolicy(r.p.ctx, after, tasks)
	return path, err
}

func (r *replay) judge(after *engine.Model, held []rltrainer.Rollout) error {
	q, err := rltrainer.FitClicks(held, rltrainer.Folds)
	if err != nil {
		return err
	}
	samples, change, err := rltrainer.Judge(r.p.ctx, after, held, q.Q, func(done, total int) { r.shown.set("judging", done, total) })
	if err != nil {
		return err
	}
	j, err := rltrainer.Gate(held, samples, ope.GateOptions{Margin: r.GateMargin, Detect: r.GateDetect, Resampling: ope.Resampling{Seed: r.Seed}})
	if err != nil {
		return err
	}
	r.report.Gate, r.report.Change = &j, &change
	r.p.log.Info("gate", "verdict", j.Verdict, "reason", j.Reason)
	return nil
}
