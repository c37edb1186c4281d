package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// simulated is a server with given moments: 20 canaries of 20 candidates, the mean absolute change by the trainer, the noise of
// the server's base, the slope, and the residual in units of √2 noise (or, where that is 0, in nats).
func simulated(change, noise, slope, residual float64) ([]Canary, []Answer) {
	const n, k = 20, 20
	r := rand.New(rand.NewPCG(1, 2))
	normal := func() []float64 {
		x := make([]float64, n*k)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		return x
	}
	scale := func(x []float64, by float64) {
		for i := range x {
			x[i] *= by
		}
	}
	centre := func(x []float64) {
		var mean float64
		for _, v := range x {
			mean += v / float64(len(x))
		}
		for i := range x {
			x[i] -= mean
		}
	}
	d, off, rest := normal(), normal(), normal()
	centre(d)
	scale(d, change/meanAbs(d))
	if noise > 0 {
		scale(off, noise/deviation(off))
		residual *= math.Sqrt2 * noise
	} else {
		scale(off, 0)
	}
	centre(rest)
	along := dot(rest, d) / dot(d, d)
	for i := range rest { // of no slope
		rest[i] -= along * d[i]
	}
	scale(rest, residual/deviation(rest))
	canaries, server := make([]Canary, n), make([]Answer, n)
	for i := range canaries {
		canaries[i].Context.Candidates = make([]event.Candidate, k)
		for j := range k {
			at, base := i*k+j, -3+.1*float64(j)
			canaries[i].Base = append(canaries[i].Base, base)
			canaries[i].Adapter = append(canaries[i].Adapter, base+d[at])
			server[i].Base = append(server[i].Base, base+off[at])
			server[i].Adapter = append(server[i].Adapter, base+off[at]+slope*d[at]+rest[at])
		}
	}
	return canaries, server
}

// TestJudge holds the verdicts against what was measured on SmolLM2-135M through a real Ollama, 20 canaries and about 400
// tokens each (the first five), and against what must never pass.
func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name                           string
		change, noise, slope, residual float64
		se                             float64
		want                           Verdict
		reason                         string
	}{
		{"F16, small adapter", .06, .004, 1.02, .84, .004, Proven, "slope 1.02"},
		{"F16, large adapter", .34, .004, 1.00, .9, .001, Proven, ""},
		{"Q4_1, large adapter", .34, .11, .99, 1.0, .02, Proven, ""},
		{"Q4_1, rows in the wrong order", .35, .11, .87, 1.7, .02, Refused, ".87 times the change"},
		{"Q4_1, small adapter", .06, .11, .67, .8, .1, CannotBeProven, "too small beside the server's noise"},

		{"the trainer's own arithmetic", .06, 0, 1, 1e-5, 0, Proven, ""},
		{"half of it", .3, .004, .5, .9, .001, Refused, ".5 times the change"},
		{"twice as much", .3, .004, 2, .9, .001, Refused, "2 times the change"},
		{"right in the mean, wrong in each", .34, .11, 1, 1.7, .02, Refused, "changes other answers"},
		{"right in the mean, wrong in each, exact server", .34, 0, 1, .02, 0, Refused, "changes other answers"},
		{"the server drops it", .34, 0, 0, 0, 0, Refused, "as if there were no adapter"},
		{"a quantized server drops a small one", .06, .11, 0, 0, .1, Refused, "as if there were no adapter"},
		{"it changes nothing", 1e-4, 0, 1, 1e-6, 0, Refused, "it changes nothing"},
		{"it is turned round", .34, .004, -1, .9, .001, Refused, "-1 times"},
	} {
		canaries, server := simulated(tc.change, tc.noise, tc.slope, tc.residual)
		r := Judge(canaries, server)
		if r.Verdict != tc.want || !strings.Contains(r.Reason, tc.reason) {
			t.Errorf("%s: %+v, want %s, %q", tc.name, r, tc.want, tc.reason)
		}
		if r.Tokens != 400 || math.Abs(r.Change-tc.change) > 1e-9 || math.Abs(r.Noise-tc.noise) > 1e-9 {
			t.Errorf("%s: %+v does not hold what went in", tc.name, r)
		}
		if tc.change > floor && (math.Abs(r.Slope-tc.slope) > 1e-9 || math.Abs(r.Error-tc.se) > .4*tc.se+1e-9) {
			t.Errorf("%s: slope %v (%v), want %v (%v)", tc.name, r.Slope, r.Error, tc.slope, tc.se)
		}
		var refused interface{ Refused() bool }
		if err := r.Err(); (err == nil) != (tc.want == Proven) || err != nil && (!errors.As(err, &refused) || !refused.Refused() || !strings.Contains(err.Error(), r.Reason)) {
			t.Errorf("%s: the error is %v", tc.name, err)
		}
	}
}

