package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// models are the base model and random ones, by readout and prompt version.
func models(t *testing.T) map[string]Options {
	t.Helper()
	out := map[string]Options{"base": {}}
	for _, readout := range []Readout{Lines, Verdicts, Letters, Pointwise} {
		for _, version := range []int{iot.Words, iot.FullFigures} {
			o := toyOptions(t, 1)
			o.Readout, o.PromptVersion = readout, version
			out[fmt.Sprintf("%s %d", readout, version)] = Options{Path: toyModel(t, o)}
		}
	}
	return out
}

// A ranking is a distribution, and the same to the last bit whatever the model was asked before and how long its
// sessions have become.
func TestRankDoesNotDependOnWhatWasAskedBefore(t *testing.T) {
	for name, o := range models(t) {
		t.Run(name, func(t *testing.T) {
			o.Concurrency = 1
			m := open1(t, o)
			prompts := toyPrompts(t, m.identity.PromptVersion, 12)
			var want [][]float64
			for _, p := range prompts {
				shares := rank(t, open1(t, o), p)
				sum := 0.
				for _, s := range shares {
					sum += math.Exp(s)
				}
				if len(shares) != len(p.Letters) || math.Abs(sum-1) > 1e-9 {
					t.Fatalf("%d shares of %d candidates sum to %v", len(shares), len(p.Letters), sum)
				}
				want = append(want, shares)
			}
			r := rand.New(rand.NewPCG(1, 1))
			for range 4 {
				for _, i := range r.Perm(len(prompts)) {
					if got := rank(t, m, prompts[i]); !slices.Equal(got, want[i]) {
						t.Fatalf("prompt %d has the shares %v, and %v where it is the first", i, got, want[i])
					}
				}
			}
		})
	}
}

// Concurrent callers get what one gets, also where there are fewer sessions than callers.
func TestRankConcurrently(t *testing.T) {
	o := Options{Concurrency: 3}
	m, prompts := open1(t, o), toyPrompts(t, iot.FullFigures, 16)
	want := make([][]float64, len(prompts))
	for i, p := range prompts {
		want[i] = rank(t, m, p)
	}
	var group sync.WaitGroup
	for k := range 8 {
		group.Go(func() {
			for j := range prompts {
				i := (j*(2*k+1) + k) % len(prompts)
				got, err := m.Rank(t.Context(), prompts[i])
				if err != nil || !slices.Equal(got, want[i]) {
					t.Errorf("prompt %d: %v, %v; alone %v", i, got, err, want[i])
				}
			}
		})
	}
	group.Wait()
}

// Shares come in the order of the context, whatever letters the candidates have.
func TestRankFollowsTheContext(t *testing.T) {
	for name, o := range models(t) {
		m := open1(t, o)
		c, _ := toyContext(rand.New(rand.NewPCG(2, 2)), 9)
		p := toyPrompt(t, m.identity.PromptVersion, c, 7)
		want := rank(t, m, p)
		slices.Reverse(want)
		p.Letters = slices.Clone(p.Letters)
		slices.Reverse(p.Letters) // the same text read for the reversed context
		if got := rank(t, m, p); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// The base model reads evidence: what leads by every digit leads, wherever the shuffle puts it.
func TestBaseReadsEvidence(t *testing.T) {
	m := open1(t, Options{})
	c, chosen := toyContext(rand.New(rand.NewPCG(3, 3)), 20)
	e := &c.Candidates[chosen].Evidence
	e.SimilarLast, e.Together, e.Popularity, e.Category = 1, 1, 50, 1
	e.After[0], e.Recent[1], e.Ages[3], e.Near[1], e.RecentAny[1], e.Latent = 1, 1, 1, 1, 1, [2]float64{1, 1}
	for seed := range uint64(20) {
		shares := rank(t, m, toyPrompt(t, iot.FullFigures, c, seed))
		if best := slices.Index(shares, slices.Max(shares)); best != chosen {
			t.Errorf("seed %d: candidate %d leads with %v, want %d with %v", seed, best, shares[best], chosen, shares[chosen])
		}
	}
}

func TestRankStopsWhenTold(t *testing.T) {
	m := open1(t, Options{Concurrency: 1})
	p := toyPrompts(t, iot.FullFigures, 3)[2]
	want := rank(t, m, p)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 { // with and without a session being free the answer is the same
		if shares, err := m.Rank(gone, p); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, %v; want that the caller gave up", shares, err)
		}
	}
	busy, err := m.sessions.take(t.Context(), nil) // nobody else gets it
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := m.Rank(ctx, p)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("who waited for a session got %v", err)
	}
	m.sessions.giveBack(busy)
	if got := rank(t, m, p); !slices.Equal(got, want) {
		t.Errorf("after those who gave up: %v, before %v", got, want)
	}
}

