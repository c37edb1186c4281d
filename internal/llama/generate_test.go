package llama

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// pieces are what the tokens of a test stand for.
type pieces []string

func (p pieces) Piece(id int32) string { return p[id] }

// generate collects a text.
func generate(t *testing.T, s *Session, tokens []int32, o GenerateOptions) (ids []int32, text string, last Token) {
	t.Helper()
	for tok, err := range s.Generate(t.Context(), tokens, o) {
		if err != nil {
			t.Fatal(err)
		}
		if last.Finish != Unfinished {
			t.Fatalf("a token follows the last one, %+v", last)
		}
		ids, text, last = append(ids, tok.ID), text+tok.Text, tok
	}
	return ids, text, last
}

// logProbs of the next token, by a session of its own.
func logProbs(t *testing.T, m *Model, tokens []int32) []float64 {
	t.Helper()
	h, err := session(t, m, m.Context, 1).Read(context.Background(), tokens, len(tokens)-1)
	if err != nil {
		t.Fatal(err)
	}
	z := h.Logits(0)
	sum := 0.
	for _, v := range z {
		sum += math.Exp(float64(v))
	}
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = float64(v) - math.Log(sum)
	}
	return out
}

// sorted are log-probabilities from the likeliest on.
func sorted(logs []float64) []LogProb {
	var out []LogProb
	for id, l := range logs {
		out = append(out, LogProb{int32(id), l})
	}
	slices.SortStableFunc(out, func(a, b LogProb) int { return cmp.Compare(b.LogProb, a.LogProb) })
	return out
}

func TestGenerateTakesTheLikeliestAndTellsLogProbabilities(t *testing.T) {
	m := small(t, false)
	text := text(20, m.Vocabulary, 1)
	s := session(t, m, 60, 2)
	var ids []int32
	for tok, err := range s.Generate(t.Context(), text, GenerateOptions{Most: 12, TopLogProbs: 7}) {
		if err != nil {
			t.Fatal(err)
		}
		want := sorted(logProbs(t, m, append(slices.Clone(text), ids...)))
		if tok.ID != want[0].ID {
			t.Fatalf("token %d is %d, the likeliest is %d", len(ids), tok.ID, want[0].ID)
		}
		if len(tok.Top) != 7 || math.Abs(tok.LogProb-want[0].LogProb) > 1e-6 {
			t.Fatalf("token %d: %+v, want log-probability %v and 7 of the top", len(ids), tok, want[0].LogProb)
		}
		for i, top := range tok.Top {
			if top.ID != want[i].ID || math.Abs(top.LogProb-want[i].LogProb) > 1e-6 {
				t.Fatalf("token %d: %d of the top is %+v, want %+v", len(ids), i, top, want[i])
			}
		}
		ids = append(ids, tok.ID)
	}
	if len(ids) != 12 {
		t.Errorf("%d tokens, want 12", len(ids))
	}
}

func TestTiesGoToTheSmallerID(t *testing.T) {
	m := small(t, true)
	for i := range m.norm {
		m.norm[i] = 0 // every logit is 0
	}
	s := session(t, m, 20, 1)
	for tok, err := range s.Generate(t.Context(), []int32{5}, GenerateOptions{Most: 1, TopLogProbs: 4}) {
		if err != nil {
			t.Fatal(err)
		}
		l := -math.Log(float64(m.Vocabulary))
		for i, top := range tok.Top {
			if top.ID != int32(i) || math.Abs(top.LogProb-l) > 1e-9 {
				t.Errorf("%d of the top is %+v, want id %d, %v", i, top, i, l)
			}
		}
		if tok.ID != 0 || len(tok.Top) != 4 {
			t.Errorf("%+v, want token 0 and 4 of the top", tok)
		}
	}
	ids, _, _ := generate(t, s, []int32{5}, GenerateOptions{Most: 1, Allowed: []int32{9, 4, 30}})
	if ids[0] != 4 {
		t.Errorf("token %d of 9, 4 and 30, want 4", ids[0])
	}
}

func TestASeedGivesTheSameText(t *testing.T) {
	m := small(t, true)
	text := text(30, m.Vocabulary, 2)
	o := GenerateOptions{Most: 25, Temperature: 1, TopK: 20, TopP: .95, Seed: 4}
	want, _, _ := generate(t, session(t, m, 100, 1), text, o)
	for threads := 1; threads <= 3; threads++ {
		s := session(t, m, 100, threads)
		generate(t, s, []int32{1, 2, 3}, GenerateOptions{Most: 10, Temperature: 2})
		for range 2 {
			if got, _, _ := generate(t, s, text, o); !slices.Equal(got, want) {
				t.Errorf("%d threads: %v, then %v", threads, want, got)
			}
		}
	}
	o.Seed = 5
	if got, _, _ := generate(t, session(t, m, 100, 1), text, o); slices.Equal(got, want) {
		t.Error("another seed gives the same text")
	}
}