func TestJudgeRefusesWhatCannotBeCompared(t *testing.T) {
	canaries, server := simulated(.3, .004, 1, 1)
	spoilt := func(spoil func(c []Canary, s []Answer)) ([]Canary, []Answer) {
		c, s := simulated(.3, .004, 1, 1)
		spoil(c, s)
		return c, s
	}
	if r := Judge(canaries, server); r.Verdict != Proven {
		t.Fatalf("%+v", r)
	}
	for want, spoil := range map[string]func(c []Canary, s []Answer){
		"19 log shares":     func(_ []Canary, s []Answer) { s[3].Base = s[3].Base[1:] },
		"must be finite":    func(c []Canary, _ []Answer) { c[3].Adapter[2] = math.Inf(-1) },
		"canary 4":          func(_ []Canary, s []Answer) { s[3].Adapter[2] = math.NaN() },
		"0 candidates":      func(c []Canary, s []Answer) { c[0] = Canary{}; s[0] = Answer{} },
		"and 21 log shares": func(c []Canary, _ []Answer) { c[0].Base = append(c[0].Base, -1) },
	} {
		if r := Judge(spoilt(spoil)); r.Verdict != Refused || !strings.Contains(r.Reason, want) {
			t.Errorf("%+v, want it refused with %q", r, want)
		}
	}
	if r := Judge(nil, nil); r.Verdict != Refused || !strings.Contains(r.Reason, "without canaries") {
		t.Errorf("%+v", r)
	}
	if r := Judge(canaries, server[1:]); r.Verdict != Refused {
		t.Errorf("%+v", r)
	}
}

// tilted prefers early candidates of the context, by how much its evidence says.
type tilted float64

func (by tilted) Rank(_ context.Context, p iot.Prompt) ([]float64, error) {
	if by < 0 {
		return nil, errors.New("down")
	}
	out := make([]float64, len(p.Letters))
	for j, i := range p.Order {
		out[i] = -3 - float64(by)*float64(p.Content.Candidates[j].Digits[5])
	}
	return out, nil
}

func asks(n int) (out []Ask) {
	for i := range n {
		c := event.Context{}
		for j := range 3 {
			c.Candidates = append(c.Candidates, event.Candidate{ItemID: string(rune('a' + j)), Title: "T", Evidence: event.Evidence{Popularity: 1 + i*j}})
		}
		out = append(out, Ask{c, uint64(i)})
	}
	return out
}

