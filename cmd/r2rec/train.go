package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// trainCommand are the commands by which the model learns from what became of its own recommendations.
type trainCommand struct {
	Round       trainRoundCommand       `cmd:"" default:"withargs" help:"Learn from the newest rewards (what r2rec train does without a further word)."`
	Export      trainExportCommand      `cmd:"" help:"Write what a round would learn from, for a trainer elsewhere."`
	Examination trainExaminationCommand `cmd:"" help:"Estimate how far users look down a list, from lists that were drawn."`
	Replay      trainReplayCommand      `cmd:"" help:"Go through the whole loop on a data set of the past: fine-tune, recommend, be clicked, learn, judge."`
	Compare     trainCompareCommand     `cmd:"" help:"Say what learning from clicks was worth in several runs of train replay together."`
}

// Help is shown by `r2rec train --help`.
func (trainCommand) Help() string {
	return `r2rec train --once is one round of learning from the newest rewards, for cron; r2rec train --every 1h is the same as a
process. r2rec train round --help has the flags and the exit codes.`
}

type trainRoundCommand struct {
	Once  bool          `help:"One round, and an exit code that says how it ended: for cron." xor:"when" group:"Round"`
	Every time.Duration `help:"A round, then another after so much time, such as 1h, until stopped." placeholder:"DURATION" xor:"when" group:"Round"`
	Dir   string        `help:"Where a round's files and the reports stand, so that a killed round goes on. Default: r2rec/train in $XDG_STATE_HOME, or in ~/.local/state." env:"R2REC_TRAIN_DIR" type:"path" placeholder:"DIR" group:"Round"`
	JSON  bool          `help:"Print the report as JSON." group:"Round"`

	roundFlags   `embed:""`
	thoughtFlags `embed:""`
	rollOutFlags `embed:""`
	adapterFlags `embed:""`
	servedFlags  `embed:""`
	thinkFlag    `embed:""`
	kafkaFlags   `embed:""`
	redisFlags   `embed:""`
}

// roundFlags say how a round learns and judges.
type roundFlags struct {
	Share           float64       `help:"Share of the users who get a promoted adapter first; 1: all at once." default:"0.1" env:"R2REC_ROLLOUT_SHARE" group:"Round"`
	Staleness       time.Duration `help:"Decisions older than this are left out." default:"720h" group:"Round"`
	Least           int           `help:"Decisions to learn from, at least." default:"500" group:"Round"`
	Held            float64       `help:"Share of the unused decisions, the newest, that is held out for the gate." default:"0.5" group:"Round"`
	Margin          float64       `help:"Reward a decision by which a new adapter has to be better." default:"0" group:"Round"`
	Detect          float64       `help:"Difference in reward that is worth detecting: with too few decisions to see it the gate gives no answer." default:"0.02" group:"Round"`
	FitSteps        int           `help:"Steps of fitting on what was chosen, before the policy gradient; 0: none." default:"100" group:"Learning"`
	FitRate         float64       `help:"Its rate of learning." default:"1e-3" group:"Learning"`
	Steps           int           `help:"Steps of the policy gradient." default:"40" group:"Learning"`
	Rate            float64       `help:"Its rate of learning: warmed up, full up to 30 % of all steps, then falling to 3 % of itself." default:"5e-4" group:"Learning"`
	Batch           int           `help:"Decisions a step." default:"64" group:"Learning"`
	Beta            float64       `help:"Weight of the KL divergence from the policy before the round: larger keeps nearer to it. Where the model is far from what users want, such as in a new kind of shop, .1 to .5 goes faster." default:"2" group:"Learning"`
	CheckpointEvery int           `help:"Steps between two writings of what a killed round goes on from." default:"25" group:"Learning"`
	Rank            int           `help:"Rank of a first adapter; later ones keep it." default:"8" group:"Learning"`
	Threads         int           `help:"Decisions worked on at once. The weights depend on it, as on the seed." default:"2" group:"Learning"`
	Seed            uint64        `help:"Seed of what is drawn." default:"1" group:"Learning"`
}

// Exit codes of a round, beside 0 for a promotion, exitStopped, 1 for a failure and 2 for wrong usage.
const (
	exitRefused        = 10
	exitUnderpowered   = 11
	exitNothingToLearn = 12
	exitWaiting        = 13
)

var exitCodes = map[rltrainer.Verdict]int{
	rltrainer.Refused: exitRefused, rltrainer.Underpowered: exitUnderpowered, rltrainer.NothingToLearn: exitNothingToLearn, rltrainer.Waiting: exitWaiting,
}

// Help is shown by `r2rec train --help`.
func (trainRoundCommand) Help() string {
	return `Turns rewards into a new LoRA adapter. A round takes the decisions that explored and were shown, rebuilds the very
prompts, fits a click model, fine-tunes on what was chosen, follows the policy gradient (doubly robust, with a KL
divergence from the policy before), and lets an off-policy gate decide by decisions that nobody learned from. What
passes goes to the store and to the log of adapters; servers that follow it swap, for a share of the users
first. With --think, for servers that have the model think before it answers, it learns what to say instead (r2rec lm think),
and is judged by its own thoughts. Where a roll-out is under way, its rewards are looked at first: they may end it. A killed round goes on
where it stood.

  r2rec train --once          one round, for cron; the exit code says how it ended
  r2rec train --every 1h      the same as a process

Exit codes: 0 promoted, 10 refused by the gate, 11 too few decisions to tell, 12 nothing to learn yet, 13 waiting for a
roll-out or for another trainer, 130 stopped before its end (the next command goes on), 1 failed, 2 wrong usage.`
}

func (c trainRoundCommand) endless() bool { return c.Every > 0 }

