package rltrainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// thoughts are the replies to one question.
type thoughts struct {
	lesson  lm.TextLesson
	samples []thoughtSample
	flat    bool // all are worth the same
	learned bool // from it, or at least held to the reference
}

// thoughtSample is one reply, and what came of it.
type thoughtSample struct {
	reward, worth    float64
	answered         bool
	grounded, lines  int
	tokens, clipped  int     // tokens that the model drew
	kl               float64 // summed over the tokens
	old, ofReference []float64
	given            []bool // of each token: by the guide, so that the model has no part in it
}

// sample has a group of replies written and rewarded.
func sample(ctx context.Context, w lm.Writer, reference Scorer, q Question, draw *rand.Rand, o ThinkOptions) (*thoughts, error) {
	p, err := iot.Build(iot.Thoughts, q.Context, draw.Uint64())
	if err != nil {
		return nil, err
	}
	if len(q.Values) != len(p.Letters) {
		return nil, fmt.Errorf("%d values of %d candidates", len(q.Values), len(p.Letters))
	}
	text := p.Thinking()
	written, err := w.Write(ctx, text, o.Group, lm.WriteOptions{Most: o.MostTokens, Temperature: 1, Seed: draw.Uint64(), Guide: p.Guide(q.Context)})
	if err != nil {
		return nil, err
	}
	tokens := make([][]int32, len(written))
	for i := range written {
		tokens[i] = written[i].Tokens
	}
	logs, err := reference.LogProbs(ctx, text, tokens)
	if err != nil {
		return nil, fmt.Errorf("the reference: %w", err)
	}
	g := &thoughts{lesson: lm.TextLesson{Text: text}, samples: make([]thoughtSample, len(written)), flat: true}
	mean := 0.
	for i, reply := range written {
		g.samples[i] = earned(p.ReadReply(q.Context, reply.Text, reply.Whole), reply, q, o)
		g.samples[i].old, g.samples[i].ofReference, g.samples[i].given = reply.LogProbs, logs[i], reply.Given
		mean += g.samples[i].reward / float64(len(written))
		g.flat = g.flat && g.samples[i].reward == g.samples[0].reward
	}
	for i := range g.samples {
		s := &g.samples[i]
		g.lesson.Continuations = append(g.lesson.Continuations, lm.Continuation{Tokens: tokens[i], Objective: s.objective(s.reward-mean, o)})
	}
	return g, nil
}

// earned is what a reply comes to.
func earned(r iot.Reply, written lm.Written, q Question, o ThinkOptions) thoughtSample {
	s := thoughtSample{answered: r.Answer >= 0, grounded: len(r.Thought.Steps), lines: len(r.Thought.Steps) + len(r.Dropped)}
	for _, given := range written.Given {
		if !given {
			s.tokens++
		}
	}
	if s.worth = min(0, slices.Min(q.Values)); s.answered { // not to answer must not pay where answers earn less than nothing
		s.worth = q.Values[r.Answer]
	}
	s.reward = s.worth
	if s.lines > 0 {
		s.reward += o.Grounded * float64(s.grounded) / float64(s.lines)
	}
	if s.answered && s.grounded > 0 && written.Whole {
		s.reward += o.Formed
	}
	return s
}

// objective is the loss of a reply with an advantage, by the log-probabilities of its tokens.
func (s *thoughtSample) objective(advantage float64, o ThinkOptions) lm.TextObjective {
	return func(logs, by []float64) (loss float64, err error) {
		if len(logs) != len(s.old) || len(logs) != len(s.ofReference) || len(logs) != len(s.given) {
			return 0, fmt.Errorf("%d tokens, of which %d were written, %d known to be given or not, and %d asked of the reference", len(logs), len(s.old), len(s.given), len(s.ofReference))
		}
		s.kl, s.clipped = 0, 0
		norm := 1 / float64(o.MostTokens)
		for t, l := range logs {
			if by[t] = 0; s.given[t] {
				continue
			}
			ratio := math.Exp(l - s.old[t])
			followed, slope := ratio*advantage, ratio*advantage
			if bounded := min(max(ratio, 1-o.ClipLow), 1+o.ClipHigh) * advantage; bounded < followed {
				followed, slope = bounded, 0
				s.clipped++
			}
			apart := s.ofReference[t] - l
			kl := math.Expm1(apart) - apart
			s.kl += kl
			loss += norm * (o.Beta*kl - followed)
			by[t] = norm * (-o.Beta*math.Expm1(apart) - slope)
		}
		return loss, nil
	}
}

// count sums up what the groups of a step came to.
func (t *ThinkStep) count(groups []*thoughts) {
	var samples, lines, grounded, tokens, clipped, learned int
	for _, g := range groups {
		if g.flat {
			t.Flat++
		}
		for _, s := range g.samples {
			samples++
			t.Reward += s.reward
			t.Worth += s.worth
			if s.answered {
				t.Answered++
			}
			lines, grounded, tokens = lines+s.lines, grounded+s.grounded, tokens+s.tokens
			if g.learned {
				t.KL, clipped, learned = t.KL+s.kl, clipped+s.clipped, learned+s.tokens
			}
		}
	}
	n := float64(samples)
	t.Reward, t.Worth, t.Answered, t.Length = t.Reward/n, t.Worth/n, t.Answered/n, float64(tokens)/n
	t.Grounded = float64(grounded) / math.Max(1, float64(lines))
	t.KL, t.Clipped = t.KL/math.Max(1, float64(learned)), float64(clipped)/math.Max(1, float64(learned))
}
