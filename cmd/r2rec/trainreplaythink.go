package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// replayThink has the policy of a replay think before it answers.
type replayThink struct {
	Think        int    `help:"Tokens of the thought that the policy writes before it answers, at most; 0: it answers at once." placeholder:"TOKENS" group:"Model"`
	From         string `help:"With --think: adapter that was taught to write thoughts (r2rec lm tune --texts, r2rec lm think), from which the policy begins. Cases whose answers it was taught are left out." type:"existingfile" placeholder:"FILE" group:"Model"`
	thoughtFlags `embed:""`
}

func (f replayThink) check(of engineFlags) error {
	if f.From != "" && f.Think == 0 {
		return misuse("--from goes with --think: without thoughts the policy begins with fine-tuning on the earliest cases")
	}
	return wrong(errors.Join(thinkFlag{f.Think}.check(servedFlags(of)), f.thoughtFlags.check()))
}

// schooled is what --from was learned from.
func (f replayThink) schooled() schooling {
	s := schooling{who: "--from " + f.From, level: slog.LevelWarn}
	if f.From != "" {
		if _, says, err := adapterSays(f.From); err == nil { // otherwise who opens it says what is wrong
			s.learned = says.LearnedEvents
		}
	}
	return s
}

// testsUntaught refuses test cases whose answers --from was taught.
func (r *replay) testsUntaught() error {
	var cases []eval.Case
	for _, t := range r.tests {
		cases = append(cases, t.cases...)
	}
	if _, why := r.schooled().taught(r.p, r.data, cases); why != "" {
		return misuse("--test: %s; measure by what happened from then on, or begin from an adapter of an earlier --fit-before", why)
	}
	return nil
}

// untaught are the cases whose answers --from was not taught, the later ones: as after fine-tuning, the policy recommends where it
// does not know what was chosen.
func (r *replay) untaught(cases []eval.Case) ([]eval.Case, error) {
	n, why := r.schooled().taught(r.p, r.data, cases)
	switch {
	case n == len(cases):
		return nil, misuse("%s; replay what happened later, too, by a later --fit-before, or begin from an adapter of an earlier one", why)
	case n > 0:
		r.p.log.Info("cases whose answers --from was taught are left out", "cases", n, "left", len(cases)-n)
	}
	return cases[n:], nil
}

// learnThoughts is the round of a policy that thinks.
func (r *replay) learnThoughts(from string, learnFrom []rltrainer.Rollout) (path string, err error) {
	begun := time.Now()
	if r.report.Clicks, err = rltrainer.FitClicks(learnFrom, rltrainer.Folds); err != nil {
		return "", err
	}
	reference, err := r.openWith(from)
	if err != nil {
		return "", err
	}
	defer reference.Close()
	if from == "" {
		r.p.log.Warn("most models write nothing that can be rewarded before they were taught to: r2rec lm tune --texts teaches one, --from begins with it")
	}
	questions := rltrainer.RewardedBy(learnFrom, r.report.Clicks.Q)
	path, err = r.teach("learning to think", from, r.ThinkSteps, r.ThinkRate, "thoughts rewarded by what was clicked", func(l *engine.Learner, told func(int, int)) error {
		return rltrainer.Think(r.p.ctx, thinkingLearner{l, l.Writer()}, reference, questions, rltrainer.ThinkOptions{Steps: r.ThinkSteps, Batch: r.ThinkBatch, Group: r.ThinkGroup,
			Beta: r.ThinkBeta, MostTokens: r.Think, Workers: r.Threads, Seed: r.Seed, Told: func(s rltrainer.ThinkStep) error {
				told(s.Step, r.ThinkSteps)
				r.report.Thoughts = append(r.report.Thoughts, s.Report())
				r.report.Tokens += s.Tokens
				return nil
			}})
	})
	r.report.Seconds = time.Since(begun).Seconds()
	return path, err
}

// printThoughts shows the round for people.
func (r *replay) printThoughts() error {
	o, g := r.report, r.report.Gate
	first, last := rltrainer.Report{Thoughts: o.Thoughts}.SmoothedThoughts()
	_, err := fmt.Fprintf(r.p.stdout, `%d decisions to learn from, %d of them clicked; %d later ones to judge by
click model: squared error %.4f, of the mean alone %.4f
thoughts: %d steps, replies earn %.4f at first and %.4f at last, their answers %.4f and %.4f; %.4f nats a token apart, %.0f %% of the lines grounded
gate: %s: %s
`, o.Rollouts, o.Choices, o.Held, o.Clicks.Error, o.Clicks.Constant, len(o.Thoughts), first.Reward, last.Reward, first.Worth, last.Worth, last.KL, 100*last.Grounded, g.Verdict, g.Reason)
	return err
}
