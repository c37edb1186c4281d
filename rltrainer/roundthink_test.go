package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/lm"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/r2rec/r2rec/internal/simulate"
)

// imitating is for how many steps the small model learns what thoughts look like, and that an answer is what the thought speaks for.
const imitating = 400

// thoughtTokens is what servers let the model write in these tests.
const thoughtTokens = 90

// twoWays are two items and a chain to each: which of them is better, only users know.
var twoWays = event.Context{
	Candidates: []event.Candidate{{ItemID: "a", Title: "A", Origin: event.FromChains}, {ItemID: "b", Title: "B", Origin: event.FromChains}},
	Chains:     []event.Chain{{Via: "h", Neighbour: "ann", ItemID: "a", Shared: 2, NeighbourAt: started}, {Via: "h", Neighbour: "bob", ItemID: "b", Shared: 2, NeighbourAt: started}},
	History:    []event.HistoryItem{{ItemID: "h", Title: "H", Timestamp: started}},
}

// thinkingSchool teaches a small model that writes a line about either chain and answers what it leads to, mostly the second.
type thinkingSchool struct {
	path string
	base *engine.Model
}

func newThinkingSchool(t *testing.T) thinkingSchool {
	t.Helper()
	prompts, l := newWriter(t, twoWays, 32, learn.Options{Optimiser: learn.AdamW{Rate: 1e-2}, Workers: 1, Schedule: learn.Trapezoid(imitating, 10, .3, .03)})
	for range imitating {
		var batch []lm.TextLesson
		for _, p := range prompts {
			lesson := lm.TextLesson{Text: p.Thinking()}
			for _, chain := range []int{1, 2, 2} {
				item := chain - 1
				lesson.Continuations = append(lesson.Continuations, lm.Continuation{Tokens: l.Completion(fmt.Sprintf("[%d] %c: Whoever enjoys H may like %s, since it\nAnswer: %c\n\n",
					chain, p.Letters[item], twoWays.Candidates[item].Title, p.Letters[item]))})
			}
			batch = append(batch, lesson)
		}
		_, err := l.LearnTexts(t.Context(), batch)
		must(t, err)
	}
	s := thinkingSchool{path: filepath.Join(t.TempDir(), "toy.gguf")}
	must(t, gguf.WriteFile(s.path, l.Write))
	var err error
	s.base, err = engine.Open(engine.Options{Path: s.path, Trainable: true, Think: thoughtTokens})
	must(t, err)
	t.Cleanup(func() { must(t, s.base.Close()) })
	return s
}

func (s thinkingSchool) Model() event.Model {
	m, err := s.base.Identity(context.Background())
	if err != nil {
		panic(err) // of an open model there is none
	}
	return m
}

func (s thinkingSchool) Settings() string { return "thinks" }

func (s thinkingSchool) Begin(o LearnerOptions) (AdapterLearner, error) {
	l, err := s.base.NewAdapter(engine.AdapterOptions{From: o.From, Rank: 8, Seed: o.Seed, Note: o.Note,
		Learn: learn.Options{Optimiser: learn.AdamW{Rate: o.Rate}, Schedule: learn.Trapezoid(o.Steps, 2, .3, .03), Workers: 1, Run: o.Run}})
	return pupil{l}, err
}

func (s thinkingSchool) Open(adapter string) (RankerCloser, error) {
	return engine.Open(engine.Options{Path: s.path, Adapter: adapter, Think: thoughtTokens})
}

// newThinkingSetting is one whose users want the first item, of 400 decisions by the bare model.
func newThinkingSetting(t *testing.T) (setting, thinkingSchool) {
	t.Helper()
	s, school := newSetting(t), newThinkingSchool(t)
	s.Teacher = school
	s.Learn.Least = 50
	s.Learn.Thoughts = ThoughtOptions{Steps: 16, Batch: 4, Group: 8, Rate: 5e-3, Beta: .02}
	s.Gate = GateOptions{Detect: .3}
	r := rand.New(rand.NewPCG(5, 3))
	service := simulate.Service{Model: school.base, Identity: school.Model(), Temperature: 1, Weight: .05, K: 1}
	for i := range 400 {
		d, err := service.Decide(t.Context(), fmt.Sprint("d", i), fmt.Sprint("u", i), started+event.Time(1000*(i+1)), twoWays, r.Uint64()>>11)
		must(t, err)
		s.past.decisions = append(s.past.decisions, d)
		user := simulate.User{Stays: 1, Wants: func(item string) float64 {
			if item == "a" {
				return .9
			}
			return .1
		}}
		s.past.rewards = append(s.past.rewards, user.Browse(d, r)...)
	}
	return s, school
}

