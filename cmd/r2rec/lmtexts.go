package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// tuneTexts fits an adapter on completions of prompts.
func (c lmTuneCommand) tuneTexts(p *process, l learning) (err error) {
	if c.Events != "" || c.Items != "" || c.FitBefore != "" {
		return misuse("--texts says all that is learned: leave out --events, --items and --fit-before")
	}
	texts, learned, digest, err := readTexts(c.Texts)
	if err != nil {
		return fmt.Errorf("--texts: %w", err)
	}
	model, err := c.engineFlags.open(engine.Options{Trainable: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	who, err := model.Identity(p.ctx)
	if err != nil {
		return err
	}
	learner, err := model.NewAdapter(engine.AdapterOptions{Rank: c.Rank, Alpha: c.Alpha, Targets: c.Targets, Seed: c.Seed,
		Note: "supervised fine-tuning on the texts of " + filepath.Base(c.Texts), LearnedEvents: learned,
		Learn: l.options(fmt.Sprintf("lm tune --texts %.12s --steps %d --batch %d --alpha %v --seed %d, model %.12s, read by %s of prompt %d",
			digest, c.Steps, c.Batch, c.Alpha, c.Seed, who.Digest, who.Readout, who.PromptVersion))})
	if err != nil {
		return misuse("--rank %d, --alpha %v: %w", c.Rank, c.Alpha, err)
	}
	lessons, longest := make([]lm.TextLesson, len(texts)), 0
	for i, t := range texts {
		lessons[i] = lm.TextLesson{Text: t.Prompt, Continuations: []lm.Continuation{{Tokens: learner.Completion(t.Completion)}}}
		tokens := len(lessons[i].Continuations[0].Tokens)
		if err := learner.Check(t.Prompt, tokens); err != nil {
			return fmt.Errorf("--texts %s, text %d: %w: leave it out or shorten it", c.Texts, i+1, err)
		}
		longest = max(longest, tokens)
	}
	p.log.Info("texts read", "file", c.Texts, "texts", len(texts), "longest_completion", longest)
	shown := &stages{p: p}
	defer shown.close()
	if err := l.run(p, shown, learner, func(ctx context.Context, from int, told func(lm.Progress) error) error {
		return rltrainer.FitTexts(ctx, learner, lessons, rltrainer.FitOptions{Steps: l.steps, Batch: l.batch, Seed: l.seed, From: from, Told: told})
	}, nil); err != nil {
		return err
	}
	p.log.Info("adapter written", "file", c.AdapterOut, "model", who.Name)
	return nil
}

// promptAndCompletion is a line of --texts.
type promptAndCompletion struct {
	Prompt     string `json:"prompt"`
	Completion string `json:"completion"`

	LearnedEvents event.Past `json:"learned_events"` // that it is of, where it says so, as r2rec lm traces writes it
}

// longestLine bounds a line of --texts.
const longestLine = 4 << 20

// readTexts reads a file whole, and of which past events its texts are: of several, those that reach furthest. The error names
// the line, and what in it is missing or wrong.
func readTexts(path string) (texts []promptAndCompletion, learned event.Past, digest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, learned, "", err
	}
	defer f.Close()
	sum := sha256.New()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, longestLine)
	n := 0
	for lines.Scan() {
		n++
		if len(lines.Bytes()) == 0 {
			continue
		}
		sum.Write(append(lines.Bytes(), '\n'))
		var t promptAndCompletion
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return nil, learned, "", fmt.Errorf("%s:%d: %w; want an object with the texts prompt and completion", path, n, err)
		}
		for _, field := range []struct{ name, value string }{{"prompt", t.Prompt}, {"completion", t.Completion}} {
			if field.value == "" {
				return nil, learned, "", fmt.Errorf("%s:%d: %s is missing or empty", path, n, field.name)
			}
		}
		if err := t.LearnedEvents.Check(); err != nil {
			return nil, learned, "", fmt.Errorf("%s:%d: learned_events: %w", path, n, err)
		}
		texts, learned = append(texts, t), learned.Later(t.LearnedEvents)
	}
	if err := lines.Err(); err != nil {
		return nil, learned, "", fmt.Errorf("%s:%d: %w; a line has at most %d bytes", path, n+1, err, longestLine)
	}
	if len(texts) == 0 {
		return nil, learned, "", fmt.Errorf("%s has no texts", path)
	}
	return texts, learned, hex.EncodeToString(sum.Sum(nil)), nil
}
