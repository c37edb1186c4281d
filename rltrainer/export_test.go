package rltrainer

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

// What is exported is what a round would learn from: its prompts, answers and values; the newest stay with the gate.
func TestExport(t *testing.T) {
	s := newSetting(t)
	m, who := s.school.base, s.school.Model()
	who.Readout = string(engine.Letters) // it is read by lines: what ranks does not matter here
	s.past.live(t, 200, m, who, 1, nil)
	state, err := s.log.State(t.Context())
	must(t, err)
	o := ExportOptions{History: s.past, State: state, Model: who, Now: s.Now, Read: m.Reading}
	var out []Exported
	rep, err := Export(t.Context(), o, func(x Exported) error { out = append(out, x); return nil })
	must(t, err)

	joined := Join(s.past.decisions, s.past.rewards, JoinOptions{Model: who})
	training, held := cut(joined.Rollouts, judges(joined.Rollouts, 0, "", 0), .5)
	if len(out) != len(training) || rep.Rollouts != len(out) || rep.Held != len(held) || rep.Before != held[0].Decision.Timestamp || len(held) < 50 {
		t.Fatalf("%d of %d rollouts, report %+v; want the %d before %s", len(out), len(joined.Rollouts), rep, len(training), held[0].Decision.Timestamp)
	}
	q, err := FitClicks(training, Folds)
	must(t, err)
	tasks, err := Prepare(t.Context(), m, training, q.Q, TaskOptions{})
	must(t, err)
	weights, chosen := 0., 0
	for i, x := range out {
		r := training[i]
		p, err := iot.Build(who.PromptVersion, r.Decision.Context, r.Decision.Seed)
		must(t, err)
		scores, err := m.Rank(t.Context(), p)
		must(t, err)
		if x.Prompt != p.Text || x.Completion != " "+string(rune(p.Letters[r.First])) || x.Completions[r.First] != x.Completion || x.Reward != r.Reward || x.Chosen != r.Chosen {
			t.Fatalf("rollout %d is %+v, want that of %+v", i, x, r)
		}
		if math.Abs(x.LogProbability-math.Log(r.Decision.Slate[0].Probability)) > 1e-12 || !slices.Equal(x.Values, tasks[i].Values) {
			t.Fatalf("rollout %d: log-probability %v, values %v, want %v", i, x.LogProbability, x.Values, tasks[i].Values)
		}
		for k, s := range scores {
			if math.Abs(x.Reference[k]-s) > 1e-9 {
				t.Fatalf("rollout %d: the model's log-shares are %v, want %v", i, x.Reference, scores)
			}
		}
		if len(x.Tokens) == 0 {
			t.Fatalf("rollout %d has no tokens", i)
		}
		if x.Chosen >= 0 {
			weights, chosen = weights+x.Weight, chosen+1
		} else if x.Weight != 0 {
			t.Fatalf("rollout %d has no choice, and weight %v", i, x.Weight)
		}
	}
	if chosen == 0 || chosen != rep.Choices || math.Abs(weights/float64(chosen)-1) > 1e-9 {
		t.Errorf("%d choices of mean weight %v, report says %d", chosen, weights/float64(chosen), rep.Choices)
	}

	o.Model.Readout = string(engine.Lines)
	if _, err := Export(t.Context(), o, func(Exported) error { return nil }); !errors.Is(err, ErrNoLetters) {
		t.Errorf("lines are exported: %v", err)
	}
}

// The newest decisions are left to judge by, though an adapter made all of them, and none is current.
func TestRewardedLeavesTheNewest(t *testing.T) {
	s := newSetting(t)
	who := s.school.Model()
	who.Readout = string(engine.Letters)
	s.past.live(t, 200, s.school.base, who, 1, nil)
	for i := range s.past.decisions {
		s.past.decisions[i].Model.Adapter = "a"
	}
	all := Join(s.past.decisions, s.past.rewards, JoinOptions{Model: who}).Rollouts
	learn, held := Split(all, .2)
	questions, rep, err := Rewarded(t.Context(), ExportOptions{History: s.past, Model: who, Now: s.Now, Held: .2})
	if err != nil || len(held) < 20 || len(questions) != len(learn) || rep.Held != len(held) || rep.Before != held[0].Decision.Timestamp {
		t.Errorf("%d questions of %d decisions, %+v, %v; want the %d before %s", len(questions), len(all), rep, err, len(learn), held[0].Decision.Timestamp)
	}
}

// An adapter that was learned elsewhere goes through the gate by decisions it was not learned from, and only by those.
func TestARoundJudgesWhatWasLearnedElsewhere(t *testing.T) {
	s := newSetting(t)
	base, err := s.school.Open("")
	must(t, err)
	defer base.Close()
	s.past.live(t, 1600, base, s.school.Model(), 1, nil)

	elsewhere := newSetting(t) // the same round, in another place: what it learns is what comes back
	elsewhere.RoundOptions.History = s.past
	report, err := RunRound(t.Context(), elsewhere.RoundOptions)
	must(t, err)
	if report.Verdict != Promoted {
		t.Fatalf("elsewhere: %s, %s", report.Verdict, report.Reason)
	}
	path, _, err := elsewhere.store.Fetch(t.Context(), report.Adapter, t.TempDir())
	must(t, err)

	joined := Join(s.past.decisions, s.past.rewards, JoinOptions{Model: s.school.Model()})
	_, held := cut(joined.Rollouts, judges(joined.Rollouts, 0, "", 0), .5)
	o := s.RoundOptions
	o.Import = Import{Path: path, Before: held[0].Decision.Timestamp}
	got, err := RunRound(t.Context(), o)
	must(t, err)
	if got.Verdict != Promoted || got.Adapter != report.Adapter || got.Held != len(held) || *got.Gate != *report.Gate {
		t.Errorf("imported: %s (%s), by %d decisions, gate %+v; want what the gate elsewhere said: %+v", got.Verdict, got.Reason, got.Held, got.Gate, report.Gate)
	}

	// Nothing was decided since: the gate has nothing to go by.
	late := newSetting(t)
	o = late.RoundOptions
	o.History = s.past
	o.Import = Import{Path: path, Before: later}
	if got, err = RunRound(t.Context(), o); err != nil || got.Verdict != NothingToLearn {
		t.Errorf("without a decision since: %+v, %v", got, err)
	}
	o.Import.Path = filepath.Join(t.TempDir(), "none.gguf")
	if _, err := RunRound(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	// A file that is no adapter of this model is refused before anybody is judged.
	o.Import = Import{Path: filepath.Join(t.TempDir(), "other.gguf"), Before: event.Time(1)}
	must(t, gguf.WriteFile(o.Import.Path, func(io.Writer) error { return nil }))
	if _, err := RunRound(t.Context(), o); err == nil {
		t.Error("an empty file is judged")
	}
}
