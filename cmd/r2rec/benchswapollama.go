package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/ollama"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// swapOllama says which Ollama server is measured as well.
type swapOllama struct {
	Ollama        string `help:"URL of an Ollama server to swap adapters on as well. Given here alone, not in --config." explicit:"" placeholder:"URL" group:"Ollama"`
	OllamaBase    string `help:"GGUF file of the base model there; empty: one of the embedded base model's shape that learns to answer by --ollama-readout first." type:"existingfile" placeholder:"FILE" group:"Ollama"`
	OllamaReadout string `help:"How it is asked: letters, or verdicts, a call a candidate." enum:"letters,verdicts" default:"letters" group:"Ollama"`
	OllamaMerge   bool   `help:"Merge adapters into the weights, also where the server takes them as layers." group:"Ollama"`
	OllamaThreads int    `help:"Threads that compute an answer there; 0: the server's choice." default:"1" group:"Ollama"`
}

// Two programs compute the same answer in other orders and with other roundings, up to a few hundredths of a nat; and a
// server states its 20 likeliest tokens only: an answer that is not among them has a floor for a share, which calibration can
// make any share. One that is just among them here may not be there.
const (
	ollamaTolerance = .1
	ollamaStates    = 18
	// adaptersApart is how far two adapters must at least differ for a mixed answer to be seen.
	adaptersApart = 4 * ollamaTolerance
)

// onServer is an Ollama server.
func (c benchSwapCommand) onServer(ctx context.Context, dir string, shown *stages, contexts []event.Context) (s *swapSubject, err error) {
	path, readout := c.OllamaBase, engine.Readout(c.OllamaReadout)
	if path == "" {
		path = filepath.Join(dir, "answers.gguf")
		if err := teachAnswers(ctx, shown, path, readout, iot.Figures, contexts); err != nil {
			return nil, err
		}
	}
	open := engine.Options{Path: path, Readout: readout, PromptVersion: iot.Figures}
	forTeaching := open
	forTeaching.Trainable = true
	base, err := engine.Open(forTeaching)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	s = &swapSubject{name: "ollama", model: nameOf(base), tolerance: ollamaTolerance, concurrency: 4}
	paths := map[string]string{}
	for i := range c.Adapters {
		shown.set("teaching adapters for Ollama", i, c.Adapters)
		a, err := c.teach(ctx, base, filepath.Join(dir, fmt.Sprintf("answers%d.gguf", i)), uint64(i+1), contexts)
		if err != nil {
			return nil, err
		}
		paths[a.digest] = a.Path
		s.adapters = append(s.adapters, a)
	}
	s.apart = func(_ context.Context, digest string) (proof.Ranker, func() error, error) {
		o := open
		o.Adapter = paths[digest]
		m, err := engine.Open(o)
		if err != nil {
			return nil, nil, err
		}
		return stating{m, digest == "" && readout == engine.Letters}, m.Close, nil
	}
	if err := tellApart(ctx, s, contexts); err != nil {
		return nil, err
	}
	i, err := ollama.NewInstaller(ollama.InstallOptions{BaseURL: c.Ollama, Base: path, Prefix: "r2rec-bench-" + strings.ToLower(rand.Text())[:8], Merged: c.OllamaMerge,
		OnReload: ollama.ReloadWait, PromptVersion: iot.Figures, Ask: ollama.Options{Timeout: warmWithin, Threads: c.OllamaThreads}, Now: time.Now})
	if err != nil {
		return nil, err
	}
	if i.Readout() != c.OllamaReadout {
		return nil, errors.Join(fmt.Errorf("--ollama-base %s is read by %s on a server, and --ollama-readout is %s: name one that was taught it, or none", path, i.Readout(), c.OllamaReadout), i.Close())
	}
	s.engine = onOllama{i}
	s.close = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), warmWithin)
		defer cancel()
		return errors.Join(i.Uninstall(ctx), i.Close())
	}
	return s, nil
}

// stating answers as a server does that states its likeliest tokens only: letters of the base calibrated, all else as it is.
type stating struct {
	*engine.Model
	calibrated bool
}

var _ proof.Partial = stating{}