// A model that thinks learns from decisions what to say: what it learned is judged by its own thoughts, and promoted as one that
// thinks.
func TestARoundTeachesThoughts(t *testing.T) {
	s, school := newThinkingSetting(t)
	said := map[string]int{}
	for _, d := range s.past.decisions {
		if d.Model.Think != thoughtTokens {
			t.Fatalf("the decision is by a model that thinks %d tokens", d.Model.Think)
		}
		for _, step := range d.Said {
			said[step.ItemID]++
		}
	}
	if said["b"] < 300 {
		t.Fatalf("the model speaks for %v: the test is about one that speaks for b", said)
	}
	var doing []string
	s.Told = func(what string, _, _ int) {
		if len(doing) == 0 || doing[len(doing)-1] != what {
			doing = append(doing, what)
		}
	}
	report, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if report.Verdict != Promoted || len(report.Thoughts) != 16 || len(report.Policy) != 0 || report.Training != 200 || report.Held != 200 {
		t.Fatalf("%s: %s; %d steps, %d to learn from, %d held\n%+v", report.Verdict, report.Reason, len(report.Thoughts), report.Training, report.Held, report.Thoughts)
	}
	if want := "reading decisions and rewards, learning to think, the gate, measuring canaries, publishing"; strings.Join(doing, ", ") != want {
		t.Errorf("told of %s, want %s", strings.Join(doing, ", "), want)
	}
	if first, last := report.SmoothedThoughts(); !(last.Worth > first.Worth) {
		t.Errorf("answers were worth %.3f at first and %.3f at last", first.Worth, last.Worth)
	}
	state, err := s.log.State(t.Context())
	must(t, err)
	if p, ok := state.Record(report.Adapter); !ok || p.Think != thoughtTokens || p.Prompt != iot.Thoughts {
		t.Errorf("the log says %+v", p)
	}
	picture, err := os.ReadFile(ReportPath(s.Dir, report) + ".svg")
	if err != nil || !strings.Contains(string(picture), "lines that are grounded") {
		t.Errorf("%v, in the picture: %.200s", err, picture)
	}
	path, _, err := s.store.Fetch(t.Context(), report.Adapter, t.TempDir())
	must(t, err)
	m, err := school.Open(path)
	must(t, err)
	defer m.Close()
	better, orders := 0., map[string]bool{}
	for seed := range uint64(20) {
		p, err := iot.Build(iot.Thoughts, twoWays, seed)
		must(t, err)
		if orders[p.Digest] { // a first, or b first
			continue
		}
		orders[p.Digest] = true
		reply, shares, err := m.(Thinker).Think(t.Context(), twoWays, p)
		must(t, err)
		if len(reply.Thought.Steps) == 0 || reply.Thought.Steps[0].ItemID != "a" {
			t.Errorf("what was promoted says %+v", reply.Thought.Steps)
		}
		_, before, err := school.base.Think(t.Context(), twoWays, p)
		must(t, err)
		better += shares[0] - before[0]
	}
	if !(better > 0) {
		t.Errorf("the share of what users want is %.2f nats larger than before, summed over %d prompts", better, len(orders))
	}

	// A round for servers that have it answer at once has nothing to say about it.
	s.Teacher = atOnce{school}
	if waits, err := RunRound(t.Context(), s.RoundOptions); err != nil || waits.Verdict != Waiting {
		t.Errorf("while it is rolled out: %+v, %v", waits, err)
	}
	record, _ := state.Record(report.Adapter)
	record.Kind, record.Share, record.Gate, record.Timestamp = event.Complete, 0, nil, later
	if _, counts, err := s.log.Append(t.Context(), record); err != nil || !counts {
		t.Fatalf("counts: %v, %v", counts, err)
	}
	if _, err := RunRound(t.Context(), s.RoundOptions); err == nil || !strings.Contains(err.Error(), "--think 90") {
		t.Errorf("a round of answers at once over an adapter that thinks: %v", err)
	}
}

// atOnce is a teacher whose servers have the model answer at once.
type atOnce struct{ thinkingSchool }

func (s atOnce) Model() event.Model {
	m := s.thinkingSchool.Model()
	m.Think = 0
	return m
}

// What a thinking model decided does not judge for one that answers at once, nor the reverse.
func TestJudgesThinkAlike(t *testing.T) {
	rollouts := []Rollout{{Decision: event.Decision{Timestamp: 1, Model: &event.Model{Think: 9}}}, {Decision: event.Decision{Timestamp: 2, Model: &event.Model{}}}}
	for think, want := range map[int]event.Time{9: 1, 0: 2} {
		if got := judges(rollouts, 0, "", think); len(got) != 1 || got[0].Decision.Timestamp != want {
			t.Errorf("think %d: %+v", think, got)
		}
	}
}

