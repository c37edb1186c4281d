package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// A text is the same whatever is written beside it, and by its tokens and log-probabilities what the model says it is.
func TestWrite(t *testing.T) {
	m := open1(t, Options{Path: toyModel(t, toyOptions(t, 1))})
	prompt := toyPrompts(t, iot.Words, 3)[2].Text
	o := lm.WriteOptions{Most: 12, Temperature: 1, Seed: 5}
	all, err := m.Write(t.Context(), prompt, 4, o)
	must(t, err)
	one, err := m.Write(t.Context(), prompt, 1, o)
	must(t, err)
	if diff := cmp.Diff(all[:1], one); diff != "" {
		t.Errorf("alone it is another text:\n%s", diff)
	}
	if all[0].Text == all[1].Text {
		t.Error("two texts are drawn alike")
	}
	var tokens [][]int32
	for _, w := range all {
		if len(w.Tokens) == 0 || len(w.Tokens) > o.Most || len(w.Tokens) != len(w.LogProbs) || !w.Whole && len(w.Tokens) != o.Most {
			t.Errorf("written: %+v", w)
		}
		tokens = append(tokens, w.Tokens)
	}
	logs, err := m.LogProbs(t.Context(), prompt, tokens)
	must(t, err)
	for i, w := range all {
		for j, l := range w.LogProbs {
			if math.Abs(l-logs[i][j]) > 1e-4 {
				t.Errorf("text %d, token %d: log-probability %v, read again %v", i, j, l, logs[i][j])
			}
		}
	}
	if logs, err := m.LogProbs(t.Context(), prompt, [][]int32{nil, tokens[0]}); err != nil || len(logs[0]) != 0 || len(logs[1]) != len(tokens[0]) {
		t.Errorf("of an empty continuation: %v, %v", logs, err)
	}
	if _, err := m.LogProbs(t.Context(), prompt, [][]int32{{1 << 20}}); !errors.Is(err, lm.ErrNonsense) {
		t.Errorf("of a token that is none: %v", err)
	}
	stopped, err := m.Write(t.Context(), prompt, 1, lm.WriteOptions{Most: 12, Temperature: 1, Seed: 5, Stop: []string{all[0].Text[3:5]}})
	must(t, err)
	if !stopped[0].Whole || strings.Contains(stopped[0].Text, all[0].Text[3:5]) || !strings.HasPrefix(all[0].Text, stopped[0].Text) {
		t.Errorf("stopped at %q: %+v", all[0].Text[3:5], stopped[0])
	}
}

// Whoever gives up while the last token is drawn gets the text, or is told: never neither.
func TestWriteIsGivenUpAtItsEnd(t *testing.T) {
	m := open1(t, Options{Path: toyModel(t, toyOptions(t, 1))})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all, err := m.Write(ctx, toyPrompts(t, iot.Words, 1)[0].Text, 2, lm.WriteOptions{Most: 1, Guide: iot.Guide{Next: func(string) string {
		cancel()
		return ""
	}}})
	if ctx.Err() == nil || len(all) != 2 && !errors.Is(err, context.Canceled) {
		t.Errorf("%d texts and %v", len(all), err)
	}
}

// What a guide gives stands in the text where it gave it, and is told apart; the rest is as free as before.
func TestWriteByAGuide(t *testing.T) {
	m := open1(t, Options{Path: toyModel(t, toyOptions(t, 1))})
	prompt := toyPrompts(t, iot.Words, 1)[0].Text
	guide := func(written string) string {
		if written == "" || strings.HasSuffix(written, "] B:") {
			return "[1] B:"
		}
		return ""
	}
	all, err := m.Write(t.Context(), prompt, 2, lm.WriteOptions{Most: 40, Temperature: 1, Seed: 5, Guide: iot.Guide{Next: guide}})
	must(t, err)
	for _, w := range all {
		if !strings.HasPrefix(w.Text, "[1] B:[1] B:") || len(w.Given) != len(w.Tokens) || len(w.LogProbs) != len(w.Tokens) {
			t.Fatalf("written: %q, of which is given %v", w.Text, w.Given)
		}
	}
	free, err := m.Write(t.Context(), prompt, 1, lm.WriteOptions{Most: 12, Temperature: 1, Seed: 5})
	must(t, err)
	unmoved, err := m.Write(t.Context(), prompt, 1, lm.WriteOptions{Most: 12, Temperature: 1, Seed: 5, Guide: iot.Guide{Next: func(string) string { return "" }}})
	must(t, err)
	if diff := cmp.Diff(free, unmoved); diff != "" || slices.Contains(free[0].Given, true) {
		t.Errorf("a guide that gives nothing changes the text:\n%s", diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	m := open1(t, Options{Path: toyModel(t, toyOptions(t, 1))})
	for _, o := range []lm.WriteOptions{{}, {Most: 3, Temperature: -1}, {Most: 3, Stop: []string{""}}} {
		if _, err := m.Write(t.Context(), "x", 1, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := m.Write(t.Context(), "x", 0, lm.WriteOptions{Most: 1}); err == nil {
		t.Error("no text is written")
	}
	if _, err := m.Write(t.Context(), strings.Repeat("word ", m.Shape().Context), 1, lm.WriteOptions{Most: 3}); !errors.Is(err, lm.ErrPromptTooLong) {
		t.Errorf("too long a prompt: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Write(ctx, "some words", 2, lm.WriteOptions{Most: 3}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// What is learned of a completion is written then, to its end.
func TestLearnTexts(t *testing.T) {
	o := toyOptions(t, 1)
	o.Learn.Optimiser.Rate = 2e-2
	l, err := NewModel(o)
	must(t, err)
	prompts := toyPrompts(t, iot.Words, 2)
	says := []string{" A\nreason", " B\nanother"}
	var batch []lm.TextLesson
	for i, p := range prompts {
		batch = append(batch, lm.TextLesson{Text: p.Text, Continuations: []lm.Continuation{{Tokens: l.Completion(says[i])}}})
	}
	var loss []float64
	for range 150 {
		p, err := l.LearnTexts(t.Context(), batch)
		must(t, err)
		loss = append(loss, p.Loss)
	}
	for i, p := range prompts {
		got, err := l.Writer().Write(t.Context(), p.Text, 1, lm.WriteOptions{Most: len(l.Completion(says[i]))})
		must(t, err)
		if got[0].Text != says[i] || !slices.Equal(got[0].Tokens, l.Completion(says[i])) {
			t.Errorf("prompt %d goes on with %q, want %q; the loss went from %v to %v", i, got[0].Text, says[i], loss[0], loss[len(loss)-1])
		}
	}
	if _, err := l.LearnTexts(t.Context(), []lm.TextLesson{{Text: "x"}}); err == nil || !strings.Contains(err.Error(), "lesson 0") {
		t.Errorf("nothing to learn: %v", err)
	}
}
