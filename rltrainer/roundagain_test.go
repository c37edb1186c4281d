package rltrainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
)

// A look that the gate has taken is told to the log with its own verdict, also where the next round is begun otherwise, or has to
// wait: its decisions are not looked at again as if nobody had.
func TestALookIsNotLost(t *testing.T) {
	s := brief(t, nil)
	unpublished := func(s setting) event.Gate {
		o := s.RoundOptions
		o.Log = faultyLog{o.Log, &fault{left: 3, with: errKilled}} // it reads twice, and does not append
		if _, err := RunRound(t.Context(), o); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(s.Dir, noteFile))
		must(t, err)
		var n note
		must(t, json.Unmarshal(raw, &n))
		if n.Gate == nil || !n.Passed {
			t.Fatalf("the note is %s", raw)
		}
		return *n.Gate
	}
	look := unpublished(s)
	o := s.RoundOptions
	o.Share, o.Seed, o.Learn.Steps = .3, 7, 9
	report, err := RunRound(t.Context(), o)
	must(t, err)
	state, err := s.log.State(t.Context())
	must(t, err)
	if len(state.Entries) != 1 || *state.Entries[0].Record.Gate != look || state.Share != .1 || report.Verdict != Waiting {
		t.Errorf("%s: %s; the log says %+v, want the look %+v with the share it was taken for", report.Verdict, report.Reason, state, look)
	}
	_, m, err := s.store.Fetch(t.Context(), state.Candidate, t.TempDir())
	must(t, err)
	if m.Seed != s.Seed {
		t.Errorf("the manifest has seed %d, want %d", m.Seed, s.Seed)
	}

	waits := brief(t, &s)
	look = unpublished(waits)
	waits.past.live(t, 40, s.school.base, s.school.Model(), 2, nil) // a later round would look at these, too
	who := s.school.Model()
	other := event.Promotion{Kind: event.Promote, Adapter: strings.Repeat("b", 64), Share: .5, Base: who.Digest, Readout: who.Readout, Prompt: who.PromptVersion, Timestamp: later, Reason: "by hand"}
	say := func(p event.Promotion) {
		t.Helper()
		state, counts, err := waits.log.Append(t.Context(), p)
		must(t, err)
		if !counts {
			t.Fatalf("%+v", state.Entries)
		}
	}
	say(other)
	if report, err = RunRound(t.Context(), waits.RoundOptions); err != nil || report.Verdict != Waiting {
		t.Fatalf("during another's roll-out: %+v, %v", report, err)
	}
	other.Kind, other.Parent, other.Adapter, other.Share = event.RollBack, other.Adapter, "", 0
	say(other)
	report, err = RunRound(t.Context(), waits.RoundOptions)
	must(t, err)
	if report.Verdict != Promoted || *report.Gate != look {
		t.Errorf("after another's roll-out: %s: %s, by %+v, want %+v", report.Verdict, report.Reason, report.Gate, look)
	}
}