// Who says another --think than servers have is told so, by rounds and by exports, and teaches nothing meanwhile.
func TestRoundsAreForServersThatThinkAlike(t *testing.T) {
	s := newSetting(t)
	s.past.live(t, 400, s.school.base, s.school.Model(), 1, nil)
	for i := range s.past.decisions {
		s.past.decisions[i].Model.Think = 64
	}
	report, err := RunRound(t.Context(), s.RoundOptions)
	if err != nil || report.Verdict != NothingToLearn || !strings.Contains(report.Reason, "400 decisions could judge, but they were made with --think 64 (the newest), and this is for servers with --think 0") {
		t.Errorf("%+v, %v", report, err)
	}
	who := s.school.Model()
	who.Readout = "letters"
	for i := range s.past.decisions {
		s.past.decisions[i].Model.Readout = "letters"
	}
	_, err = Export(t.Context(), ExportOptions{History: s.past, Model: who, Now: s.Now, Read: s.school.base.Reading}, func(Exported) error { return errors.New("something was exported") })
	if err == nil || !strings.Contains(err.Error(), "say --think as the servers do") {
		t.Errorf("an export: %v", err)
	}
}

// pondering is a policy that thinks its own: it prefers the first candidate, whatever was said before.
type pondering struct{ fail error }

func (p pondering) Thinks() bool { return true }

func (p pondering) Rank(context.Context, iot.Prompt) ([]float64, error) {
	return nil, errors.New("asked to answer at once")
}

func (p pondering) Think(_ context.Context, c event.Context, q iot.Prompt) (iot.Reply, []float64, error) {
	if strings.Contains(q.Text, "misleading") {
		return iot.Reply{}, nil, errors.New("another's thought was read")
	}
	z := make([]float64, len(c.Candidates))
	z[0] = 2
	return iot.Reply{}, policy.LogSoftmax(z), p.fail
}

// A policy that thinks is judged by its own thoughts, not by what was said; one whose thought leaves no room for an answer as a server
// would then rank.
func TestJudgeHasThinkersThinkForThemselves(t *testing.T) {
	said := []event.Step{{ItemID: "b", Text: "misleading", Chains: []int{2}}}
	graph := []float64{.25, .75}
	d := event.Decision{DecisionID: "d", UserID: "u", Model: &event.Model{PromptVersion: iot.Thoughts, Think: 9}, Context: twoWays, Temperature: 1, ModelWeight: .5, Said: said,
		Scores: policy.Pool(graph, []float64{math.Log(.5), math.Log(.5)}, .5)}
	d.Slate = policy.Slate(d, 1)
	rollouts := []Rollout{{Decision: d, First: 0}}
	q := [][]float64{{1, 0}}
	want := policy.First(policy.Pool(graph, policy.LogSoftmax([]float64{2, 0}), .5), 1)[0]
	for _, tc := range []struct {
		fail error
		want float64
	}{{nil, want}, {lm.ErrPromptTooLong, .25}} {
		samples, _, err := Judge(t.Context(), pondering{tc.fail}, rollouts, q, nil)
		if err != nil || math.Abs(samples[0].Target-tc.want) > 1e-9 {
			t.Errorf("%v: %+v, %v; want %.4f", tc.fail, samples, err, tc.want)
		}
	}
	if _, _, err := Judge(t.Context(), pondering{errors.New("broken")}, rollouts, q, nil); err == nil {
		t.Error("a model that fails otherwise is judged")
	}
}

// A round that is killed while it learns to think goes on where it stood, and ends with the same adapter.
func TestARoundOfThoughtsGoesOn(t *testing.T) {
	whole, school := newThinkingSetting(t)
	whole.Learn.Thoughts.Steps = 4
	want, err := RunRound(t.Context(), whole.RoundOptions)
	must(t, err)
	s := newSetting(t)
	s.Teacher, s.past, s.History, s.Learn, s.Gate = school, whole.past, whole.past, whole.Learn, whole.Gate
	// The report of the second step is kept, and its checkpoint is not: that step is taken again.
	saves := 0
	s.Teacher = forgetful{school, &saves}
	if _, err := RunRound(t.Context(), s.RoundOptions); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("a checkpoint that is not kept: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s.Told = func(doing string, done, _ int) {
		if doing == "learning to think" && done == 3 {
			stop()
		}
	}
	s.Teacher = school
	if _, err := RunRound(ctx, s.RoundOptions); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped, and says %v", err)
	}
	var steps []int
	s.Told = func(doing string, done, _ int) {
		if doing == "learning to think" {
			steps = append(steps, done)
		}
	}
	got, err := RunRound(t.Context(), s.RoundOptions)
	must(t, err)
	if got.Adapter != want.Adapter || got.Adapter == "" || len(got.Thoughts) != 4 || fmt.Sprint(steps) != "[3 4]" {
		t.Errorf("went on by steps %v to %.12s with %d steps in its report; without a stop it is %.12s", steps, got.Adapter, len(got.Thoughts), want.Adapter)
	}
}

// forgetful is a teacher whose second checkpoint is not kept.
type forgetful struct {
	thinkingSchool
	saves *int
}

func (f forgetful) Begin(o LearnerOptions) (AdapterLearner, error) {
	l, err := f.thinkingSchool.Begin(o)
	return forgets{l, f.saves}, err
}

type forgets struct {
	AdapterLearner
	saves *int
}

func (l forgets) Save(path string) error {
	if *l.saves++; *l.saves == 2 {
		return errors.New("the disk is full")
	}
	return l.AdapterLearner.Save(path)
}
