package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/rltrainer"
)

// decisions are questions that a server was asked.
type decisions struct {
	Decisions  bool          `help:"Learn from decisions and rewards in Kafka, not from past events." group:"Data"`
	Staleness  time.Duration `help:"Decisions older than this are left out." default:"720h" group:"Data"`
	Held       float64       `help:"Share of the decisions, the newest, that is not learned from, so that what was learned can be judged by them." default:"0.2" group:"Data"`
	kafkaFlags `embed:""`
}

func (c lmThinkCommand) checkQuestions() error {
	switch {
	case !c.Decisions:
		cases, err := c.wanted()
		if err != nil {
			return err
		}
		return cases.check()
	case c.Events != "" || c.Items != "" || c.FitBefore != "":
		return misuse("--decisions: the questions are read from Kafka; --events, --items and --fit-before are about past events")
	case !(c.Held > 0 && c.Held < 1):
		return misuse("--held %v: want more than 0, and less than 1", c.Held)
	}
	return nil
}

// questions are of past events or of decisions, all from before a time; of past events it tells which they are.
func (c lmThinkCommand) questions(p *process, shown *stages, who event.Model) (q []rltrainer.Question, before event.Time, learned event.Past, err error) {
	if !c.Decisions {
		past := pastCases(c.pastCasesIfWanted)
		data, before, cases, err := past.drawn(c.Seed)
		if err != nil {
			return nil, 0, learned, err
		}
		examples, err := past.examples(p, shown, data, before, cases, who)
		if err != nil {
			return nil, 0, learned, err
		}
		q, err = rltrainer.Questions(examples)
		return q, before, event.PastOf(data.Interactions(), before), err
	}
	kc, err := readKafka(p, c.kafkaFlags, broker.Decisions, broker.Rewards, broker.Users)
	if err != nil {
		return nil, 0, learned, err
	}
	defer kc.Close()
	shown.set("reading decisions and rewards", 0, 1)
	in, err := c.input(p, history{kc})
	if err != nil {
		return nil, 0, learned, err
	}
	q, rep, err := rltrainer.Rewarded(p.ctx, rltrainer.ExportOptions{History: history{kc}, Model: who, Held: c.Held, Input: &in})
	shown.close()
	if err == nil && len(q) == 0 {
		err = fmt.Errorf("no decision to learn from: %s", rep.Why())
	}
	if err != nil {
		return nil, 0, learned, err
	}
	p.log.Info("decisions read", "decisions", rep.Rollouts, "users", rep.Users, "before", rep.Before.String(), "held", rep.Held, "left_out", rep.Why())
	return q, rep.Before, learned, nil
}

// thinkInput is what a run with a checkpoint learns from, kept beside it: decisions and rewards that have come since would make
// it another run.
type thinkInput struct {
	rltrainer.Input
	Staleness string `json:"staleness"` // that it was begun with
}

// inputFile is where it is kept; "" without a checkpoint.
func (c lmThinkCommand) inputFile() string {
	if c.Checkpoint == "" || !c.Decisions {
		return ""
	}
	return c.Checkpoint + ".input"
}

// input is what the run that goes on was begun with, or what is there now.
func (c lmThinkCommand) input(p *process, past rltrainer.History) (rltrainer.Input, error) {
	file := c.inputFile()
	if file != "" {
		if _, err := os.Stat(c.Checkpoint); err == nil {
			return c.keptInput(file)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return rltrainer.Input{}, fmt.Errorf("--checkpoint: %w", err)
		}
	}
	in, err := rltrainer.InputOf(p.ctx, past, c.Staleness, time.Now())
	if err != nil || file == "" {
		return in, err
	}
	raw, err := json.Marshal(thinkInput{in, c.Staleness.String()})
	if err != nil {
		return in, err
	}
	err = gguf.WriteFile(file, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return in, fmt.Errorf("--checkpoint: %w", err)
	}
	return in, nil
}

func (c lmThinkCommand) keptInput(file string) (rltrainer.Input, error) {
	var kept thinkInput
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, &kept)
	}
	switch {
	case err != nil:
		return kept.Input, fmt.Errorf("--checkpoint %s: what its run learns from is not known: %w; remove the checkpoint to begin anew", c.Checkpoint, err)
	case kept.Staleness != c.Staleness.String():
		return kept.Input, fmt.Errorf("--staleness %s: the run of --checkpoint %s was begun with %s; remove the checkpoint to begin anew", c.Staleness, c.Checkpoint, kept.Staleness)
	}
	return kept.Input, nil
}
