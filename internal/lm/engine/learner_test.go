package engine

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
)

// scores says how often a ranker's first candidate is the right one, and the cross-entropy in nats.
func scores(t *testing.T, r ranker, lessons []lm.Lesson) (first, crossEntropy float64) {
	t.Helper()
	for _, l := range lessons {
		shares := rank(t, r, l.Prompt)
		if slices.Index(shares, slices.Max(shares)) == l.Chosen {
			first += 1 / float64(len(lessons))
		}
		crossEntropy -= shares[l.Chosen] / float64(len(lessons))
	}
	return first, crossEntropy
}

func teach(t *testing.T, l *Learner, steps int) {
	t.Helper()
	lessons := toyLessons(t, iot.FullFigures, 1, 600, 6)
	for step := range steps {
		at := step * 16 % 592
		p, err := l.Learn(t.Context(), lessons[at:at+16])
		must(t, err)
		if p.Step != step+1 || p.Skipped != 0 || p.Tokens == 0 || !(p.Loss > 0) || !(p.Gradient > 0) || !(p.Rate > 0) {
			t.Fatalf("step %d: %+v", step+1, p)
		}
	}
}

// A model that began with random weights learns to choose the candidate whose first digit is 9, on prompts that it has not
// seen, and is the same once it was written and opened: up to its rounding to F16.
func TestNewModelLearns(t *testing.T) {
	held := toyLessons(t, iot.FullFigures, 2, 100, 6)
	l, err := NewModel(toyOptions(t, 1))
	must(t, err)
	if first, entropy := scores(t, l, held); first > .5 || math.Abs(entropy-math.Log(6)) > .3 {
		t.Errorf("before it learned, %.2f are right, at %.2f nats", first, entropy)
	}
	teach(t, l, 150)
	first, entropy := scores(t, l, held)
	if first < .95 || entropy > .4 {
		t.Errorf("after it learned, %.2f are right, at %.2f nats", first, entropy)
	}
	m := open1(t, Options{Path: writeFile(t, "learned.gguf", l.Write)})
	wantClose(t, m, l, held, .02)
}

// wantClose wants two rankers to agree within a tolerance in nats.
func wantClose(t *testing.T, a, b ranker, lessons []lm.Lesson, tolerance float64) {
	t.Helper()
	worst := 0.
	for _, l := range lessons {
		x, y := rank(t, a, l.Prompt), rank(t, b, l.Prompt)
		for i := range x {
			worst = max(worst, math.Abs(x[i]-y[i]))
		}
	}
	if worst > tolerance {
		t.Errorf("log-shares differ by up to %.2g, more than %.2g", worst, tolerance)
	}
}

// The loss of a step is the cross-entropy of what Rank says, and with letters and verdicts also what it takes to say one.
func TestLearnTellsTheLossOfWhatRankSays(t *testing.T) {
	for _, readout := range []Readout{Lines, Verdicts, Letters, Pointwise} {
		o := toyOptions(t, 1)
		o.Readout = readout
		l, err := NewModel(o)
		must(t, err)
		lessons := toyLessons(t, iot.FullFigures, 4, 12, 7)
		_, before := scores(t, l, lessons)
		speechless := silence(t, l, lessons)
		for range 20 {
			p, err := l.Learn(t.Context(), lessons)
			must(t, err)
			if math.Abs(p.Loss-before-speechless) > 1e-4 {
				t.Errorf("%s: the loss is %v, the cross-entropy before the step %v, and %v to say an answer", readout, p.Loss, before, speechless)
			}
			_, before = scores(t, l, lessons)
			speechless = silence(t, l, lessons)
		}
		if before > math.Log(7)-.1 {
			t.Errorf("%s: nothing was learned by heart: %v nats", readout, before)
		}
		if speechless > 1 {
			t.Errorf("%s: %v nats to say an answer: it was not learned", readout, speechless)
		}
	}
}

// silence is the mean -log probability that the next token is one of the prompt's letters, or a verdict; 0 where none is said.
func silence(t *testing.T, l *Learner, lessons []lm.Lesson) (nats float64) {
	t.Helper()
	if l.reader.readout != Letters && l.reader.readout != Verdicts {
		return 0
	}
	for _, lesson := range lessons {
		text, err := l.reader.read(lesson.Prompt)
		must(t, err)
		s, err := l.trainable.NewSession(len(text.tokens), 1)
		must(t, err)
		hidden, err := s.Read(t.Context(), text.tokens, text.want...)
		must(t, err)
		for place := range text.want {
			all, answers := 0., 0.
			for _, z := range hidden.Logits(place) {
				all += math.Exp(float64(z))
			}
			for _, z := range hidden.Logits(place, text.ids...) {
				answers += math.Exp(float64(z))
			}
			nats += math.Log(all/answers) / float64(len(lessons)*len(text.want))
		}
	}
	return nats
}