// What kills left of files that were being written goes with the round, and nothing else does.
func TestARoundLeavesNoParts(t *testing.T) {
	s := brief(t, nil)
	o := s.RoundOptions
	o.Log = faultyLog{o.Log, &fault{left: 3, with: errKilled}}
	if _, err := RunRound(t.Context(), o); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(s.Dir, noteFile))
	must(t, err)
	var n note
	must(t, json.Unmarshal(raw, &n))
	report := ReportPath(s.Dir, &n.Report)
	must(t, os.MkdirAll(filepath.Dir(report), 0o700))
	part := func(path string) string {
		return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".1234567890")
	}
	foreign := filepath.Join(s.Dir, ".adapter.gguf.mine")
	for _, path := range []string{part(s.Dir + "/" + noteFile), part(s.Dir + "/" + checkpointFile), part(s.Dir + "/" + fittedFile), part(s.Dir + "/" + adapterFile), part(report + ".json"), foreign} {
		must(t, os.WriteFile(path, nil, 0o600))
	}
	ended, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if ReportPath(s.Dir, ended) != report {
		t.Fatalf("the report is at %s, not at %s", ReportPath(s.Dir, ended), report)
	}
	var left []string
	must(t, filepath.WalkDir(s.Dir, func(path string, e os.DirEntry, err error) error {
		if !e.IsDir() {
			left = append(left, path)
		}
		return err
	}))
	if want := []string{foreign, report + ".json", report + ".svg"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

// A checkpoint that is damaged, and a round of other settings than those that it was begun with, begin anew what they are about.
func TestARoundBeginsAnewWhatCannotGoOn(t *testing.T) {
	for what, meanwhile := range map[string]func(s *setting){
		"damaged": func(s *setting) {
			must(t, os.WriteFile(filepath.Join(s.Dir, checkpointFile), []byte("no checkpoint, whatever its name says"), 0o600))
		},
		"with more workers": func(s *setting) { s.Teacher = school{s.school.base, 3} },
		"of topics that are no more": func(s *setting) {
			mark, err := s.past.Mark(t.Context())
			must(t, err)
			s.past.live(t, 1, s.school.base, s.school.Model(), 2, nil)
			s.History = madeAgain{s.past, mark}
		},
	} {
		s := brief(t, nil)
		s.killedFitting(t)
		meanwhile(&s)
		report, err := RunRound(t.Context(), s.RoundOptions)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if report.Adapter == "" || report.Fitted.First == 0 || len(report.Policy) != s.Learn.Steps {
			t.Errorf("%s: %s (%s), fitted %+v, %d steps", what, report.Verdict, report.Reason, report.Fitted, len(report.Policy))
		}
	}
}

// madeAgain is a history of topics that were made again after a mark.
type madeAgain struct {
	History
	gone Mark
}

func (h madeAgain) Decisions(ctx context.Context, since event.Time, before Mark, f func(event.Decision) error) (int, error) {
	if string(before) == string(h.gone) {
		return 0, ErrInputGone
	}
	return h.History.Decisions(ctx, since, before, f)
}

// A round whose learning diverges would do so again: it is given up, and the next one takes what there is then.
func TestARoundThatDivergesIsGivenUp(t *testing.T) {
	s := brief(t, nil)
	o := s.RoundOptions
	o.Teacher = wild{s.school}
	if _, err := RunRound(t.Context(), o); !errors.Is(err, learn.ErrDiverged) || !strings.Contains(err.Error(), "this round is given up") {
		t.Fatalf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	s.past.live(t, 40, s.school.base, s.school.Model(), 2, nil)
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Adapter == "" || report.Read.Decisions != len(s.past.decisions) {
		t.Errorf("%s: %s, by %d decisions of %d", report.Verdict, report.Reason, report.Read.Decisions, len(s.past.decisions))
	}
}

// wild learners diverge at their third step.
type wild struct{ Teacher }

func (t wild) Begin(o LearnerOptions) (AdapterLearner, error) {
	l, err := t.Teacher.Begin(o)
	return wildLearner{l}, err
}

type wildLearner struct{ AdapterLearner }

func (l wildLearner) Learn(ctx context.Context, batch []lm.Lesson) (lm.Progress, error) {
	p, err := l.AdapterLearner.Learn(ctx, batch)
	if p.Step == 3 {
		return p, fmt.Errorf("step 3: %w", learn.ErrDiverged)
	}
	return p, err
}

// stumbling learners skip some steps, as those do whose gradient is not finite.
type stumbling struct {
	Teacher
	skip func(step int) bool
}

func (t stumbling) Begin(o LearnerOptions) (AdapterLearner, error) {
	l, err := t.Teacher.Begin(o)
	return &stumbler{AdapterLearner: l, skip: t.skip}, err
}

type stumbler struct {
	AdapterLearner
	skip    func(step int) bool
	skipped int
}

func (l *stumbler) Learn(ctx context.Context, batch []lm.Lesson) (lm.Progress, error) {
	p, err := l.AdapterLearner.Learn(ctx, batch)
	if l.skip(p.Step) {
		l.skipped++
		p.Loss, p.Gradient = math.NaN(), math.Inf(1)
	}
	p.Skipped = l.skipped
	return p, err
}

// A step that is skipped for want of a finite gradient is told as skipped, and the round goes on to its verdict.
func TestARoundOutlivesSkippedSteps(t *testing.T) {
	s := brief(t, nil)
	s.Teacher = stumbling{s.school, func(step int) bool { return step == 1 || step == 4 }} // the last of fitting is one
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	fitted := report.Fitted
	first, last := report.Smoothed()
	if report.Adapter == "" || fitted.Skipped != 2 || !(fitted.First > 0) || !(fitted.Last > 0) || report.Skipped != 2 || len(report.Policy) != s.Learn.Steps ||
		report.Policy[0] != (PolicyStep{Skipped: true}) || !report.Policy[3].Skipped || report.Policy[1].Skipped || first != report.Policy[1] || last != report.Policy[7] {
		t.Errorf("%s: %s, fitted %+v, steps %+v", report.Verdict, report.Reason, fitted, report.Policy)
	}
	if _, err := os.Stat(ReportPath(s.Dir, report) + ".svg"); err != nil {
		t.Error(err)
	}
}