// What is kept of others whose taste a list rests on is which chains are of the same one; the prompt is the same.
func TestCanariesNameNoUser(t *testing.T) {
	for version := iot.Words; version <= iot.FullFigures; version++ {
		ask := asks(1)[0]
		for i, who := range []string{"alice", "bob", "alice"} {
			ask.Context.Chains = append(ask.Context.Chains, event.Chain{Via: "h", Neighbour: who, ItemID: ask.Context.Candidates[i].ItemID, Weight: 1, Shared: 1})
		}
		ask.Context.History = []event.HistoryItem{{ItemID: "h", Title: "H"}}
		got, err := Choose(t.Context(), version, []Ask{ask}, tilted(0), tilted(.1), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(got)
		if err != nil || strings.Contains(string(raw), "alice") || strings.Contains(string(raw), "bob") {
			t.Errorf("prompt %d: %v, the canary names users: %s", version, err, raw)
		}
		if c := got[0].Context.Chains; c[0].Neighbour != c[2].Neighbour || c[0].Neighbour == c[1].Neighbour || ask.Context.Chains[0].Neighbour != "alice" {
			t.Errorf("prompt %d: chains of %+v became %+v", version, ask.Context.Chains, c)
		}
		want, err := iot.Build(version, ask.Context, ask.Seed)
		have, err2 := got[0].prompt(version)
		if err != nil || err2 != nil || want.Digest != have.Digest {
			t.Errorf("prompt %d: the canary reads otherwise: %v, %v", version, err, err2)
		}
	}
}

func TestChooseTakesWhatChangesMost(t *testing.T) {
	all, err := Choose(t.Context(), iot.Words, asks(5), tilted(0), tilted(.1), 9, nil)
	if err != nil || len(all) != 5 {
		t.Fatalf("%d canaries, %v", len(all), err)
	}
	some, err := Choose(t.Context(), iot.Words, asks(5), tilted(0), tilted(.1), 2, nil)
	if err != nil || len(some) != 2 || cmp.Diff(all[:2], some) != "" {
		t.Errorf("%+v, %v; want the first two of %+v", some, err, all)
	}
	for i := range all[1:] {
		if all[i].change() < all[i+1].change() {
			t.Errorf("canary %d changes by %v, the next by %v", i, all[i].change(), all[i+1].change())
		}
	}
	again, raw := []Canary(nil), []byte(nil)
	if raw, err = json.Marshal(some); err == nil {
		err = json.Unmarshal(raw, &again)
	}
	if err != nil || cmp.Diff(some, again, cmpopts.EquateEmpty()) != "" {
		t.Errorf("%v, written and read again:\n%s", err, cmp.Diff(some, again, cmpopts.EquateEmpty()))
	}
	if r, err := Prove(t.Context(), iot.Words, again, tilted(0), tilted(.1), time.Minute); err != nil || r.Verdict != Proven || r.Slope != 1 {
		t.Errorf("%+v, %v; want the same models proven", r, err)
	}
	if r, err := Prove(t.Context(), iot.Words, again, tilted(0), tilted(.2), time.Minute); err != nil || r.Verdict != Refused {
		t.Errorf("%+v, %v; want another adapter refused", r, err)
	}
	if r, err := Prove(t.Context(), 99, again, tilted(0), tilted(.1), time.Minute); err != nil || r.Verdict != Refused {
		t.Errorf("%+v, %v; want a prompt version that does not exist refused", r, err)
	}
	for _, pair := range [][2]tilted{{-1, 0}, {0, -1}} {
		if _, err := Prove(t.Context(), iot.Words, again, pair[0], pair[1], time.Minute); err == nil || !strings.Contains(err.Error(), "down") {
			t.Errorf("a model that is down gives %v", err)
		}
		if _, err := Choose(t.Context(), iot.Words, asks(2), pair[0], pair[1], 1, nil); err == nil || !strings.Contains(err.Error(), "down") {
			t.Errorf("a model that is down gives %v", err)
		}
	}
}

// failing is a model that answers with an error.
type failing struct{ error }

func (f failing) Rank(context.Context, iot.Prompt) ([]float64, error) { return nil, f.error }

// What an adapter answers to a canary does not change by asking again; a server that is away, or whose base talks nonsense,
// may come back.
func TestProveOverAnswersThatRankNothing(t *testing.T) {
	canaries, err := Choose(t.Context(), iot.Words, asks(3), tilted(0), tilted(.1), 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	nonsense, long := fmt.Errorf("the score of candidate A is NaN: %w", lm.ErrNonsense), fmt.Errorf("4097 tokens: %w", lm.ErrPromptTooLong)
	away := fmt.Errorf("the server answers 503: %w", lm.ErrUnavailable)
	for _, c := range []struct {
		base, adapter Ranker
		want          Verdict // empty: an error
		says          string
	}{
		{tilted(0), failing{nonsense}, Refused, "canary 1 by the adapter: the score of candidate A is NaN"},
		{tilted(0), failing{long}, CannotBeProven, "canary 1 by the adapter: 4097 tokens"},
		{failing{long}, tilted(.1), CannotBeProven, "canary 1 by the base model: 4097 tokens"},
		{failing{nonsense}, tilted(.1), "", "canary 1 by the base model"},
		{tilted(0), failing{away}, "", "canary 1 by the adapter"},
	} {
		r, err := Prove(t.Context(), iot.Words, canaries, c.base, c.adapter, time.Minute)
		said := r.Reason
		if c.want == "" && err != nil {
			said = err.Error()
		}
		if r.Verdict != c.want || (err == nil) != (c.want != "") || !strings.Contains(said, c.says) {
			t.Errorf("%v and %v: %+v, %v, want %q that says %q", c.base, c.adapter, r, err, c.want, c.says)
		}
	}
}

// slow takes its time for each answer.
type slow struct {
	tilted
	answer time.Duration
}

func (s slow) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	select {
	case <-time.After(s.answer):
		return s.tilted.Rank(ctx, p)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestProveGivesEachAnswerItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		canaries, err := Choose(t.Context(), iot.Words, asks(20), tilted(0), tilted(.1), 20, nil)
		if err != nil {
			t.Fatal(err)
		}
		for answer, proven := range map[time.Duration]bool{9 * time.Minute: true, 11 * time.Minute: false} {
			base, adapter := slow{0, answer}, slow{.1, answer}
			if r, err := Prove(t.Context(), iot.Words, canaries, base, adapter, 10*time.Minute); proven && (err != nil || r.Verdict != Proven) {
				t.Errorf("%v an answer: %+v, %v", answer, r, err)
			} else if !proven && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v an answer: %+v, %v; want it given up", answer, r, err)
			}
			if _, err := Prove(t.Context(), iot.Words, canaries, tilted(0), adapter, 10*time.Minute); proven != (err == nil) {
				t.Errorf("%v an answer of the adapter: %v", answer, err)
			}
		}
	})
}

