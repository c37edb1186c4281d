package rltrainer

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/simulate"
)

// school teaches adapters over the base model that travels with the program.
type school struct {
	base    *engine.Model
	workers int
}

func newSchool(t testing.TB) school {
	t.Helper()
	m, err := engine.Open(engine.Options{Trainable: true})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return school{m, 2}
}

func (s school) Model() event.Model {
	m, err := s.base.Identity(context.Background())
	if err != nil {
		panic(err) // of an open model there is none
	}
	return m
}

func (s school) Settings() string { return fmt.Sprint(s.workers, " workers") }

func (s school) Begin(o LearnerOptions) (AdapterLearner, error) {
	l, err := s.base.NewAdapter(engine.AdapterOptions{From: o.From, Seed: o.Seed, Note: o.Note,
		Learn: learn.Options{Optimiser: learn.AdamW{Rate: o.Rate}, Schedule: learn.Trapezoid(o.Steps, 2, .3, .03), Workers: s.workers, Run: o.Run}})
	return pupil{l}, err
}

func (s school) Open(adapter string) (RankerCloser, error) {
	return engine.Open(engine.Options{Adapter: adapter})
}

type pupil struct{ *engine.Learner }

func (p pupil) Steps() int               { return p.Trainer().Steps() }
func (p pupil) Save(path string) error   { return p.Trainer().Save(path) }
func (p pupil) Resume(path string) error { return p.Trainer().Resume(path) }
func (p pupil) Thoughts() ThoughtLearner { return thinking{p, p.Writer()} }

// past is a history in memory.
type past struct {
	decisions []event.Decision
	rewards   []event.Reward
	forgotten map[string]event.Time
}

func (h *past) Forgotten(context.Context) (map[string]event.Time, error) { return h.forgotten, nil }

func (h *past) Mark(context.Context) (Mark, error) {
	return json.Marshal([2]int{len(h.decisions), len(h.rewards)})
}

func (h *past) Rewards(_ context.Context, since event.Time, before Mark, f func(event.Reward) error) (int, error) {
	return give(before, 1, h.rewards, f)
}

func (h *past) Decisions(_ context.Context, since event.Time, before Mark, f func(event.Decision) error) (int, error) {
	return give(before, 0, h.decisions, f)
}

func give[T any](before Mark, which int, all []T, f func(T) error) (int, error) {
	var ends [2]int
	if err := json.Unmarshal(before, &ends); err != nil {
		return 0, err
	}
	for _, v := range all[:ends[which]] {
		if err := f(v); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// start of the history, and the day after it, when rounds begin.
const (
	started = event.Time(1_700_000_000_000)
	later   = started + 86_400_000
)

// live logs n decisions by a model: users want what has a high share of their categories, whatever else speaks for an item,
// or, where want is given, that.
func (h *past) live(t testing.TB, n int, m Ranker, who event.Model, seed uint64, want func(c event.Candidate) float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	service := simulate.Service{Model: m, Identity: who, Temperature: 1.5}
	if want == nil {
		want = func(c event.Candidate) float64 { return .9 * c.Evidence.Category * c.Evidence.Category }
	}
	for i := range n {
		c := toyContext(r, 6)
		at := started + event.Time(1000*(len(h.decisions)+1))
		d, err := service.Decide(t.Context(), fmt.Sprint("d", len(h.decisions)), fmt.Sprint("u", i%(1+n/2)), at, c, r.Uint64()>>11)
		must(t, err)
		h.decisions = append(h.decisions, d)
		user := simulate.User{Stays: .8, Wants: func(item string) float64 { return want(c.Candidates[d.Context.Candidate(item)]) }}
		h.rewards = append(h.rewards, user.Browse(d, r)...)
	}
}

// setting is everything that a round stands on.
type setting struct {
	RoundOptions
	school school
	past   *past
	log    *adapters.Log
	store  *adapters.Store
}

func newSetting(t *testing.T) setting {
	t.Helper()
	kc, err := broker.New(broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}})
	must(t, err)
	t.Cleanup(kc.Close)
	must(t, kc.EnsureTopics(t.Context(), broker.Topics{Partitions: 1}))
	log, err := adapters.NewLog(kc.NewWriter(broker.Adapters), nil)
	must(t, err)
	t.Cleanup(func() { must(t, log.Close()) })
	store, err := adapters.OpenStore(t.Context(), "mem://")
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	s := setting{school: newSchool(t), past: &past{}, log: log, store: store}
	now := later
	s.RoundOptions = RoundOptions{
		Dir: t.TempDir(), History: s.past, Log: log, Store: store, Teacher: s.school, Seed: 1,
		Now:   func() time.Time { now++; return now.Std() },
		Learn: LearnOptions{Least: 100, SFTSteps: 6, SFTRate: 3e-3, Steps: 24, Rate: 2e-3, Batch: 32, Beta: .15, Checkpoint: 4},
		Gate:  GateOptions{Detect: .1},
	}
	return s
}

