package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
)

// halves cuts the cases in two, early.jsonl and late.jsonl, and gives the time of the first late one.
func (s slice) halves() (between string, early int) {
	s.Helper()
	cases, err := eval.ReadCases(s.file("cases.jsonl"))
	s.must(err)
	slices.SortStableFunc(cases, func(a, b eval.Case) int { return int(a.At - b.At) })
	at := cases[len(cases)/2].At
	for early = 0; cases[early].At < at; early++ {
	}
	for name, part := range map[string][]eval.Case{"early.jsonl": cases[:early], "late.jsonl": cases[early:]} {
		var lines bytes.Buffer
		s.must(writeCases(&lines, part))
		s.write(name, lines.String())
	}
	return seconds(at), early
}

// refused wants the command to be refused as a wrong use, with all of these words.
func (s slice) refused(args []string, want ...string) {
	s.Helper()
	var out, errs bytes.Buffer
	if code := run(s.Context(), s.args(args...), &out, &errs); code != 2 || out.Len() != 0 {
		s.Errorf("r2rec eval %q: exit code %d, want 2; printed %q", args, code, out.String())
	}
	for _, w := range want {
		if !strings.Contains(errs.String(), w) {
			s.Errorf("r2rec eval %q: want %q in %s", args, w, errs.String())
		}
	}
}

// Weights are not asked what they were fitted on, unless that is wanted, and then the results say so.
func TestEvalRefusesCasesThatWeightsKnow(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	between, early := s.halves()
	weights := s.file("weights.json")
	s.eval("--cases", s.file("late.jsonl"), "--fit-before", between, "--fit-cases", "400", "--save", weights)
	m, err := loadWeights(weights)
	s.must(err)
	past := s.past(between)
	if got := m.Training().LearnedEvents; got != past {
		t.Errorf("the weights say %+v, want %+v", got, past)
	}
	s.refused([]string{"--weights", weights}, fmt.Sprintf("--weights %s: learned from these very events before %s, and %d of the %d cases are earlier, the first, ", weights, past.Before, early, s.cases),
		"ask about what happened from then on", "fit others by --fit-before", "--leaky")
	table, log := s.eval("--weights", weights, "--leaky", "--cases", s.file("early.jsonl"), "--ranker", "fusion,lm", "--scores", s.file("scores.jsonl"),
		"--ranks", s.file("ranks.json"), "--plot", s.file("plot.svg"))
	if !strings.Contains(table, "leaky: fusion was learned from what came after ") || strings.Contains(table, "leaky: lm") || !strings.Contains(log, "the figures are too good") {
		t.Errorf("the table does not say it, or of all:\n%s\n%s", table, log)
	}
	ranks, err := eval.ReadRanks(s.file("ranks.json"))
	s.must(err)
	if keys := slices.Sorted(maps.Keys(ranks)); !slices.Equal(keys, []string{"fusion (leaky)", "lm"}) {
		t.Errorf("the ranks are those of %q", keys)
	}
	if plot := string(readFile(t, s.file("plot.svg"))); !strings.Contains(plot, ">fusion (leaky)<") || strings.Contains(plot, ">fusion<") || !strings.Contains(plot, ">lm<") {
		t.Errorf("the picture does not say it, or of all:\n%s", plot)
	}
	scored, err := eval.ReadScores(s.file("scores.jsonl"))
	s.must(err)
	for _, k := range scored {
		if !slices.Equal(k.Taught, []string{"fusion"}) {
			t.Fatalf("the scores say that of case %s the answer was taught to %q", k.Case, k.Taught)
		}
	}
	for _, leaky := range []string{"--leaky=false", "--leaky"} {
		s.refused([]string{"--cases", s.file("late.jsonl"), "--weights", weights, "--ranker", "pool,fusion,lm", "--pool-from", s.file("scores.jsonl"), leaky},
			"--pool-from "+s.file("scores.jsonl")+": of case ", "taught to fusion", "write the scores without --leaky")
	}
}

// Those that travel with the program were fitted on the bundled data, and so was a copy of them.
func TestEvalRefusesCasesThatTravellingWeightsKnow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "weights.json")
	if err := saveWeights(path, fusion.Default()); err != nil {
		t.Fatal(err)
	}
	for who, flags := range map[string][]string{"the weights that travel with the program": nil, "--weights " + path: {"--weights", path}} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"eval", "--draw", "30", "--since", "1000000000"}, flags...), &out, &errs)
		if want := who + ": learned from these very events before 2015-07-15T00:28:24.001Z"; code != 2 || out.Len() != 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("exit code %d, %q, %s; want %s", code, out.String(), errs.String(), want)
		}
	}
}

