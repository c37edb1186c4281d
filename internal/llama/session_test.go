package llama

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func session(t testing.TB, m *Model, positions, threads int) *Session {
	t.Helper()
	s, err := m.NewSession(positions, threads)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read gives the bits of the logits after the wanted tokens.
func read(t testing.TB, s *Session, tokens []int32, want ...int) []uint32 {
	t.Helper()
	h, err := s.Read(context.Background(), tokens, want...)
	if err != nil {
		t.Fatal(err)
	}
	if h.Rows() != len(want) {
		t.Fatalf("%d rows, want %d", h.Rows(), len(want))
	}
	var bits []uint32
	for i := range want {
		for _, v := range h.Logits(i) {
			bits = append(bits, math.Float32bits(v))
		}
	}
	return bits
}

// ending is a context that ends when it has been asked a number of times.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// some are up to n ascending indices of a text.
func some(r *rand.Rand, n, length int) []int {
	var want []int
	for range r.IntN(n + 1) {
		want = append(want, r.IntN(length))
	}
	slices.Sort(want)
	return slices.Compact(want)
}

// Whatever was read before, in whatever pieces, on however many threads, and whether it was cancelled: a text gives the
// bits that it gives in a session of its own.
func TestASessionGivesTheBitsOfAFreshOne(t *testing.T) {
	m := small(t, true)
	r := rand.New(rand.NewPCG(1, 2))
	for threads := 1; threads <= 3; threads++ {
		s := session(t, m, m.Context, threads)
		var tokens []int32
		for range 60 {
			switch r.IntN(5) {
			case 0: // goes on
				tokens = append(tokens, text(r.IntN(60), m.Vocabulary, r.Uint64())...)
			case 1: // is cut
				tokens = tokens[:r.IntN(len(tokens)+1)]
			case 2: // is changed in the middle
				if len(tokens) > 0 {
					tokens = slices.Clone(tokens)
					tokens[r.IntN(len(tokens))] = int32(r.IntN(m.Vocabulary))
				}
			case 3: // is another one
				tokens = text(1+r.IntN(m.Context), m.Vocabulary, r.Uint64())
			}
			tokens = tokens[:min(len(tokens), m.Context)]
			if len(tokens) == 0 {
				tokens = []int32{7}
			}
			want := some(r, 6, len(tokens))
			if r.IntN(3) == 0 {
				if _, err := s.Read(&ending{context.Background(), r.IntN(3)}, tokens, want...); err != nil && !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			if got := read(t, s, tokens, want...); !slices.Equal(got, read(t, session(t, m, m.Context, 1), tokens, want...)) {
				t.Fatalf("%d threads: %d tokens, asked after %v, give other bits than in a fresh session", threads, len(tokens), want)
			}
		}
	}
}

func TestPiecesOfATextGiveTheBitsOfTheWhole(t *testing.T) {
	m := small(t, false)
	r := rand.New(rand.NewPCG(3, 4))
	tokens := text(m.Context, m.Vocabulary, 5)
	every := make([]int, len(tokens))
	for i := range every {
		every[i] = i
	}
	whole := read(t, session(t, m, m.Context, 1), tokens, every...)
	for _, most := range []int{1, 2, 7, 65, 130, 300} {
		s := session(t, m, m.Context, 1+r.IntN(3))
		for at := 0; at < len(tokens); {
			n := min(1+r.IntN(most), len(tokens)-at)
			got := read(t, s, tokens[:at+n], every[at:at+n]...)
			if !slices.Equal(got, whole[at*m.Vocabulary:(at+n)*m.Vocabulary]) {
				t.Fatalf("pieces of up to %d tokens: those from %d to %d give other bits", most, at, at+n)
			}
			at += n
		}
	}
}

// Only what is new is read: a mark in what is remembered stays until the text changes there, or is asked about there.
func TestTheSameBeginningIsReadOnce(t *testing.T) {
	m := small(t, true)
	s := session(t, m, m.Context, 1)
	tokens := text(350, m.Vocabulary, 1)
	const at = 100
	value := &s.cache.valuesOf(1).Row(at)[0]
	marked := func(tokens []int32, want ...int) bool {
		t.Helper()
		read(t, s, text(350, m.Vocabulary, 1), 349)
		*value = 12345
		read(t, s, tokens, want...)
		return *value == 12345
	}
	edited := func(i int) []int32 {
		e := slices.Clone(tokens)
		e[i]++
		e[i] %= int32(m.Vocabulary)
		return e
	}
	for name, c := range map[string]struct {
		tokens []int32
		want   []int
		marked bool
	}{
		"the same text":             {tokens, []int{349}, true},
		"nothing asked":             {tokens, nil, true},
		"a beginning of it":         {tokens[:101], nil, true},
		"changed behind the mark":   {edited(at + 1), []int{349}, true},
		"changed at the mark":       {edited(at), []int{349}, false},
		"changed before the mark":   {edited(at - 1), []int{349}, false},
		"asked behind the mark":     {tokens, []int{at + 1}, true},
		"asked at the mark":         {tokens, []int{at, 349}, false},
		"another text, as long":     {text(350, m.Vocabulary, 2), []int{349}, false},
		"cut before the mark, then": {tokens[:at], nil, true},
	} {
		if got := marked(c.tokens, c.want...); got != c.marked {
			t.Errorf("%s: remembered %v, want %v", name, got, c.marked)
		}
	}
}

func TestWhatASessionRefuses(t *testing.T) {
	m := small(t, true)
	for _, positions := range []int{-1, 0, m.Context + 1} {
		if _, err := m.NewSession(positions, 1); err == nil || !strings.Contains(err.Error(), "the model reads 1 to 400") {
			t.Errorf("a session of %d positions: %v", positions, err)
		}
	}
	s := session(t, m, 20, 0)
	good := text(20, m.Vocabulary, 1)
	before := read(t, s, good, 19)
	for want, c := range map[string]struct {
		tokens []int32
		want   []int
	}{
		"21 tokens in a session of 20 positions":        {make([]int32, 21), nil},
		"token 2 is 31, and the vocabulary has 0 to 30": {[]int32{1, 2, 31}, nil},
		"token 0 is -1":               {[]int32{-1}, nil},
		"after the tokens [3] of 3":   {[]int32{1, 2, 3}, []int{3}},
		"after the tokens [-1] of 3":  {[]int32{1, 2, 3}, []int{-1}},
		"after the tokens [2 1] of 3": {[]int32{1, 2, 3}, []int{2, 1}},
		"after the tokens [0] of 0":   {nil, []int{0}},
	} {
		if _, err := s.Read(t.Context(), c.tokens, c.want...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := s.Read(t.Context(), make([]int32, 21)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long text: %v", err)
	}
	if !slices.Equal(read(t, s, good, 19), before) {
		t.Error("an error changed the session")
	}
	if h, err := s.Read(t.Context(), nil); err != nil || h.Rows() != 0 {
		t.Errorf("an empty text: %d rows, %v", h.Rows(), err)
	}
}

// The same index may be asked for twice.
func TestAskingTwice(t *testing.T) {
	m := small(t, true)
	tokens := text(300, m.Vocabulary, 1)
	got := read(t, session(t, m, 300, 2), tokens, 5, 5, 255, 256, 256)
	want := read(t, session(t, m, 300, 1), tokens, 5, 255, 256)
	v := m.Vocabulary
	if !slices.Equal(got, slices.Concat(want[:v], want[:v], want[v:2*v], want[2*v:], want[2*v:])) {
		t.Error("other bits")
	}
}

func TestLogitsOfSomeTokens(t *testing.T) {
	m := small(t, false)
	h, err := session(t, m, 10, 1).Read(t.Context(), []int32{1, 2, 3}, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	every := h.Logits(1)
	for i, v := range h.Logits(1, 30, 4, 4) {
		if v != every[[]int{30, 4, 4}[i]] {
			t.Errorf("logit %d is %v, of all it is %v", i, v, every[[]int{30, 4, 4}[i]])
		}
	}
}

// Sessions over one model, and over one that is being trained, may read at once.
func TestManySessionsReadAtOnce(t *testing.T) {
	m := small(t, true)
	tr, err := m.TrainChanges(lowRank(t, m, 2, "blk.0.attn_q", "blk.2.ffn_up"))
	if err != nil {
		t.Fatal(err)
	}
	texts := make([][]int32, 8)
	plain, changed := make([][]uint32, len(texts)), make([][]uint32, len(texts))
	for i := range texts {
		texts[i] = text(40*(i+1), m.Vocabulary, uint64(i))
		plain[i] = read(t, session(t, m, m.Context, 1), texts[i], len(texts[i])-1)
		changed[i] = read(t, session(t, tr.Model, m.Context, 1), texts[i], len(texts[i])-1)
	}
	fresh := small(t, true) // whose table of rotations is yet to grow
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			model, want := fresh, plain
			if g%3 == 2 {
				model, want = tr.Model, changed
			}
			s, err := model.NewSession(m.Context, 1+g%2)
			if err != nil {
				t.Error(err)
				return
			}
			for n := range len(texts) {
				i := (n*5 + g) % len(texts)
				h, err := s.Read(context.Background(), texts[i], len(texts[i])-1)
				if err != nil {
					t.Error(err)
					return
				}
				for j, v := range h.Logits(0) {
					if math.Float32bits(v) != want[i][j] {
						t.Errorf("text %d gives other bits beside other sessions", i)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