func TestGenerateEnds(t *testing.T) {
	m := small(t, true)
	prompt := text(30, m.Vocabulary, 2)
	o := GenerateOptions{Temperature: 1, Seed: 1}
	free, _, last := generate(t, session(t, m, 60, 1), prompt, o)
	if len(free) != 31 || last.Finish != Length {
		t.Errorf("%d tokens, finish %q, want as many as 60 positions and a last one take, 31, and %q", len(free), last.Finish, Length)
	}
	o.Most = 100
	if got, _, last := generate(t, session(t, m, 60, 1), prompt, o); !slices.Equal(got, free) || last.Finish != Length {
		t.Errorf("asked for more than there is room for: %v, %q", got, last.Finish)
	}
	o.Most = 9
	if got, _, last := generate(t, session(t, m, 60, 1), prompt, o); !slices.Equal(got, free[:9]) || last.Finish != Length {
		t.Errorf("at most 9: %v, %q", got, last.Finish)
	}
	o.StopTokens = []int32{free[5], free[8]}
	end := min(slices.Index(free, free[5]), slices.Index(free, free[8]))
	if got, _, last := generate(t, session(t, m, 60, 1), prompt, o); !slices.Equal(got, free[:end+1]) || last.Finish != Stopped {
		t.Errorf("a stop token at %d: %v of %v, %q", end, got, free, last.Finish)
	}
	full := text(60, m.Vocabulary, 3)
	if got, _, last := generate(t, session(t, m, 60, 1), full, GenerateOptions{}); len(got) != 1 || last.Finish != Length {
		t.Errorf("a text that fills the session: %v, %q, want one token", got, last.Finish)
	}
}

func TestOnlyAllowedTokensCome(t *testing.T) {
	m := small(t, true)
	s := session(t, m, 200, 1)
	for _, temperature := range []float64{0, 1, 1e9} {
		ids, _, _ := generate(t, s, []int32{3, 4}, GenerateOptions{Most: 100, Temperature: temperature, Allowed: []int32{20, 7, 11}, StopTokens: []int32{1}, TopLogProbs: 3})
		for _, id := range ids {
			if id != 20 && id != 7 && id != 11 {
				t.Fatalf("temperature %v: token %d comes, only 20, 7 and 11 may", temperature, id)
			}
		}
	}
	// Log-probabilities do not know of it.
	want := sorted(logProbs(t, m, []int32{3, 4}))
	least := want[len(want)-1]
	for tok, err := range s.Generate(t.Context(), []int32{3, 4}, GenerateOptions{Most: 1, Allowed: []int32{least.ID}, TopLogProbs: 1}) {
		if err != nil || tok.ID != least.ID || math.Abs(tok.LogProb-least.LogProb) > 1e-6 || tok.Top[0].ID != want[0].ID {
			t.Errorf("%+v, %v, want %+v, and %+v at the top", tok, err, least, want[0])
		}
	}
}

func TestTheTextOfTokens(t *testing.T) {
	m := small(t, true)
	p := make(pieces, m.Vocabulary)
	for id := range p {
		p[id] = []string{"a", "b", "\xf0\x9f", "\x98\x80", "é", "\xc3", "\xa9", ""}[id%8]
	}
	s := session(t, m, 300, 1)
	for seed := range uint64(30) {
		o := GenerateOptions{Most: 40, Temperature: 2, Seed: seed}
		ids, none, _ := generate(t, s, []int32{1}, o)
		if none != "" {
			t.Fatalf("text %q without pieces", none)
		}
		whole := ""
		for _, id := range ids {
			whole += p.Piece(id)
		}
		o.Pieces = p
		if _, got, _ := generate(t, s, []int32{1}, o); got != whole {
			t.Fatalf("the text is %q, want %q", got, whole)
		}
		o.Stop = []string{"ab", "é", "bb\xf0"}
		want, stopped := cutAt(whole, o.Stop)
		o.StopTokens = []int32{29}
		if end := slices.Index(ids, 29); end >= 0 {
			before := ""
			for _, id := range ids[:end] {
				before += p.Piece(id)
			}
			want, _ = cutAt(before, o.Stop)
			stopped = true
		}
		_, got, last := generate(t, s, []int32{1}, o)
		if got != want || (last.Finish == Stopped) != stopped {
			t.Fatalf("seed %d: the text is %q, finish %q, want %q of %q", seed, got, last.Finish, want, whole)
		}
	}
}

