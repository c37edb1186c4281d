package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/r2rec/r2rec/internal/chart"
)

func (o *ThoughtOptions) fill() {
	setDefault(&o.Steps, 50)
	setDefault(&o.Batch, 4)
	setDefault(&o.Group, 8)
	setDefault(&o.Rate, 2e-4)
	setDefault(&o.Beta, .02)
}

// ThoughtStep is one step of learning to think, on its groups and before it changed anything; means are over replies.
type ThoughtStep struct {
	Reward   float64 `json:"reward"`   // for the answer, for being grounded, and for the form
	Worth    float64 `json:"worth"`    // for the answer alone: R̂, doubly robust
	Answered float64 `json:"answered"` // share that has an answer
	Grounded float64 `json:"grounded"` // share of the lines
	Tokens   float64 `json:"tokens"`   // that the model drew
	KL       float64 `json:"kl"`       // from the model before the round, nats a token
	Flat     int     `json:"flat"`     // groups that taught nothing, their replies all being worth the same
	Gradient float64 `json:"gradient"` // norm, before clipping
	// Skipped: it changed nothing, since its gradient was not finite.
	Skipped bool `json:"skipped,omitempty"`
}

// Report is the step as reports keep it.
func (s ThinkStep) Report() ThoughtStep {
	if !s.Changed() {
		return ThoughtStep{Skipped: true}
	}
	return ThoughtStep{Reward: s.Reward, Worth: s.Worth, Answered: s.Answered, Grounded: s.Grounded, Tokens: s.Length, KL: s.KL, Flat: s.Flat, Gradient: s.Gradient}
}

// think teaches a model that thinks by what its replies to the decisions' contexts are worth. There is no fitting on what was
// chosen before it: what would be fitted are answers at once.
func (r *round) think(ctx context.Context, questions []Question, from string) error {
	if from == "" {
		r.Logger.Warn("no adapter is current: most models write nothing that can be rewarded before they were taught to; r2rec lm tune --texts teaches one, r2rec adapters promote serves it")
	}
	opened, err := r.Teacher.Open(from)
	if err != nil {
		return fmt.Errorf("open the policy that the round begins with: %w", err)
	}
	defer opened.Close()
	reference, ok := opened.(Scorer)
	if !ok {
		return errors.New("the model that is to think cannot score texts")
	}
	o := r.Learn.Thoughts
	l, err := r.learner(LearnerOptions{From: from, Seed: r.Seed, Steps: o.Steps, Rate: o.Rate, Run: "think " + r.note.Learns, Note: "thoughts, learned from rewards"})
	if err != nil {
		return err
	}
	rep := &r.note.Report
	rep.Thoughts = rep.Thoughts[:min(len(rep.Thoughts), l.Steps())]
	begun, tokens := r.Now(), 0
	r.Told("learning to think", l.Steps(), o.Steps)
	err = Think(ctx, l.Thoughts(), reference, questions, ThinkOptions{Steps: o.Steps, Batch: o.Batch, Group: o.Group, Beta: o.Beta, MostTokens: r.note.Model.Think,
		Workers: runtime.GOMAXPROCS(0), Seed: r.Seed, From: l.Steps(), Told: func(s ThinkStep) error {
			r.Told("learning to think", s.Step, o.Steps)
			tokens += s.Tokens
			rep.Thoughts = append(rep.Thoughts, s.Report())
			rep.Skipped = s.Skipped
			if took := r.Now().Sub(begun); took > 0 {
				rep.TokensPerSecond = float64(tokens) / took.Seconds()
			}
			return r.keep(l) // each step takes as long as many that answer at once
		}})
	if err != nil {
		return err
	}
	return r.finished(l, r.path(adapterFile))
}

func meanThought(steps []ThoughtStep) (m ThoughtStep) {
	for _, s := range steps {
		by := 1 / float64(len(steps))
		m.Reward += by * s.Reward
		m.Worth += by * s.Worth
		m.Answered += by * s.Answered
		m.Grounded += by * s.Grounded
		m.Tokens += by * s.Tokens
		m.KL += by * s.KL
		m.Gradient += by * s.Gradient
		m.Flat += s.Flat // a count
	}
	return m
}

// plotThoughts draws how the round learned to think.
func (r Report) plotThoughts(w io.Writer) error {
	const window = 5
	var x, reward, worth, answered, grounded, kl []float64
	var told []ThoughtStep
	for i, s := range r.Thoughts {
		if s.Skipped {
			continue
		}
		told = append(told, s)
		m := meanThought(told[max(0, len(told)-window):])
		x = append(x, float64(i+1))
		reward, worth, kl = append(reward, m.Reward), append(worth, m.Worth), append(kl, m.KL)
		answered, grounded = append(answered, m.Answered), append(grounded, m.Grounded)
	}
	title, subtitle := r.titles(window)
	return chart.Write(w, title, subtitle,
		chart.Panel{Title: "What replies earn: in all, and by their answers (doubly robust)", XLabel: "step", Lines: []chart.Line{{Name: "reward", X: x, Y: reward}, {Name: "answer", X: x, Y: worth}}},
		chart.Panel{Title: "Share of replies with an answer, of lines that are grounded", XLabel: "step", Lines: []chart.Line{{Name: "answered", X: x, Y: answered}, {Name: "grounded", X: x, Y: grounded}}},
		chart.Panel{Title: "KL from the model before the round, nats a token", XLabel: "step", Lines: []chart.Line{{Name: "KL", X: x, Y: kl}}})
}
