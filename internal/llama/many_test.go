package llama

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Texts that are written at once have the very tokens and log-probabilities that each has by itself, whatever its length.
func TestManyAreWrittenAsIfAlone(t *testing.T) {
	for name, m := range map[string]*Model{"numbers": small(t, false), "codes": load(t, quantized(t, false), false)} {
		names := make(pieces, m.Vocabulary)
		for i := range names {
			names[i] = string(rune('a' + i%26))
		}
		tokens := text(min(300, m.Context-50), m.Vocabulary, 4) // more than a chunk, where there is room
		for _, threads := range []int{1, 2, 16} {               // 16: more than there are heads
			for _, n := range []int{1, 2, 5, 8} {
				var options []GenerateOptions
				for i := range n {
					options = append(options, GenerateOptions{Most: 1 + 9*i%40, Temperature: .5 + .2*float64(i), Seed: uint64(i), TopLogProbs: i % 3, Pieces: names, Stop: []string{"qq"}})
				}
				s := session(t, m, len(tokens)+45, threads)
				got, err := s.GenerateMany(t.Context(), tokens, options)
				if err != nil {
					t.Fatal(err)
				}
				for i, o := range options {
					var want []Token
					for tok, err := range session(t, m, len(tokens)+45, threads).Generate(t.Context(), tokens, o) {
						if err != nil {
							t.Fatal(err)
						}
						want = append(want, tok)
					}
					if diff := cmp.Diff(want, got[i]); diff != "" {
						t.Fatalf("%s, %d threads, text %d of %d:\n%s", name, threads, i, n, diff)
					}
				}
				// The session goes on as if nothing had been written.
				a, err := s.Read(t.Context(), append(slices.Clone(tokens), 1, 2, 3), len(tokens)+2)
				if err != nil {
					t.Fatal(err)
				}
				b, err := session(t, m, len(tokens)+45, threads).Read(t.Context(), append(slices.Clone(tokens), 1, 2, 3), len(tokens)+2)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(a.Logits(0), b.Logits(0)) {
					t.Fatalf("%s: the session reads otherwise afterwards", name)
				}
			}
		}
	}
}

func TestManyRefuse(t *testing.T) {
	m := small(t, true)
	s := session(t, m, 50, 1)
	if _, err := s.GenerateMany(t.Context(), text(10, 31, 1), nil); err == nil {
		t.Error("no options are accepted")
	}
	if _, err := s.GenerateMany(t.Context(), nil, make([]GenerateOptions, 2)); err == nil {
		t.Error("an empty text goes on")
	}
	if _, err := s.GenerateMany(t.Context(), text(51, 31, 1), make([]GenerateOptions, 2)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a text that is too long: %v", err)
	}
	if _, err := s.GenerateMany(t.Context(), text(10, 31, 1), []GenerateOptions{{}, {Temperature: -1}}); err == nil {
		t.Error("a negative temperature is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.GenerateMany(ctx, text(10, 31, 1), make([]GenerateOptions, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	// As many as there is room for, to the last position.
	all, err := s.GenerateMany(t.Context(), text(45, 31, 1), make([]GenerateOptions, 2))
	if err != nil || len(all[0]) != 6 || all[0][5].Finish != Length {
		t.Errorf("%d tokens after 45 of 50 (error %v), want 6", len(all[0]), err)
	}
	// More texts than the session has positions.
	if all, err := session(t, m, 4, 1).GenerateMany(t.Context(), text(3, 31, 1), make([]GenerateOptions, 9)); err != nil || len(all[8]) != 2 {
		t.Errorf("9 texts in a session of 4 positions: %v, error %v", all, err)
	}
	broken := small(t, true)
	broken.norm[0] = float32(math.NaN())
	if _, err := session(t, broken, 50, 1).GenerateMany(t.Context(), text(10, 31, 1), make([]GenerateOptions, 2)); !errors.Is(err, ErrNotFinite) {
		t.Errorf("logits that are not finite: %v", err)
	}
}
