package engine

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
)

// crossEntropy is what a lesson without an objective is taught by, written by somebody else.
func crossEntropy(chosen int) lm.Objective {
	return func(scores, gradient []float64) (float64, error) {
		sum := 0.
		for _, s := range scores {
			sum += math.Exp(s)
		}
		for i, s := range scores {
			gradient[i] = math.Exp(s) / sum
		}
		loss := -math.Log(gradient[chosen])
		gradient[chosen]--
		return loss, nil
	}
}

// Scores and gradients of an objective stand in the order of the context, whatever letters the candidates have, in all
// readouts: the cross-entropy of the chosen one, told as an objective, teaches what a lesson without one does.
func TestObjectivesAreInTheOrderOfTheContext(t *testing.T) {
	for _, readout := range []Readout{Lines, Verdicts, Letters, Pointwise} {
		o := toyOptions(t, 1)
		o.Readout = readout
		lessons := toyLessons(t, iot.FullFigures, 1, 8, 6)
		asked := lessons
		lessons = nil
		for _, l := range asked {
			lessons = append(lessons, lm.Lesson{Prompt: l.Prompt, Chosen: -1, Objective: crossEntropy(l.Chosen)})
		}
		plain, err := NewModel(o)
		must(t, err)
		told, err := NewModel(o)
		must(t, err)
		for step := range 10 {
			a, err := plain.Learn(t.Context(), asked)
			must(t, err)
			b, err := told.Learn(t.Context(), lessons)
			must(t, err)
			if math.Abs(a.Loss-b.Loss) > 1e-5 || math.Abs(a.Gradient-b.Gradient) > 1e-4 {
				t.Fatalf("%s, step %d: %+v by the choice, %+v by the objective", readout, step, a, b)
			}
		}
		wantClose(t, plain, told, asked, 1e-3)
	}
}

// What an objective says of the candidates ends the step, and names the lesson; each is asked once a step.
func TestObjectivesThatDoNotFit(t *testing.T) {
	l, err := NewModel(toyOptions(t, 1))
	must(t, err)
	lessons := toyLessons(t, iot.FullFigures, 1, 3, 6)
	var asked atomic.Int32
	for i := range lessons {
		chosen := crossEntropy(lessons[i].Chosen)
		lessons[i].Objective = func(scores, gradient []float64) (float64, error) {
			asked.Add(1)
			return chosen(scores, gradient)
		}
	}
	_, err = l.Learn(t.Context(), lessons)
	must(t, err)
	if n := asked.Load(); n != 3 {
		t.Errorf("3 objectives were asked %d times", n)
	}
	wrong := errors.New("rewards of others")
	lessons[1].Objective = func([]float64, []float64) (float64, error) { return 0, wrong }
	if _, err := l.Learn(t.Context(), lessons); !errors.Is(err, wrong) || !strings.Contains(err.Error(), "example 1 of 3") || l.Trainer().Steps() != 1 {
		t.Errorf("%v, after %d steps", err, l.Trainer().Steps())
	}
}

// An adapter that begins from another ranks as that one does, learns on from there, leaves its file as it was and names it.
func TestAdapterGoesOnFromAnother(t *testing.T) {
	path := toyModel(t, toyOptions(t, 1))
	m := open1(t, Options{Path: path, Trainable: true})
	parent := toyAdapter(t, path)
	before, err := gguf.Open(parent)
	must(t, err)
	defer before.Close()
	held := toyLessons(t, iot.FullFigures, 2, 20, 6)
	l, err := m.NewAdapter(AdapterOptions{From: parent, Seed: 7, Note: "the next", Learn: learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 2}})
	must(t, err)
	wantClose(t, open1(t, Options{Path: path, Adapter: parent}), l, held, 1e-4)
	_, first := scores(t, l, held)
	teach(t, l, 50)
	_, then := scores(t, l, held)
	if then > first-.02 {
		t.Errorf("%.3f nats before, %.3f after 50 steps", first, then)
	}
	grown, err := lora.Read(writeFile(t, "grown.gguf", l.Write))
	must(t, err)
	was, err := lora.Read(parent)
	must(t, err)
	if mf := grown.Manifest; mf.Parent != before.Digest() || mf.Steps != 50 || mf.Seed != 7 || mf.Note != "the next" || grown.Rank != was.Rank || grown.Alpha != was.Alpha {
		t.Errorf("rank %d, alpha %v, %+v", grown.Rank, grown.Alpha, mf)
	}
	after, err := gguf.Open(parent)
	must(t, err)
	defer after.Close()
	if after.Digest() != before.Digest() {
		t.Error("the parent's file has changed")
	}

	// It knows what its parent learned from, and tells what reaches further.
	early, late := event.Past{Before: 1.3e12, Digest: strings.Repeat("0a", 32)}, event.Past{Before: 1.4e12, Digest: strings.Repeat("0b", 32)}
	next := func(from string, learned event.Past) string {
		l, err := m.NewAdapter(AdapterOptions{From: from, LearnedEvents: learned})
		must(t, err)
		return writeFile(t, "next.gguf", l.Write)
	}
	for i, c := range []struct{ first, then, want event.Past }{{early, event.Past{}, early}, {event.Past{}, late, late}, {early, late, late}, {late, early, late}} {
		a, err := lora.Read(next(next("", c.first), c.then))
		must(t, err)
		if a.Manifest.LearnedEvents != c.want {
			t.Errorf("%d: it learned from %+v, want %+v", i, a.Manifest.LearnedEvents, c.want)
		}
	}

	other := toyModel(t, toyOptions(t, 2))
	missing := filepath.Join(t.TempDir(), "missing.gguf")
	for want, o := range map[string]AdapterOptions{
		"rank 4, alpha 0 and targets []":    {From: parent, Rank: 4},
		"rank 0, alpha 8 and targets []":    {From: parent, Alpha: 8},
		"targets [attn_q]: state none":      {From: parent, Targets: []string{"attn_q"}},
		"missing.gguf: no such file":        {From: missing},
		"it does not belong to this model":  {From: toyAdapter(t, other)},
		`metadata key "general.type"`:       {From: path},
		"rate of learning is -1, must be p": {From: parent, Learn: learn.Options{Optimiser: learn.AdamW{Rate: -1}}},
	} {
		if _, err := m.NewAdapter(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// A run that goes on from a parent is its seed's and its batches', as any other.
func TestGoingOnIsReproducible(t *testing.T) {
	path := toyModel(t, toyOptions(t, 1))
	parent := toyAdapter(t, path)
	made := func() []byte {
		l, err := open1(t, Options{Path: path, Trainable: true}).NewAdapter(AdapterOptions{From: parent, Learn: learn.Options{Workers: 2}})
		must(t, err)
		teach(t, l, 3)
		var b bytes.Buffer
		must(t, l.Write(&b))
		return b.Bytes()
	}
	if !bytes.Equal(made(), made()) {
		t.Error("the same parent and lessons give other bytes")
	}
}
