package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

// Readout is how a ranking is read out of a model.
type Readout string

// The readouts of this engine (docs/prompt.md).
const (
	// Lines scores a candidate by the log-odds of " yes" against " no" where its line ends.
	Lines Readout = "lines"
	// Verdicts reads as Lines does, and is learned otherwise: the model is to say yes or no there, so that a server can be
	// asked that states its likeliest tokens alone.
	Verdicts Readout = "verdicts"
	// Letters scores it by the log-probability of its letter where the prompt ends.
	Letters Readout = "letters"
	// Pointwise scores it by the log-odds of " yes" against " no" after a question about it alone. What all questions have
	// in common is read once.
	Pointwise Readout = "pointwise"
)

// question follows the last candidate's line in the readout Pointwise.
func question(letter byte) string {
	return "\n\nWill the user like " + string(letter) + " next? Answer yes or no.\nAnswer:"
}

// reader turns prompts into what a model reads: the tokens, the places where something is asked, and for which tokens.
type reader struct {
	tokenizer *token.Tokenizer
	readout   Readout
	ids       []int32 // " yes" and " no", or the letters
}

func newReader(t *token.Tokenizer, r Readout) (*reader, error) {
	var words []string
	switch r {
	case Lines, Verdicts, Pointwise:
		words = []string{" yes", " no"}
	case Letters:
		for i := range iot.MaxCandidates {
			words = append(words, " "+string(rune('A'+i)))
		}
	default:
		return nil, fmt.Errorf("readout %q: must be %s, %s, %s or %s", string(r), Lines, Verdicts, Letters, Pointwise)
	}
	out := &reader{tokenizer: t, readout: r}
	for _, w := range words {
		id, ok := t.ID(w)
		if !ok {
			return nil, fmt.Errorf("readout %s: the vocabulary has no token %q", r, w)
		}
		out.ids = append(out.ids, id)
	}
	return out, nil
}

// text is a prompt as a model reads it.
type text struct {
	tokens []int32
	want   []int   // indices of the tokens after which something is asked
	ids    []int32 // the tokens whose logits are asked for there
	// questions go on from the tokens, each by itself, and want counts on through them; only Pointwise has some.
	questions [][]int32
}

// longest is how many tokens stand in a row.
func (t text) longest() int {
	n := 0
	for _, q := range t.questions {
		n = max(n, len(q))
	}
	return len(t.tokens) + n
}

// read encodes a prompt. Lines end before what follows the last candidate, since nothing there can matter. The error says
// that it is no prompt of a list, or that a line does not end between two tokens.
func (r *reader) read(p iot.Prompt) (text, error) {
	special := token.Options{AddSpecial: true}
	if n := len(p.Letters); n < 1 || n > iot.MaxCandidates {
		return text{}, fmt.Errorf("it has %d candidates: %w", n, iot.ErrCandidates)
	}
	if r.readout == Letters {
		t := text{tokens: r.tokenizer.Encode(p.Text, special), ids: r.ids[:len(p.Letters)]}
		t.want = []int{len(t.tokens) - 1}
		return t, nil
	}
	lines := p.Content.Ends
	if len(lines) != len(p.Letters) || !slices.IsSorted(lines) || lines[0] < 1 || lines[len(lines)-1] > len(p.Text) {
		return text{}, fmt.Errorf("its %d candidates' lines end at %d of %d bytes", len(p.Letters), lines, len(p.Text))
	}
	tokens, ends := r.tokenizer.EncodeOffsets(p.Text[:lines[len(lines)-1]], special)
	if r.readout == Pointwise {
		t, at := text{tokens: tokens, ids: r.ids}, len(tokens)
		for j := range p.Letters {
			q := r.tokenizer.Encode(question('A'+byte(j)), token.Options{Continues: true})
			at += len(q)
			t.questions, t.want = append(t.questions, q), append(t.want, at-1)
		}
		return t, nil
	}
	t := text{tokens: tokens, ids: r.ids, want: make([]int, len(lines))}
	for j, end := range lines {
		i := sort.SearchInts(ends, end)
		if i == len(ends) || ends[i] != end {
			return text{}, fmt.Errorf("the line of candidate %c: %w", 'A'+rune(j), errNoLines)
		}
		t.want[j] = i
	}
	return t, nil
}

var errNoLines = errors.New("it does not end between two tokens of this model: its vocabulary cannot read lines")

// rank reads a prompt in a session: the log-share of each candidate, in the order of the context.
func (r *reader) rank(ctx context.Context, s *llama.Session, t text, p iot.Prompt) ([]float64, error) {
	places, err := r.logits(ctx, s, t)
	if err != nil {
		return nil, err
	}
	shares, err := r.shares(func(place int) []float32 { return places[place] }, len(p.Letters))
	if err != nil {
		return nil, err
	}
	return lm.ByCandidate(shares, p)
}

// logits at every place where something is asked.
func (r *reader) logits(ctx context.Context, s *llama.Session, t text) (places [][]float32, err error) {
	for _, q := range t.questions { // the session remembers what they have in common
		row := append(t.tokens[:len(t.tokens):len(t.tokens)], q...)
		hidden, err := s.Read(ctx, row, len(row)-1)
		if err != nil {
			return nil, err
		}
		places = append(places, hidden.Logits(0, t.ids...))
	}
	if len(t.questions) > 0 {
		return places, nil
	}
	hidden, err := s.Read(ctx, t.tokens, t.want...)
	if err != nil {
		return nil, err
	}
	for place := range t.want {
		places = append(places, hidden.Logits(place, t.ids...))
	}
	return places, nil
}

// shares are the log-shares of the candidates, in the order of their letters, from the logits at each place.
func (r *reader) shares(logits func(place int) []float32, n int) ([]float64, error) {
	scores := make([]float64, n)
	if r.readout == Letters {
		for j, z := range logits(0) {
			scores[j] = float64(z)
		}
	} else {
		for j := range scores {
			z := logits(j)
			scores[j] = float64(z[0]) - float64(z[1])
		}
	}
	for j, s := range scores {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return nil, fmt.Errorf("the score of candidate %c is %v: %w", 'A'+rune(j), s, lm.ErrNonsense)
		}
	}
	lm.Normalise(scores)
	return scores, nil
}