// Nor is an adapter.
func TestEvalRefusesCasesThatAnAdapterKnows(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	between, _ := s.halves()
	adapter := s.file("adapter.gguf")
	lmDo(t, s.tune(adapter, "--fit-before", between)...)
	ask := []string{"--ranker", "lm", "--adapter", adapter}
	s.refused(ask, "--adapter "+adapter+": learned from these very events before ", "learn another by an earlier --fit-before", "--leaky")
	if table, _ := s.eval(append(ask, "--leaky")...); !strings.Contains(table, "leaky: lm was learned from") {
		t.Errorf("the table does not say it:\n%s", table)
	}
}

// Nothing is refused of other data, of later cases, and where nothing is said.
func TestEvalRefusesNoMoreThanIsKnown(t *testing.T) {
	const first = 1_000_000_000
	open := func(rows ...string) *dataset.Dataset {
		t.Helper()
		path := filepath.Join(t.TempDir(), "events.csv")
		if err := os.WriteFile(path, []byte("user_id,item_id,rating,timestamp\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		data, err := dataset.OpenFiles(path, "")
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	row := func(user string, after int) string { return fmt.Sprintf("%s,i,5,%d", user, first+after) }
	at := func(after int) eval.Case { return eval.Case{ID: fmt.Sprint(after), At: event.Time(first+after) * 1000} }
	tied := fmt.Sprintf("u,i,1,%d", first) // of what row has, at the same time
	data := open(row("u", 0), row("v", 10), row("w", 20))
	learned := event.PastOf(data.Interactions(), at(15).At)
	for name, c := range map[string]struct {
		learned event.Past
		data    *dataset.Dataset
		cases   []eval.Case
		refused bool
		said    bool // that its answers may have been learned
	}{
		"an earlier case":         {learned, data, []eval.Case{at(20), at(10)}, true, false},
		"in another order, grown": {learned, open(row("x", 30), row("w", 20), row("v", 10), row("u", 0)), []eval.Case{at(10)}, true, false},
		"beyond the end, grown":   {event.PastOf(data.Interactions(), at(1000).At), open(row("u", 0), row("v", 10), row("w", 20), row("x", 30)), []eval.Case{at(20), at(30)}, true, false},
		"what has come since":     {event.PastOf(data.Interactions(), at(1000).At), open(row("u", 0), row("v", 10), row("w", 20), row("x", 30)), []eval.Case{at(30)}, false, false},
		"a tie, other file order": {event.PastOf(open(row("u", 0), tied).Interactions(), at(15).At), open(tied, row("u", 0)), []eval.Case{at(0)}, true, false},
		"after the last event":    {learned, data, []eval.Case{at(14)}, false, false},
		"at that time":            {learned, data, []eval.Case{at(15), at(20)}, false, false},
		"other data":              {learned, open(row("u", 0), row("x", 10)), []eval.Case{at(10)}, false, true},
		"a user left out":         {learned, open(row("v", 10)), []eval.Case{at(10)}, false, true},
		"nothing said":            {event.Past{}, data, []eval.Case{at(10)}, false, false},
	} {
		var said bytes.Buffer
		p := &process{log: slog.New(slog.NewTextHandler(&said, nil))}
		they := schooling{who: "they", learned: c.learned, level: slog.LevelWarn}
		taught, err := evalLeak{}.untaught(p, they, c.data, c.cases)
		if (err != nil) != c.refused || taught != 0 {
			t.Errorf("%s: taught before %d, %v; want it refused: %v", name, taught, err, c.refused)
		}
		if got := strings.Contains(said.String(), "level=WARN msg=\"learned from other events") && strings.Contains(said.String(), "cases_before=1"); got != c.said || (said.Len() > 0) != c.said {
			t.Errorf("%s: said %q; want that they may be known: %v", name, said.String(), c.said)
		}
		want := event.Time(0)
		if c.refused {
			want = c.learned.Before
		}
		if taught, err = (evalLeak{Leaky: true}).untaught(p, they, c.data, c.cases); err != nil || taught != want {
			t.Errorf("%s, with --leaky: taught before %d, %v; want %d", name, taught, err, want)
		}
	}
}
