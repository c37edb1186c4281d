package rltrainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
)

// fault makes the n-th call fail of all that a round makes of what it stands on: with its effect, or without.
type fault struct {
	mu    sync.Mutex
	left  int
	after bool // the call had its effect, and only its answer is lost
	with  error
}

var errKilled = errors.New("killed")

func call[T any](f *fault, do func() (T, error)) (T, error) {
	f.mu.Lock()
	f.left--
	turn := f.left == 0
	f.mu.Unlock()
	var none T
	if turn && !f.after {
		return none, f.with
	}
	v, err := do()
	if turn {
		return none, f.with
	}
	return v, err
}

func act(f *fault, do func() error) error {
	_, err := call(f, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// at makes everything that the round stands on faulty.
func (s setting) at(f *fault) RoundOptions {
	o := s.RoundOptions
	o.History, o.Log, o.Store, o.Teacher = faultyHistory{o.History, f}, faultyLog{o.Log, f}, faultyStore{o.Store, f}, faultyTeacher{o.Teacher, f}
	return o
}

type faultyHistory struct {
	History
	f *fault
}

func (h faultyHistory) Mark(ctx context.Context) (Mark, error) {
	return call(h.f, func() (Mark, error) { return h.History.Mark(ctx) })
}

func (h faultyHistory) Rewards(ctx context.Context, since event.Time, before Mark, f func(event.Reward) error) (int, error) {
	return call(h.f, func() (int, error) { return h.History.Rewards(ctx, since, before, f) })
}

func (h faultyHistory) Decisions(ctx context.Context, since event.Time, before Mark, f func(event.Decision) error) (int, error) {
	return call(h.f, func() (int, error) { return h.History.Decisions(ctx, since, before, f) })
}

func (h faultyHistory) Forgotten(ctx context.Context) (map[string]event.Time, error) {
	return call(h.f, func() (map[string]event.Time, error) { return h.History.Forgotten(ctx) })
}

type faultyLog struct {
	AdapterLog
	f *fault
}

func (l faultyLog) State(ctx context.Context) (adapters.State, error) {
	return call(l.f, func() (adapters.State, error) { return l.AdapterLog.State(ctx) })
}

func (l faultyLog) Append(ctx context.Context, p event.Promotion) (s adapters.State, counted bool, err error) {
	s, err = call(l.f, func() (s adapters.State, err error) {
		s, counted, err = l.AdapterLog.Append(ctx, p)
		return s, err
	})
	return s, counted, err
}

type faultyStore struct {
	AdapterStore
	f *fault
}

func (s faultyStore) Put(ctx context.Context, path string, m adapters.Manifest) (string, error) {
	return call(s.f, func() (string, error) { return s.AdapterStore.Put(ctx, path, m) })
}

type faultyTeacher struct {
	Teacher
	f *fault
}

func (t faultyTeacher) Begin(o LearnerOptions) (AdapterLearner, error) {
	return call(t.f, func() (AdapterLearner, error) {
		l, err := t.Teacher.Begin(o)
		return faultyLearner{l, t.f}, err
	})
}

func (t faultyTeacher) Open(adapter string) (RankerCloser, error) {
	return call(t.f, func() (RankerCloser, error) { return t.Teacher.Open(adapter) })
}

type faultyLearner struct {
	AdapterLearner
	f *fault
}

func (l faultyLearner) Save(path string) error {
	return act(l.f, func() error { return l.AdapterLearner.Save(path) })
}

func (l faultyLearner) Resume(path string) error {
	return act(l.f, func() error { return l.AdapterLearner.Resume(path) })
}

func (l faultyLearner) Write(w io.Writer) error {
	return act(l.f, func() error { return l.AdapterLearner.Write(w) })
}

// counting are the records that count.
func counting(t *testing.T, l *adapters.Log) (kinds []event.PromotionKind) {
	t.Helper()
	state, err := l.State(t.Context())
	must(t, err)
	for _, e := range state.Entries {
		if e.Void == "" {
			kinds = append(kinds, e.Record.Kind)
		}
	}
	return kinds
}

// brief makes a setting whose rounds take little time and end with a verdict; with another one's history, if there is one.
func brief(t *testing.T, like *setting) setting {
	s := newSetting(t)
	if like == nil {
		s.past.live(t, 560, s.school.base, s.school.Model(), 1, nil)
	} else {
		s.past, s.History = like.past, like.past
	}
	s.Learn.SFTSteps, s.Learn.Steps, s.Learn.Batch, s.Learn.Checkpoint, s.Gate.Detect = 4, 8, 16, 2, .3
	return s
}

// Wherever a round ends, killed or on a full disk, the next one goes on from there and ends as one that nothing disturbed:
// the same adapter, to the bit, in the log once.
func TestARoundGoesOnWhereverItEnds(t *testing.T) {
	undisturbed := brief(t, nil)
	want, err := RunRound(t.Context(), undisturbed.RoundOptions)
	must(t, err)
	if want.Adapter == "" {
		t.Fatalf("%s: %s", want.Verdict, want.Reason)
	}
	for name, f := range map[string]*fault{"a full disk, or killed before a call had its effect": {with: syscall.ENOSPC}, "killed after it": {with: errKilled, after: true}} {
		t.Run(name, func(t *testing.T) {
			n := 1
			for ; ; n++ {
				s := brief(t, &undisturbed)
				_, err := RunRound(t.Context(), s.at(&fault{left: n, after: f.after, with: f.with}))
				if err == nil {
					break
				}
				if !errors.Is(err, f.with) {
					t.Fatalf("with call %d failing: %v", n, err)
				}
				report, err := RunRound(t.Context(), s.RoundOptions)
				if err != nil {
					t.Fatalf("after call %d had failed: %v", n, err)
				}
				if report.Adapter != want.Adapter || report.Verdict != want.Verdict || len(report.Policy) != len(want.Policy) {
					t.Errorf("after call %d had failed: %s %s with %d steps, undisturbed %s %s with %d", n, report.Verdict, report.Adapter, len(report.Policy), want.Verdict, want.Adapter, len(want.Policy))
				}
				if kinds := counting(t, s.log); len(kinds) != 1 {
					t.Errorf("after call %d had failed, the log has %v that count, want one", n, kinds)
				}
			}
			if n < 20 {
				t.Errorf("only %d calls could fail", n-1)
			}
		})
	}
}

// Of two trainers at once, which no lease keeps apart, one at most gets its adapter promoted, and the other one is told.
func TestTwoTrainersAtOnce(t *testing.T) {
	s := newSetting(t)
	s.past.live(t, 1600, s.school.base, s.school.Model(), 1, nil)
	s.Gate.Detect = .2
	reports := make([]*Report, 2)
	var both errgroup.Group
	for i := range reports {
		o := s.RoundOptions
		o.Dir, o.Seed, o.Teacher = t.TempDir(), uint64(i+1), newSchool(t)
		now := later
		o.Now = func() time.Time { now++; return now.Std() }
		both.Go(func() (err error) {
			reports[i], err = RunRound(t.Context(), o)
			return err
		})
	}
	must(t, both.Wait())
	verdicts := map[Verdict]int{reports[0].Verdict: 1}
	verdicts[reports[1].Verdict]++
	if verdicts[Promoted] != 1 || verdicts[Waiting] != 1 {
		t.Errorf("%s (%s) and %s (%s)", reports[0].Verdict, reports[0].Reason, reports[1].Verdict, reports[1].Reason)
	}
	if kinds := counting(t, s.log); len(kinds) != 1 || kinds[0] != event.Promote {
		t.Errorf("the log has %v that count", kinds)
	}
}

// A round that was under way when another adapter became current begins anew.
func TestARoundOfAnotherWorldBeginsAnew(t *testing.T) {
	s := brief(t, nil)
	if _, err := RunRound(t.Context(), s.at(&fault{left: 12, with: errKilled})); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	o := s.RoundOptions
	o.Dir, o.Share, o.Seed = t.TempDir(), 1, 7
	other, err := RunRound(t.Context(), o)
	must(t, err)
	if other.Verdict != Promoted {
		t.Fatalf("%s: %s", other.Verdict, other.Reason)
	}
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Parent != other.Adapter || report.Verdict != NothingToLearn {
		t.Errorf("the round began with %q and ended %s (%s); %q is current and has made no decision", report.Parent, report.Verdict, report.Reason, other.Adapter)
	}
}

// killedFitting is killed after it kept its first checkpoint.
func (s setting) killedFitting(t *testing.T) {
	t.Helper()
	o := s.RoundOptions
	o.Teacher = faultyTeacher{o.Teacher, &fault{left: 3, after: true, with: errKilled}} // begun, nothing to resume, saved
	if _, err := RunRound(t.Context(), o); !errors.Is(err, errKilled) || !there(filepath.Join(s.Dir, checkpointFile)) || there(filepath.Join(s.Dir, fittedFile)) {
		t.Fatalf("it was not killed while it was fitted: %v", err)
	}
}

// A round whose input has shrunk, since Kafka deleted the oldest, learns anew from what is left; so does one whose note was removed.
func TestARoundGoesOnWithoutWhatIsDeleted(t *testing.T) {
	for what, meanwhile := range map[string]func(s setting){
		"deleted": func(s setting) { s.past.decisions = s.past.decisions[40:] },
		"removed": func(s setting) { must(t, os.Remove(filepath.Join(s.Dir, noteFile))) },
	} {
		s := brief(t, nil)
		s.killedFitting(t)
		meanwhile(s)
		report, err := RunRound(t.Context(), s.RoundOptions)
		must(t, err)
		if report.Adapter == "" || report.Fitted.First == 0 || len(report.Policy) != s.Learn.Steps {
			t.Errorf("%s: %s (%s), fitted %+v, %d steps", what, report.Verdict, report.Reason, report.Fitted, len(report.Policy))
		}
	}
}

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

// What was fitted before a round was killed stands in its report: the loss of the first step, too.
func TestTheReportKnowsTheWholeFit(t *testing.T) {
	s := brief(t, nil)
	want, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	k := brief(t, &s)
	k.killedFitting(t)
	report, err := RunRound(t.Context(), k.RoundOptions)
	must(t, err)
	if report.Fitted != want.Fitted {
		t.Errorf("the report says %+v, and without a break %+v", report.Fitted, want.Fitted)
	}
}

// A round that was killed after its record, before its end, has its report; the one that was asked for with other options runs
// all the same, and is what is told of.
func TestARoundAfterOneThatIsInTheLog(t *testing.T) {
	s := brief(t, nil)
	o := s.RoundOptions
	o.Log = faultyLog{o.Log, &fault{left: 3, after: true, with: errKilled}} // read, read again, appended
	if _, err := RunRound(t.Context(), o); !errors.Is(err, errKilled) || len(counting(t, s.log)) != 1 {
		t.Fatalf("it was not killed after its record: %v", err)
	}
	o = s.RoundOptions
	o.Seed = 9
	report, err := RunRound(t.Context(), o)
	must(t, err)
	files, err := filepath.Glob(filepath.Join(s.Dir, reportsFolder, "*.json"))
	must(t, err)
	state, err := s.log.State(t.Context())
	must(t, err)
	if len(files) != 2 || report.Adapter == state.Entries[0].Record.Adapter {
		t.Errorf("%d reports, want both rounds'; what is told of: %s, %q (%s)", len(files), report.Verdict, report.Adapter, report.Reason)
	}
}

// meanwhileLog has somebody else's record come while a round computes.
type meanwhileLog struct {
	AdapterLog
	reads int
	at    int
	do    func()
}

func (l *meanwhileLog) State(ctx context.Context) (adapters.State, error) {
	if l.reads++; l.reads == l.at {
		l.do()
	}
	return l.AdapterLog.State(ctx)
}

// A look that another gate has taken meanwhile is not taken twice: the error that it may make is shared out among looks.
func TestALookIsTakenOnce(t *testing.T) {
	s := brief(t, nil)
	l := &meanwhileLog{AdapterLog: s.log, at: 2} // read at the beginning, and before the record
	l.do = func() {
		_, counted, err := s.log.Append(t.Context(), event.Promotion{Kind: event.Refuse, Adapter: strings.Repeat("b", 64), Base: s.school.Model().Digest, Readout: s.school.Model().Readout,
			Prompt: s.school.Model().PromptVersion, Timestamp: later, Reason: "elsewhere",
			Gate: &event.Gate{Round: 1, Decisions: 100, Users: 50, Alpha: .0304, After: started, Until: started + 1000}})
		must(t, err)
		if !counted {
			t.Fatal("the other's record does not count")
		}
	}
	o := s.RoundOptions
	o.Log = l
	report, err := RunRound(t.Context(), o)
	must(t, err)
	if report.Verdict != Waiting || !strings.Contains(report.Reason, "another gate has used decisions meanwhile") || len(counting(t, s.log)) != 1 {
		t.Errorf("%s: %s", report.Verdict, report.Reason)
	}
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