func TestRankRefusesWhatItCannotRead(t *testing.T) {
	o := toyOptions(t, 1)
	o.Shape.Context = 300
	short := open1(t, Options{Path: toyModel(t, o), Concurrency: 1})
	long := toyPrompt(t, iot.FullFigures, func() (c event.Context) { c, _ = toyContext(rand.New(rand.NewPCG(1, 2)), 20); return }(), 1)
	fits := toyPrompts(t, iot.FullFigures, 1)[0]
	for range 3 { // each gives its session back
		if _, err := short.Rank(t.Context(), long); !errors.Is(err, lm.ErrPromptTooLong) {
			t.Errorf("a prompt of %d bytes for a context of 300: %v", len(long.Text), err)
		}
		rank(t, short, fits)
	}
	many, none, twice, beyond, backwards := fits, fits, fits, long, long
	many.Letters, none.Letters, twice.Letters = make([]byte, 21), nil, []byte("AB")
	beyond.Content.Ends, backwards.Content.Ends = slices.Clone(long.Content.Ends), slices.Clone(long.Content.Ends)
	beyond.Content.Ends[19] = len(long.Text) + 1
	slices.Reverse(backwards.Content.Ends)
	for name, o := range models(t) {
		m := open1(t, o)
		wrong := map[string]iot.Prompt{"nothing": {}, "21 candidates": many, "no candidates": none}
		if m.reader.readout == Lines {
			wrong["a candidate without a line"], wrong["a line beyond the text"], wrong["lines backwards"] = twice, beyond, backwards
		}
		for what, p := range wrong {
			if shares, err := m.Rank(t.Context(), p); !errors.Is(err, lm.ErrNonsense) {
				t.Errorf("%s, %s: %v, %v", name, what, shares, err)
			}
		}
	}
}

// Where a line does not end between two tokens, nothing could be asked there.
func TestRankNeedsLinesThatEnd(t *testing.T) {
	m := open1(t, Options{})
	p := toyPrompts(t, iot.FullFigures, 2)[1]
	p.Content.Ends = slices.Clone(p.Content.Ends)
	p.Content.Ends[0] = 3 // within a word of the heading
	_, err := m.Rank(t.Context(), p)
	if !errors.Is(err, lm.ErrNonsense) {
		t.Errorf("%v", err)
	}
}