// Stated implements proof.Partial.
func (s stating) Stated(ctx context.Context, p iot.Prompt) (shares []float64, told []bool, err error) {
	if shares, err = s.Rank(ctx, p); err != nil {
		return nil, nil, err
	}
	if told, err = s.Model.Stated(ctx, p, ollamaStates); err != nil || !s.calibrated {
		return shares, told, err
	}
	nothing, err := iot.ContentFree(iot.Figures, len(p.Letters))
	if err != nil {
		return nil, nil, err
	}
	byLetters, err := s.Rank(ctx, iot.Prompt{Text: nothing.Text, Letters: []byte("ABCDEFGHIJKLMNOPQRST")[:len(p.Letters)]})
	if err != nil {
		return nil, nil, err
	}
	ofNothing, err := s.Model.Stated(ctx, nothing, ollamaStates)
	if err != nil {
		return nil, nil, err
	}
	prior, err := lm.ByCandidate(byLetters, p)
	if err != nil {
		return nil, nil, err
	}
	of := make([]bool, len(ofNothing)) // by letter
	for i, letter := range nothing.Letters {
		of[letter-'A'] = ofNothing[i]
	}
	for i, letter := range p.Letters {
		told[i] = told[i] && of[letter-'A']
	}
	shares, err = lm.Calibrate(lm.Reading{Shares: shares}, lm.Reading{Shares: prior}) // the engine knows all of them
	return shares, told, err
}

// What it takes to have a model of the base's shape answer aloud; it ranks by one direction of the evidence.
const (
	answersSteps = 60
	answersBatch = 16
	answersRate  = 4e-3
)

// teachAnswers writes a base model that answers by a readout that a server offers: the one that travels with the program was
// never asked to say anything.
func teachAnswers(ctx context.Context, shown *stages, path string, readout engine.Readout, prompt int, contexts []event.Context) (err error) {
	base, err := engine.Open(engine.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	var prompts []iot.Prompt
	r := mathrand.New(mathrand.NewPCG(1, 0x6c657474))
	for range answersSteps * answersBatch {
		p, err := iot.Build(prompt, contexts[r.IntN(len(contexts))], r.Uint64())
		if err != nil {
			return err
		}
		prompts = append(prompts, p)
	}
	vocabulary, err := token.Train(func(yield func(string) bool) {
		for _, p := range prompts[:min(len(prompts), 50)] {
			if !yield(p.Text) {
				return
			}
		}
	}, base.Shape().Vocabulary, token.TrainOptions{Required: append(spacedLetters(), " yes", " no")})
	if err != nil {
		return err
	}
	l, err := engine.NewModel(engine.ModelOptions{Name: "answers", Spread: .1, Seed: 1, Tokens: vocabulary, PromptVersion: prompt, Readout: readout,
		Shape: base.Shape(), Learn: learn.Options{Optimiser: learn.AdamW{Rate: answersRate}, Workers: processors()}})
	if err != nil {
		return err
	}
	var taste [iot.MaxDigits]float64
	for k := range taste {
		taste[k] = 1
	}
	for step := range answersSteps {
		shown.set("teaching a base model to answer", step, answersSteps)
		var batch []lm.Lesson
		for _, p := range prompts[step*answersBatch:][:answersBatch] {
			batch = append(batch, lm.Lesson{Prompt: p, Chosen: preferred(p, taste)})
		}
		if _, err := l.Learn(ctx, batch); err != nil {
			return err
		}
	}
	return gguf.WriteFile(path, l.Write)
}

// tellApart makes sure that a mixed answer would be seen: whichever of the models is named, any other differs from it by far
// more than the tolerance in what is told of the one that is named, for most users.
func tellApart(ctx context.Context, s *swapSubject, contexts []event.Context) (err error) {
	digests := []string{""}
	for _, a := range s.adapters {
		digests = append(digests, a.digest)
	}
	answers, told := make([][][]float64, len(digests)), make([][][]bool, len(digests))
	for k, digest := range digests {
		who, done, err := s.apart(ctx, digest)
		if err != nil {
			return err
		}
		for i, c := range contexts[:min(len(contexts), 20)] {
			p, err := iot.Build(iot.Figures, c, uint64(i))
			if err != nil {
				return errors.Join(err, done())
			}
			shares, stated, err := rankTold(ctx, who, p)
			if err != nil {
				return errors.Join(err, done())
			}
			answers[k], told[k] = append(answers[k], shares), append(told[k], stated)
		}
		if err := done(); err != nil {
			return err
		}
	}
	for k := range answers {
		for j := range answers {
			if j == k {
				continue
			}
			var apart []float64
			for i := range answers[k] {
				off, _ := between(answers[j][i], answers[k][i], told[k][i])
				apart = append(apart, off)
			}
			if half := quantile(apart, .5); half < adaptersApart {
				return fmt.Errorf("answers of %s in the name of %s differ by %.2g nats only for half of the users, and the server's may by %g: no mixed answer would be seen",
					adapterName(digests[j]), adapterName(digests[k]), half, s.tolerance)
			}
		}
	}
	return nil
}
