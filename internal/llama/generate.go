package llama

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// GenerateOptions say how a text goes on. The zero value takes the likeliest token each time, for as long as the session
// has room.
type GenerateOptions struct {
	// Most tokens to generate. 0, or more than the session has room for: as many as it has.
	Most int

	// Sampling, in this order: logits are divided by the temperature, the TopK likeliest tokens stay, of these the
	// likeliest whose shares reach TopP together, and of these the ones with at least MinP times the largest share.
	Temperature float64 // 0: always the likeliest token, the smaller id of two alike
	TopK        int     // 0: all
	TopP        float64 // 0 or 1: all
	MinP        float64 // 0: all
	Seed        uint64  // the same seed, text and options give the same tokens

	// Allowed are the only tokens that may come, StopTokens among them only if they are listed. nil: the whole vocabulary.
	Allowed []int32

	// Guide, if not nil, says which tokens have to come next, by the text so far; none: the model is free. It takes Pieces.
	// It is asked before each token but those that it gave. Texts of one GenerateMany may ask it at once.
	Guide func(text string) []int32

	// Pieces turn tokens to text; nil: there is none.
	Pieces Pieces
	// StopTokens end the text; what they stand for is no part of it.
	StopTokens []int32
	// Stop strings end the text, and are no part of it; they take Pieces. Of several that end at one byte the longest counts.
	Stop []string

	// TopLogProbs is how many of the likeliest tokens are told at each position. 0: none.
	TopLogProbs int
}

// Pieces tells the bytes that a token stands for, which may be a part of a character. It is safe for concurrent use.
// Package token has one.
type Pieces interface {
	Piece(id int32) string
}

// Token is one that was generated.
type Token struct {
	ID      int32
	LogProb float64 // as in LogProb
	Given   bool    // by the guide, whatever the model made of it
	// Text is what is now known to be part of the text. It comes late where it may still become a stop string or lacks the
	// rest of a character: all Texts together are the text, in whole characters but for what a model leaves broken.
	Text string
	// Top are the likeliest tokens here, whether allowed or not, from the likeliest on, the smaller id first of two alike.
	Top []LogProb
	// Finish says why this is the last token.
	Finish Finish
}

// LogProb is a token and its log-probability (natural logarithm) by the model: over the whole vocabulary, before
// temperature and constraints.
type LogProb struct {
	ID      int32
	LogProb float64
}

// Finish is why a text ends.
type Finish string

// Why a text ends.
const (
	Unfinished Finish = ""       // it goes on
	Stopped    Finish = "stop"   // at a stop token or a stop string
	Length     Finish = "length" // there are as many tokens as were asked for, or as the session has room for
)

// Generate goes on with a text, token by token. What the session remembers of the same beginning is not read again, and
// it remembers what was generated, but for the last token.
//
// The last token says why it is the last. An error ends the sequence: an option that makes no sense, a text that is empty
// or too long, the context's end (between two tokens, or two chunks of the text), or logits that are not finite.
func (s *Session) Generate(ctx context.Context, tokens []int32, o GenerateOptions) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		defer s.crew.shift()()
		g, err := s.generation(tokens, o)
		if err == nil {
			g.logits = kernel.View(make([]float32, s.m.Vocabulary), 1, s.m.Vocabulary)
		}
		for err == nil {
			var t Token
			if t, err = g.next(ctx); err == nil && (!yield(t, nil) || t.Finish != Unfinished) {
				return
			}
		}
		yield(Token{}, fmt.Errorf("llama: generate: %w", err))
	}
}

// generation is a text on its way.
type generation struct {
	s       *Session
	o       GenerateOptions
	tokens  []int32
	last    int // how many there are when the text ends
	logits  kernel.Matrix
	top     []choice // scratch: the whole vocabulary
	sampler *sampler
	text    heldText
	guided  string  // all pieces so far, for the guide
	given   []int32 // by it, still to come
}