// A server that states only its likeliest tokens has a floor for the others. Compared as if it were an answer, it would
// have an honest server refused; left out, nothing of the verdict is lost.
func TestJudgeLeavesOutWhatIsNotStated(t *testing.T) {
	honest := func() ([]Canary, []Answer) {
		canaries, server := simulated(.3, .004, 1, 1)
		for i := range canaries { // simulated scores become shares: only then do those left out move the others
			for _, x := range [][]float64{canaries[i].Base, canaries[i].Adapter, server[i].Base, server[i].Adapter} {
				copy(x, among(x, slices.Repeat([]bool{true}, len(x))))
			}
		}
		return canaries, server
	}
	floored := func(tell bool) ([]Canary, []Answer) {
		canaries, server := honest()
		for i := range server {
			stated := slices.Repeat([]bool{true}, 20)
			for j := i % 3; j < 20; j += 3 {
				stated[j], server[i].Base[j], server[i].Adapter[j] = false, -9, -9
			}
			copy(server[i].Base, among(server[i].Base, slices.Repeat([]bool{true}, 20)))
			copy(server[i].Adapter, among(server[i].Adapter, slices.Repeat([]bool{true}, 20)))
			if tell {
				server[i].Stated = stated
			}
		}
		return canaries, server
	}
	if r := Judge(honest()); r.Verdict != Proven {
		t.Errorf("an honest server: %+v", r)
	}
	if r := Judge(floored(false)); r.Verdict == Proven {
		t.Errorf("floors, taken for answers: %+v", r)
	}
	if r := Judge(floored(true)); r.Verdict != Proven || r.Tokens != 266 {
		t.Errorf("floors, left out: %+v", r)
	}
	canaries, server := floored(true)
	for i := range server {
		server[i].Stated = make([]bool, 20)
		server[i].Stated[3] = true
	}
	if r := Judge(canaries, server); r.Verdict != Refused || !strings.Contains(r.Reason, "states too little") {
		t.Errorf("one share a canary: %+v", r)
	}
	server[7].Stated = make([]bool, 19)
	if r := Judge(canaries, server); r.Verdict != Refused || !strings.Contains(r.Reason, "canary 8") {
		t.Errorf("19 of 20 told: %+v", r)
	}
}

// Where a server's base states nothing, what it answers with the adapter has to be what the trainer's did: shares that
// vary by half a nat, and half of them stated at least.
func TestJudgeByTheAdapterAlone(t *testing.T) {
	for name, c := range map[string]struct {
		noise, slope, stale float64 // nats, of the adapter's answers, and by how much another round's differ
		stated              int     // of each 20
		want                Verdict
		reason              string
	}{
		"as it was trained":             {.01, 1, 0, 20, Proven, "by the adapter alone"},
		"half of it stated":             {.01, 1, 0, 10, Proven, "200 tokens"},
		"less than half":                {.01, 1, 0, 9, CannotBeProven, "states 180 of 400"},
		"one of each":                   {.01, 1, 0, 1, Refused, "too little"},
		"none":                          {.01, 1, 0, 0, Refused, "too little"},
		"the adapter of a round ago":    {.004, 1, .03, 20, Refused, "changes other answers"},
		"another arithmetic":            {.03, 1, 0, 20, Refused, "changes other answers"},
		"half of it":                    {.004, .5, 0, 20, Refused, ".5 times the change"},
		"none of it, though all stated": {.004, 0, 0, 20, Refused, "as if there were no adapter"},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		canaries, server := make([]Canary, 20), make([]Answer, 20)
		for i := range canaries {
			canaries[i].Context.Candidates = make([]event.Candidate, 20)
			server[i].Stated = make([]bool, 20)
			for j := range 20 {
				x := .5 * r.NormFloat64()
				canaries[i].Base = append(canaries[i].Base, r.NormFloat64())
				canaries[i].Adapter = append(canaries[i].Adapter, x)
				server[i].Stated[j] = j < c.stated
				if answer := c.slope*x + c.noise*r.NormFloat64() + c.stale*r.NormFloat64(); j < c.stated {
					server[i].Adapter = append(server[i].Adapter, answer-3)
				} else {
					server[i].Adapter = append(server[i].Adapter, -9)
				}
			}
		}
		if r := Judge(canaries, server); r.Verdict != c.want || !strings.Contains(r.Reason, c.reason) || !r.Alone {
			t.Errorf("%s: %+v, want %s, %q", name, r, c.want, c.reason)
		}
	}
}