// value is what slot 1 earns by a model in the long run.
func value(t *testing.T, m Ranker, want func(event.Candidate) float64) (sum float64) {
	t.Helper()
	const n = 300
	r := rand.New(rand.NewPCG(99, 1))
	for range n {
		c := toyContext(r, 6)
		p, err := iot.Build(iot.FullFigures, c, r.Uint64())
		must(t, err)
		shares, err := m.Rank(t.Context(), p)
		must(t, err)
		best := 0
		for i := range shares {
			if shares[i] > shares[best] {
				best = i
			}
		}
		sum += want(c.Candidates[best]) / n
	}
	return sum
}

// A round promotes what earns more, and what it promotes does earn more with users it has never seen.
func TestARoundPromotesWhatEarnsMore(t *testing.T) {
	s := newSetting(t)
	s.past.live(t, 1600, s.school.base, s.school.Model(), 1, nil)
	told := map[string]bool{}
	s.Told = func(doing string, _, _ int) { told[doing] = true }
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Verdict != Promoted || report.Training != 800 || report.Held != 800 || report.Gate == nil || len(report.Policy) != 24 {
		t.Fatalf("%+v", report)
	}
	state, err := s.log.State(t.Context())
	must(t, err)
	if state.Candidate != report.Adapter || state.Share != .1 || state.Used != s.past.decisions[1599].Timestamp {
		t.Errorf("the log says %+v", state)
	}
	path, manifest, err := s.store.Fetch(t.Context(), report.Adapter, t.TempDir())
	must(t, err)
	if len(manifest.Canaries) != canaries || manifest.Parent != "" || len(manifest.Report) == 0 {
		t.Errorf("the manifest has %d canaries, parent %q, report %s", len(manifest.Canaries), manifest.Parent, manifest.Report)
	}
	adapted, err := engine.Open(engine.Options{Adapter: path})
	must(t, err)
	defer adapted.Close()
	want := func(c event.Candidate) float64 { return .9 * c.Evidence.Category * c.Evidence.Category }
	if before, after := value(t, s.school.base, want), value(t, adapted, want); after < before+.02 {
		t.Errorf("slot 1 earned %.3f before, and %.3f by what was promoted", before, after)
	}
	for _, ext := range []string{".json", ".svg"} {
		if info, err := os.Stat(ReportPath(s.Dir, report) + ext); err != nil || info.Size() == 0 {
			t.Errorf("report %s: %v", ext, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("the round left %v, %v; want its reports only", left, err)
	}
	for _, doing := range []string{"reading decisions and rewards", "fitting on what was chosen", "following the policy gradient", "the gate", "publishing"} {
		if !told[doing] {
			t.Errorf("nobody was told of %s", doing)
		}
	}

	again, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if again.Verdict != Waiting || !strings.Contains(again.Reason, "is being rolled out to 10 %") {
		t.Errorf("while an adapter is rolled out: %s, %s", again.Verdict, again.Reason)
	}
}

// What a gate refused is in the log, and its decisions are not used by a gate again.
func TestARoundThatIsRefused(t *testing.T) {
	s := newSetting(t)
	s.Gate.Detect = .2
	fickle := func(c event.Candidate) float64 { return .9 * (1 - c.Evidence.Category) }
	s.past.live(t, 800, s.school.base, s.school.Model(), 1, nil)
	s.past.live(t, 800, s.school.base, s.school.Model(), 2, fickle) // what was learned is wrong by now
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Verdict != Refused || report.Gate.DR.High > 0 {
		t.Fatalf("%s: %s", report.Verdict, report.Reason)
	}
	state, err := s.log.State(t.Context())
	must(t, err)
	used := s.past.decisions[1599].Timestamp
	if state.Current != "" || state.Candidate != "" || state.Gates != 1 || state.Used != used {
		t.Errorf("after a refusal the log says %+v", state)
	}

	again, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if again.Verdict != NothingToLearn {
		t.Errorf("without new decisions: %s, %s", again.Verdict, again.Reason)
	}
	s.past.live(t, 1200, s.school.base, s.school.Model(), 3, nil)
	third, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if third.Training != 2200 || third.Held != 600 || third.Gate == nil || third.Gate.Round != 2 || third.Gate.After < used || third.Gate.Alpha >= report.Gate.Alpha {
		t.Errorf("the next look: %d to learn from, %d held out, %+v", third.Training, third.Held, third.Gate)
	}
}

// Too few decisions are an answer of its own: nobody is judged, and nothing is used up.
func TestARoundWithTooFewDecisions(t *testing.T) {
	s := newSetting(t)
	s.past.live(t, 240, s.school.base, s.school.Model(), 1, nil)
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Verdict != Underpowered {
		t.Fatalf("%s: %s", report.Verdict, report.Reason)
	}
	s.Learn.Least = 200
	fewer, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if fewer.Verdict != NothingToLearn || !strings.Contains(fewer.Reason, "120 decisions to learn from") {
		t.Errorf("%s: %s", fewer.Verdict, fewer.Reason)
	}
	state, err := s.log.State(t.Context())
	must(t, err)
	if len(state.Entries) != 0 {
		t.Errorf("the log says %+v", state)
	}
}

// Where the base model is another than that of the adapter which is current, servers rank with the bare one, whose decisions
// teach nothing about that adapter. The way out is told, and taken.
func TestARoundRefusesAnAdapterOfAnotherBase(t *testing.T) {
	s := newSetting(t)
	s.past.live(t, 400, s.school.base, s.school.Model(), 1, nil)
	former, foreign := strings.Repeat("b", 64), strings.Repeat("a", 64)
	p := event.Promotion{Kind: event.Promote, Adapter: foreign, Share: 1, Base: former, Readout: "lines", Prompt: 2, Timestamp: later, Reason: "of another base"}
	say := func(p event.Promotion) {
		state, counts, err := s.log.Append(t.Context(), p)
		must(t, err)
		if !counts {
			t.Fatalf("%+v", state.Entries)
		}
	}
	say(p)
	_, err := RunRound(t.Context(), s.RoundOptions)
	if err == nil || !strings.Contains(err.Error(), "adapter aaaaaaaaaaaa, which is current, was learned over the base model bbbbbbbbbbbb") ||
		!strings.Contains(err.Error(), "r2rec adapters rollback --to base") {
		t.Fatalf("%v", err)
	}
	p.Kind, p.Adapter, p.Parent, p.Share = event.RollBack, "", foreign, 0
	say(p)
	if report, err := RunRound(t.Context(), s.RoundOptions); err != nil || report.Verdict == NothingToLearn {
		t.Errorf("after the roll-back: %+v, %v", report, err)
	}
}
