package rltrainer

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
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