// silently answers as it is told to, and states all of it or nothing; asked counts.
type silently struct {
	shares []float64
	says   bool
	asked  *int
}

func (s silently) Rank(context.Context, iot.Prompt) ([]float64, error) {
	return nil, errors.New("a partial ranker was asked for a whole ranking")
}

func (s silently) Stated(context.Context, iot.Prompt) ([]float64, []bool, error) {
	*s.asked++
	return s.shares, slices.Repeat([]bool{s.says}, len(s.shares)), nil
}

// A base that states nothing is not asked for ever, and one that does is compared as ever.
func TestProveOverASilentBase(t *testing.T) {
	all := slices.Repeat([]bool{true}, 4)
	base, adapter, other := among([]float64{1, 2, 3, 4}, all), among([]float64{1, 3, 2, 4}, all), among([]float64{4, 3, 1, 2}, all)
	canaries := make([]Canary, 10)
	for i := range canaries {
		canaries[i] = Canary{Context: event.Context{Candidates: make([]event.Candidate, 4)}, Base: base, Adapter: adapter}
		for j := range 4 {
			canaries[i].Context.Candidates[j].ItemID = string(rune('a' + j))
		}
	}
	for name, c := range map[string]struct {
		base, adapter silently
		baseAsked     int
		alone         bool
		want          Verdict
	}{
		"both state all":            {silently{shares: base, says: true}, silently{shares: adapter, says: true}, 10, false, Proven},
		"a silent base":             {silently{shares: base}, silently{shares: adapter, says: true}, 4, true, Proven},
		"a silent base, another":    {silently{shares: base}, silently{shares: other, says: true}, 4, true, Refused},
		"a server that drops it":    {silently{shares: base, says: true}, silently{shares: base, says: true}, 10, false, Refused},
		"a silent one that does so": {silently{shares: base}, silently{shares: base}, 4, false, Refused},
	} {
		var asked, asked2 int
		c.base.asked, c.adapter.asked = &asked, &asked2
		r, err := Prove(t.Context(), iot.Figures, canaries, c.base, c.adapter, time.Minute)
		if err != nil || r.Verdict != c.want || r.Alone != c.alone {
			t.Errorf("%s: %+v, %v, want %s", name, r, err, c.want)
		}
		if asked != c.baseAsked || asked2 != 10 {
			t.Errorf("%s: the base was asked %d times, the adapter %d, want %d and 10", name, asked, asked2, c.baseAsked)
		}
	}
}

// partial states every other share.
type partial struct{ shares []float64 }

func (p partial) Rank(context.Context, iot.Prompt) ([]float64, error) {
	return nil, errors.New("a partial ranker was asked for a whole ranking")
}

func (p partial) Stated(context.Context, iot.Prompt) ([]float64, []bool, error) {
	stated := make([]bool, len(p.shares))
	for i := range stated {
		stated[i] = i%2 == 0
	}
	return p.shares, stated, nil
}

func TestProveTakesWhatIsStated(t *testing.T) {
	base, adapter := among([]float64{1, 2, 3, 4}, slices.Repeat([]bool{true}, 4)), among([]float64{1, 3, 2, 4}, slices.Repeat([]bool{true}, 4))
	canary := Canary{Context: event.Context{Candidates: make([]event.Candidate, 4)}, Base: base, Adapter: adapter}
	for i := range canary.Context.Candidates {
		canary.Context.Candidates[i].ItemID = string(rune('a' + i))
	}
	r, err := Prove(t.Context(), iot.Figures, []Canary{canary}, partial{base}, partial{adapter}, time.Minute)
	if err != nil || r.Tokens != 2 {
		t.Errorf("%+v, %v, want two of four shares compared", r, err)
	}
}