// An adapter starts as no change at all, learns, and ranks the same once it was written and opened again. There it is
// merged into the weights, which rounds in another order: 1e-4 nats.
func TestNewAdapterLearns(t *testing.T) {
	for name, o := range map[string]AdapterOptions{
		"every layer": {Seed: 3},
		"some layers": {Rank: 4, Alpha: 3, Targets: []string{"attn_q", "ffn_down", "attn_q"}, Note: "for a test"},
	} {
		m := open1(t, Options{Trainable: true})
		held := toyLessons(t, iot.FullFigures, 2, 40, 6)
		o.Learn = learn.Options{Optimiser: learn.AdamW{Rate: 5e-3}, Workers: 2}
		l, err := m.NewAdapter(o)
		must(t, err)
		wantClose(t, m, l, held, 0)
		_, before := scores(t, m, held)
		teach(t, l, 25)
		_, after := scores(t, l, held)
		t.Log(before, after)
		if after > before-.3 {
			t.Errorf("%s: %.2f nats before it learned, %.2f after", name, before, after)
		}
		path := writeFile(t, "adapter.gguf", l.Write)
		wantClose(t, open1(t, Options{Adapter: path}), l, held, 1e-4)
		wantClose(t, m, open1(t, Options{}), held, 0) // the model stays as it was
		a, err := lora.Read(path)
		must(t, err)
		want := lora.Manifest{BaseDigest: digest(t, base, nil), Readout: "lines", PromptVersion: iot.FullFigures, TokenizerDigest: m.tokenizer.Digest(),
			Seed: o.Seed, Steps: 25, Note: o.Note}
		if a.Manifest != want {
			t.Errorf("%s: manifest %+v, want %+v", name, a.Manifest, want)
		}
		if layers := len(m.weights.Linears()); name == "every layer" && (a.Rank != 8 || a.Alpha != 16 || len(a.Pairs) != 2*layers) ||
			name == "some layers" && (a.Rank != 4 || a.Alpha != 3 || len(a.Pairs) != 4) {
			t.Errorf("%s: rank %d, alpha %v, %d layers", name, a.Rank, a.Alpha, len(a.Pairs))
		}
	}
}

// The same seed gives the same bytes, another one others.
func TestLearningIsReproducible(t *testing.T) {
	made := func(seed uint64) []byte {
		l, err := NewModel(toyOptions(t, seed))
		must(t, err)
		teach(t, l, 3)
		var b bytes.Buffer
		must(t, l.Write(&b))
		return b.Bytes()
	}
	if first := made(1); !bytes.Equal(first, made(1)) || bytes.Equal(first, made(2)) {
		t.Error("the file is not its seed's")
	}
}

func TestLearnRefusesWhatTeachesNothing(t *testing.T) {
	l, err := NewModel(toyOptions(t, 1))
	must(t, err)
	good := toyLessons(t, iot.FullFigures, 1, 2, 6)
	held := toyLessons(t, iot.FullFigures, 2, 5, 6)
	before := make([][]float64, len(held))
	for i := range held {
		before[i] = rank(t, l, held[i].Prompt)
	}
	at := func(chosen int) []lm.Lesson { return []lm.Lesson{good[0], {Prompt: good[1].Prompt, Chosen: chosen}} }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx   context.Context
		batch []lm.Lesson
		want  string
	}{
		{t.Context(), nil, "empty batch"},
		{t.Context(), at(-1), "lesson 1 of the batch: candidate -1 was chosen, and the prompt has 6"},
		{t.Context(), at(6), "lesson 1 of the batch: candidate 6 was chosen, and the prompt has 6"},
		{t.Context(), []lm.Lesson{{}}, "lesson 0 of the batch: it has 0 candidates"},
		{gone, good, "context canceled"},
	} {
		if p, err := l.Learn(tc.ctx, tc.batch); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v, %v; want %q", p, err, tc.want)
		}
	}
	if _, err := l.Rank(gone, good[0].Prompt); !errors.Is(err, context.Canceled) {
		t.Errorf("a ranking that nobody waits for: %v", err)
	}
	for i := range held {
		if !slices.Equal(before[i], rank(t, l, held[i].Prompt)) {
			t.Error("it has learned from what was refused")
		}
	}
	if l.Trainer().Steps() != 0 {
		t.Errorf("%d steps were taken", l.Trainer().Steps())
	}
}

func TestNewAdapterRefuses(t *testing.T) {
	path := toyModel(t, toyOptions(t, 1))
	m := open1(t, Options{Path: path, Trainable: true})
	for want, o := range map[string]AdapterOptions{
		"rank -1: must be 1 to 16": {Rank: -1},
		"rank 17: must be 1 to 16": {Rank: 17},
		"alpha -2":                 {Alpha: -2},
		"alpha NaN":                {Alpha: math.NaN()},
		`target "attention": must be one of [attn`: {Targets: []string{"attn_q", "attention"}},
		"changes no layer":                         {Targets: []string{}},
		"rate of learning is -1":                   {Learn: learn.Options{Optimiser: learn.AdamW{Rate: -1}}},
	} {
		if _, err := m.NewAdapter(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", o, err, want)
		}
	}
	if _, err := open1(t, Options{Path: path}).NewAdapter(AdapterOptions{}); err == nil || !strings.Contains(err.Error(), "loaded for reading only") {
		t.Errorf("a model that was not opened to be trained: %v", err)
	}
	adapted := open1(t, Options{Path: path, Adapter: toyAdapter(t, path), Trainable: true})
	if _, err := adapted.NewAdapter(AdapterOptions{}); err == nil || !strings.Contains(err.Error(), "open it without") {
		t.Errorf("a model with an adapter: %v", err)
	}
}

func TestNewModelRefuses(t *testing.T) {
	for want, change := range map[string]func(*ModelOptions){
		"prompt of version 0":                func(o *ModelOptions) { o.PromptVersion = 0 },
		"prompt of version 5":                func(o *ModelOptions) { o.PromptVersion = 5 },
		`readout ""`:                         func(o *ModelOptions) { o.Readout = "" },
		"spread of the embedding":            func(o *ModelOptions) { o.Spread = 0 },
		"layers is 0":                        func(o *ModelOptions) { o.Shape.Layers = 0 },
		`the vocabulary has no token " yes"`: func(o *ModelOptions) { o.Tokens = toyVocabulary(t, " yes", " no") },
		"rate of learning is -1":             func(o *ModelOptions) { o.Learn.Optimiser.Rate = -1 },
	} {
		o := toyOptions(t, 1)
		change(&o)
		if _, err := NewModel(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