func TestGenerateIsCancelledBetweenTokens(t *testing.T) {
	m := small(t, true)
	s := session(t, m, 100, 1)
	prompt := text(30, m.Vocabulary, 2)
	want, _, _ := generate(t, s, prompt, GenerateOptions{Most: 20})
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	for tok, err := range s.Generate(ctx, prompt, GenerateOptions{Most: 20}) {
		if n == 5 {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v, %v, want the context's error", tok, err)
			}
			n++
			continue
		}
		if err != nil || n > 5 {
			t.Fatalf("token %d: %v", n, err)
		}
		if n++; n == 5 {
			cancel()
		}
	}
	cancel()
	if n != 6 {
		t.Errorf("%d tokens and errors, want 5 tokens and an error", n)
	}
	for range s.Generate(t.Context(), prompt, GenerateOptions{Most: 20}) {
		break
	}
	if got, _, _ := generate(t, s, prompt, GenerateOptions{Most: 20}); !slices.Equal(got, want) {
		t.Errorf("after an end and a break: %v, want %v", got, want)
	}
}

// What is done with the session between two tokens does not change the text.
func TestASessionMayBeUsedBetweenTokens(t *testing.T) {
	m := small(t, true)
	s := session(t, m, 100, 1)
	prompt := text(30, m.Vocabulary, 2)
	want, _, _ := generate(t, s, prompt, GenerateOptions{Most: 10})
	var got []int32
	for tok, err := range s.Generate(t.Context(), prompt, GenerateOptions{Most: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tok.ID)
		if _, err := s.Read(t.Context(), text(50, m.Vocabulary, uint64(len(got))), 20); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestGenerateRefuses(t *testing.T) {
	m := small(t, true)
	s := session(t, m, 20, 1)
	nan := math.NaN()
	for want, c := range map[string]struct {
		tokens []int32
		o      GenerateOptions
	}{
		"no token to go on from":                 {nil, GenerateOptions{}},
		"21 tokens in a session of 20":           {make([]int32, 21), GenerateOptions{}},
		"token 1 is 31":                          {[]int32{0, 31}, GenerateOptions{}},
		"at most -1 tokens":                      {[]int32{0}, GenerateOptions{Most: -1}},
		"temperature is -1":                      {[]int32{0}, GenerateOptions{Temperature: -1}},
		"temperature is NaN":                     {[]int32{0}, GenerateOptions{Temperature: nan}},
		"temperature is +Inf":                    {[]int32{0}, GenerateOptions{Temperature: math.Inf(1)}},
		"top k is -1":                            {[]int32{0}, GenerateOptions{TopK: -1}},
		"top p is 1.5":                           {[]int32{0}, GenerateOptions{TopP: 1.5}},
		"top p is NaN":                           {[]int32{0}, GenerateOptions{TopP: nan}},
		"min p is -0.5":                          {[]int32{0}, GenerateOptions{MinP: -.5}},
		"no token is allowed":                    {[]int32{0}, GenerateOptions{Allowed: []int32{}}},
		"allowed tokens are 3 to 31":             {[]int32{0}, GenerateOptions{Allowed: []int32{31, 3}}},
		"allowed tokens are -1 to 3":             {[]int32{0}, GenerateOptions{Allowed: []int32{-1, 3}}},
		"stop token 31: the vocabulary":          {[]int32{0}, GenerateOptions{StopTokens: []int32{2, 31}}},
		"stop string 1 is empty":                 {[]int32{0}, GenerateOptions{Stop: []string{"a", ""}, Pieces: make(pieces, 31)}},
		"stop strings without Pieces":            {[]int32{0}, GenerateOptions{Stop: []string{"a"}}},
		"log-probabilities of the top 32 tokens": {[]int32{0}, GenerateOptions{TopLogProbs: 32}},
		"log-probabilities of the top -1 tokens": {[]int32{0}, GenerateOptions{TopLogProbs: -1}},
	} {
		n := 0
		for _, err := range s.Generate(t.Context(), c.tokens, c.o) {
			if n++; err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "llama: ") {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d results, want the error alone", want, n)
		}
	}
}

func TestLogitsThatAreNotFiniteEndTheText(t *testing.T) {
	m := small(t, false)
	m.output.Data[5*m.Dim] = float32(math.NaN())
	for _, err := range session(t, m, 20, 1).Generate(t.Context(), []int32{1, 2}, GenerateOptions{}) {
		if !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "logit of token 5 is NaN") {
			t.Errorf("%v, want an error that names token 5", err)
		}
	}
}

func ExampleSession_Generate() {
	m, err := New(Config{Vocabulary: 8, Dim: 8, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 8, FeedForward: 8, Context: 32, Epsilon: 1e-5, Tied: true,
		Rope: Rope{Base: 10_000, Dims: 8}}, .5, 1)
	if err != nil {
		panic(err)
	}
	s, err := m.NewSession(32, 1)
	if err != nil {
		panic(err)
	}
	words := pieces{"the ", "cat ", "sat ", "on ", "a ", "mat", ".", "!"}
	for token, err := range s.Generate(context.Background(), []int32{0, 1}, GenerateOptions{Most: 4, Allowed: []int32{2}, Pieces: words}) {
		if err != nil {
			panic(err)
		}
		fmt.Print(token.Text)
	}
	// Output: sat sat sat sat
}