// What a trainer elsewhere is told to read is what is read here: the whole prompt, and lines that end where they end.
func TestReading(t *testing.T) {
	for name, o := range models(t) {
		m := open1(t, o)
		for _, p := range toyPrompts(t, m.identity.PromptVersion, 6) {
			tokens, ends, err := m.Reading(p)
			if m.reader.readout == Pointwise {
				if err == nil {
					t.Errorf("%s: a text for each candidate is read as one", name)
				}
				continue
			}
			must(t, err)
			if len(ends) != len(p.Letters) || m.reader.tokenizer.Decode(tokens[1:]) != p.Text && m.reader.tokenizer.Decode(tokens) != p.Text {
				t.Fatalf("%s: %d lines of %d candidates, tokens %d", name, len(ends), len(p.Letters), tokens)
			}
			read, err := m.reader.read(p)
			must(t, err)
			if m.reader.readout == Lines && !slices.Equal(read.want, ends) || !slices.Equal(read.tokens, tokens[:len(read.tokens)]) {
				t.Errorf("%s: lines end at the tokens %d, served by %d", name, ends, read.want)
			}
			for i, end := range ends {
				if text := m.reader.tokenizer.Decode(tokens[:end+1]); len(text) < p.Content.Ends[i] || text[len(text)-8:] != p.Text[p.Content.Ends[i]-8:p.Content.Ends[i]] {
					t.Errorf("%s: line %d ends in %q", name, i, text)
				}
			}
		}
	}
}

// A prompt that the model cannot read whole is not taught to it elsewhere either, by whichever readout.
func TestReadingRefusesWhatCannotBeRead(t *testing.T) {
	for _, readout := range []Readout{Lines, Letters} {
		o := toyOptions(t, 1)
		o.Readout, o.PromptVersion, o.Shape.Context = readout, iot.Words, 300
		m := open1(t, Options{Path: toyModel(t, o)})
		c, _ := toyContext(rand.New(rand.NewPCG(1, 2)), 20)
		if _, _, err := m.Reading(toyPrompt(t, iot.Words, c, 1)); !errors.Is(err, lm.ErrPromptTooLong) {
			t.Errorf("%s: a prompt longer than the model's context: %v", readout, err)
		}
		short := toyPrompt(t, iot.Words, event.Context{Candidates: c.Candidates[:1]}, 1)
		if _, _, err := m.Reading(short); err != nil {
			t.Errorf("%s: %v", readout, err)
		}
		short.Content.Ends = []int{len(short.Text) + 1}
		if _, _, err := m.Reading(short); err == nil {
			t.Errorf("%s: lines that end beyond the text are read", readout)
		}
	}
}

// What a server would state is found among the likeliest tokens: with all tokens stated every share is, and
// otherwise exactly those of which the least likely token is likely enough.
func TestStatedIsWhatTheLikeliestTokensTell(t *testing.T) {
	for _, readout := range []Readout{Verdicts, Letters} {
		o := toyOptions(t, 1)
		o.Readout = readout
		m := open1(t, Options{Path: toyModel(t, o)})
		p := toyPrompts(t, iot.FullFigures, 3)[2]
		words := []string{" yes", " no"}
		for _, last := range []int{1, 20, 100, m.tokenizer.Size()} {
			stated, err := m.Stated(t.Context(), p, last)
			must(t, err)
			for i, letter := range p.Letters {
				text := p.Text
				if readout == Letters {
					words = []string{" " + string(letter)}
				} else {
					text = p.Text[:p.Content.Ends[letter-'A']]
				}
				var ids [][]int32
				for id := range m.tokenizer.Size() {
					ids = append(ids, []int32{int32(id)})
				}
				logs, err := m.LogProbs(t.Context(), text, ids)
				must(t, err)
				want := true
				for _, w := range words {
					id, _ := m.tokenizer.ID(w)
					above := 0
					for _, l := range logs {
						if l[0] > logs[id][0] {
							above++
						}
					}
					want = want && above < last
				}
				if stated[i] != want {
					t.Errorf("%s, %d likeliest: candidate %d is stated: %v, want %v", readout, last, i, stated[i], want)
				}
			}
		}
	}
	pointwise := toyOptions(t, 1)
	pointwise.Readout = Pointwise
	if _, err := open1(t, Options{Path: toyModel(t, pointwise)}).Stated(t.Context(), toyPrompts(t, iot.FullFigures, 1)[0], 20); !errors.Is(err, lm.ErrNonsense) {
		t.Errorf("pointwise: %v", err)
	}
}