func (c trainRoundCommand) Run(p *process) error {
	if !c.Once && c.Every <= 0 {
		return misuse("say --once, or --every with a time such as 1h")
	}
	if err := errors.Join(c.roundFlags.check(), c.thoughtFlags.check(), c.thinkFlag.check(c.servedFlags), c.rollOutFlags.check()); err != nil {
		return wrong(err)
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	t, err := newTeacher(p.ctx, thinking(engine.Options{Path: c.Model, Readout: engine.Readout(c.Readout), PromptVersion: c.Prompt}, c.Think), engine.AdapterOptions{Rank: c.Rank}, c.Threads)
	if err != nil {
		return err
	}
	defer t.Close()
	kc, err := connectKafka(p, c.kafkaFlags)
	if err != nil {
		return err
	}
	defer kc.Close()
	rdb, err := c.redisFlags.client(p.ctx)
	if err != nil {
		return err
	}
	defer rdb.Close()
	store, err := c.adapterFlags.store(p.ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	log, err := adapterLog(p, kc)
	if err != nil {
		return err
	}
	defer log.Close()
	c.warnUnnamed(p)
	shown := &stages{p: p}
	defer shown.close()
	o := c.roundFlags.options()
	if c.Think > 0 {
		o.Learn.Thoughts = c.thoughtFlags.options()
	}
	o.Dir, o.History, o.Store, o.Teacher = dir, history{kc}, store, t
	o.Log = log
	o.Logger, o.Now, o.Told = p.log, time.Now, shown.set
	lease := adapters.LeaseOptions{Client: rdb, Key: c.Prefix + "train", TTL: leaseTime, Logger: p.log}
	watch := rollOuts{rollOutFlags: c.rollOutFlags, kafka: kc, log: log, now: time.Now, to: p.log}
	for {
		var report *rltrainer.Report
		err := watch.look(p.ctx)
		if err == nil {
			report, err = leasedRound(p.ctx, lease, o)
		}
		shown.close()
		if err == nil {
			err = c.print(p, dir, report)
		}
		switch {
		case c.Once && err != nil:
			return err
		case c.Once:
			return exitWith(exitCodes[report.Verdict])
		case p.ctx.Err() != nil:
			return p.ctx.Err()
		case err != nil:
			p.log.Error("a round failed, the next one goes on", "error", err, "in", c.Every)
		}
		next := time.NewTimer(c.Every)
		select {
		case <-next.C:
		case <-p.ctx.Done():
			next.Stop()
			return p.ctx.Err()
		}
	}
}

// leaseTime is how long a trainer that died keeps others waiting.
const leaseTime = 30 * time.Second

// leasedRound is a round that others wait for. It needs no lease to be right, so that one that is lost only ends it early.
func leasedRound(ctx context.Context, o adapters.LeaseOptions, round rltrainer.RoundOptions) (*rltrainer.Report, error) {
	lease, err := adapters.TakeLease(ctx, o)
	if errors.Is(err, adapters.ErrLeased) {
		return &rltrainer.Report{Verdict: rltrainer.Waiting, Reason: "another trainer is at work: " + err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	report, err := rltrainer.RunRound(lease.Lost(), round)
	if cause := context.Cause(lease.Lost()); err != nil && cause != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if released := lease.Release(context.WithoutCancel(ctx)); released != nil {
		round.Logger.Warn("the lease of trainers runs out by itself", "error", released)
	}
	return report, err
}

// dir is where rounds stand: each log of adapters, by its topic's prefix, has its own.
func (c trainRoundCommand) dir() (string, error) {
	if c.Dir != "" {
		return c.Dir, nil
	}
	dir, err := stateFolder("train" + c.TopicPrefix)
	if err != nil {
		return "", fmt.Errorf("--dir is not given, and %w", err)
	}
	return dir, nil
}

// check finds what makes no sense.
func (f roundFlags) check() error {
	return errors.Join(
		checkCounts(count{"--least", f.Least, 1}, count{"--fit-steps", f.FitSteps, 0}, count{"--steps", f.Steps, 1}, count{"--batch", f.Batch, 1},
			count{"--checkpoint-every", f.CheckpointEvery, 1}, count{"--rank", f.Rank, 1}, count{"--threads", f.Threads, 1}),
		checkShare(f.Share), checkMaterial(f.Held, f.Staleness),
		checkAmounts(amount{"--detect", f.Detect}, amount{"--fit-rate", f.FitRate}, amount{"--rate", f.Rate}, amount{"--beta", f.Beta}))
}

// checkMaterial checks which decisions are learned from, and which are left to the gate.
func checkMaterial(held float64, staleness time.Duration) error {
	switch {
	case !(held > 0 && held < 1):
		return misuse("--held %v: want more than 0, and less than 1", held)
	case staleness <= 0:
		return misuse("--staleness %v: want some time", staleness)
	}
	return nil
}

func (f roundFlags) options() rltrainer.RoundOptions {
	fit := f.FitSteps
	if fit == 0 {
		fit = -1
	}
	return rltrainer.RoundOptions{
		Learn: rltrainer.LearnOptions{Staleness: f.Staleness, Least: f.Least, SFTSteps: fit, SFTRate: f.FitRate, Steps: f.Steps, Rate: f.Rate, Batch: f.Batch, Beta: f.Beta, Checkpoint: f.CheckpointEvery},
		Gate:  rltrainer.GateOptions{Held: f.Held, Margin: f.Margin, Detect: f.Detect},
		Share: f.Share, Seed: f.Seed,
	}
}

func (c trainRoundCommand) print(p *process, dir string, r *rltrainer.Report) error {
	if c.JSON {
		e := json.NewEncoder(p.stdout)
		return e.Encode(r)
	}
	return printRound(p.stdout, dir, r)
}