func (s *Session) generation(tokens []int32, o GenerateOptions) (*generation, error) {
	switch {
	case len(tokens) == 0:
		return nil, errors.New("there is no token to go on from")
	case o.Most < 0:
		return nil, fmt.Errorf("at most %d tokens: must be 1 or more, or 0 for as many as there is room for", o.Most)
	case o.TopLogProbs < 0 || o.TopLogProbs > s.m.Vocabulary:
		return nil, fmt.Errorf("log-probabilities of the top %d tokens: must be 0 to %d", o.TopLogProbs, s.m.Vocabulary)
	case len(o.Stop) > 0 && o.Pieces == nil:
		return nil, errors.New("stop strings without Pieces: there is no text to find them in")
	case o.Guide != nil && o.Pieces == nil:
		return nil, errors.New("a guide without Pieces: there is no text for it to go by")
	}
	for _, id := range o.StopTokens {
		if id < 0 || int(id) >= s.m.Vocabulary {
			return nil, fmt.Errorf("stop token %d: the vocabulary has 0 to %d", id, s.m.Vocabulary-1)
		}
	}
	for i, stop := range o.Stop {
		if stop == "" {
			return nil, fmt.Errorf("stop string %d is empty", i)
		}
	}
	sampler, err := newSampler(o, s.m.Vocabulary)
	if err != nil {
		return nil, err
	}
	room := s.Positions() + 1 // the last token is never read
	g := &generation{s: s, o: o, tokens: append([]int32(nil), tokens...), last: room, sampler: sampler, text: heldText{stops: o.Stop}}
	if o.Most > 0 && o.Most < room-len(tokens) {
		g.last = len(tokens) + o.Most
	}
	return g, nil
}

func (g *generation) next(ctx context.Context) (Token, error) {
	h, err := g.s.Read(ctx, g.tokens, len(g.tokens)-1)
	if err != nil {
		return Token{}, err
	}
	g.s.m.logits(g.logits, h.states, nil, g.s.crew)
	return g.choose(g.logits.Data, g.s.crew)
}

// choose goes on by a token, by the logits after the last one.
func (g *generation) choose(z []float32, c *crew) (Token, error) {
	logSum, err := logSumExp(z, c)
	if err != nil {
		return Token{}, fmt.Errorf("after token %d: %w", len(g.tokens)-1, err)
	}
	var t Token
	if g.o.TopLogProbs > 0 {
		g.top = g.top[:0]
		for id, v := range z {
			g.top = append(g.top, choice{int32(id), float64(v)})
		}
		for _, likely := range likeliest(g.o.TopLogProbs, g.top) {
			t.Top = append(t.Top, LogProb{likely.id, likely.weight - logSum})
		}
	}
	if t.ID, t.Given, err = g.guide(); err != nil {
		return Token{}, err
	}
	if !t.Given {
		t.ID = g.sampler.pick(z)
	}
	t.LogProb = float64(z[t.ID]) - logSum
	g.tokens = append(g.tokens, t.ID)
	g.finish(&t)
	return t, nil
}

// guide is the token that has to come next, if one has to.
func (g *generation) guide() (id int32, given bool, err error) {
	if len(g.given) == 0 && g.o.Guide != nil {
		g.given = g.o.Guide(g.guided)
	}
	if len(g.given) == 0 {
		return 0, false, nil
	}
	id, g.given = g.given[0], g.given[1:]
	if id < 0 || int(id) >= g.s.m.Vocabulary {
		return 0, false, fmt.Errorf("the guide gives token %d: the vocabulary has 0 to %d", id, g.s.m.Vocabulary-1)
	}
	return id, true, nil
}

// finish gives a token its text, and says whether it is the last.
func (g *generation) finish(t *Token) {
	for _, id := range g.o.StopTokens {
		if id == t.ID {
			t.Text, t.Finish = g.text.rest(), Stopped
			return
		}
	}
	var stopped bool
	if g.o.Pieces != nil {
		piece := g.o.Pieces.Piece(t.ID)
		t.Text, stopped = g.text.add(piece)
		if g.o.Guide != nil {
			g.guided += piece
		}
	}
	switch {
	case stopped:
		t.Finish = Stopped
	case len(g.tokens) == g.last:
		t.Text += g.text.rest()
		t.Finish = Length
	}
}

// logSumExp is the logarithm of the sum of exponentials: a logit minus it is a log-probability. It is summed up in parts, so
// that a crew gives the same as one thread.
func logSumExp(z []float32, c *crew) (float64, error) {
	const part = 4096
	top := float64(kernel.Max(z))
	sums := make([]float64, (len(z)+part-1)/part)
	wrong := make([]int, len(sums)) // the first token of each part whose logit is not finite, from 1; 0: none
	c.spread(len(sums), 1, func(_, from, to int) {
		for i := from; i < to; i++ {
			for id, v := range z[i*part : min((i+1)*part, len(z))] {
				if v-v != 0 && wrong[i] == 0 {
					wrong[i] = i*part + id + 1
				}
				sums[i] += math.Exp(float64(v) - top)
			}
		}
	})
	sum := 0.
	for i, s := range sums {
		if id := wrong[i] - 1; id >= 0 {
			return 0, fmt.Errorf("logit of token %d is %v: %w", id, z[id], ErrNotFinite)
		}
		sum += s
	}
	return top + math.Log(sum), nil
}
