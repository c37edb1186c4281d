package eval

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// example compares a ranker with two others on 40 cases of 20 users; every fourth case is of a cold user, and no item is
// cold.
func example(t *testing.T, names ...string) *Report {
	t.Helper()
	var cases []Case
	ranks := make([][]float64, 3)
	background := &Background{}
	for i := range 40 {
		cases = append(cases, ask(fmt.Sprint("q", i), fmt.Sprint("u", i/2), i, "a", "b", "c", "d", "e", "f"))
		ranks[0] = append(ranks[0], 1+float64(i%4/3)) // 1 1 1 2
		ranks[1] = append(ranks[1], 1+float64(i%2*5)) // 1 6
		ranks[2] = append(ranks[2], 1.5)
		background.UserPositives = append(background.UserPositives, ColdUser-1+i%4)
		background.ItemPositives = append(background.ItemPositives, ColdItem)
	}
	report, err := Compare(cases, Ranked{Name: names[0], Ranks: ranks[0]}, []Ranked{{Name: names[1], Ranks: ranks[1]}, {Name: names[2], Ranks: ranks[2]}},
		Options{Seed: 1, Background: background})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestFiguresForMachines(t *testing.T) {
	report := example(t, "fusion", "pop\"", "knn")
	var out bytes.Buffer
	if err := WriteFigures(&out, report.Figures()); err != nil {
		t.Fatal(err)
	}
	type line struct {
		Command, Metric, Unit, Ranker, Against string
		Value                                  float64
	}
	var got []line
	for text := range strings.Lines(out.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got = append(got, l)
	}
	main, first, second := report.All[0], *report.All[1].Lead, *report.All[2].Lead
	share := func(metric string, value float64, against string) line {
		return line{"eval", metric, "share", "fusion", against, value}
	}
	mean := func(metric string, value float64) line { return line{"eval", metric, "mean", "fusion", "", value} }
	want := []line{
		{"eval", "n", "cases", "fusion", "", 40},
		share("hr1", 0.75, ""), share("hr1_low", main.Interval.Low, ""), share("hr1_high", main.Interval.High, ""), share("hr5", 1, ""),
		mean("ndcg5", (3+1/math.Log2(3))/4), mean("mrr", 3.5/4),
		share("against_hr1", 0.5, `pop"`), share("diff_hr1", 0.25, `pop"`), share("diff_hr1_low", first.Low, `pop"`),
		share("diff_hr1_high", first.High, `pop"`), {"eval", "diff_p", "probability", "fusion", `pop"`, first.P},
		share("against_hr1_2", 0, "knn"), share("diff_hr1_2", 0.75, "knn"), share("diff_hr1_low_2", second.Low, "knn"),
		share("diff_hr1_high_2", second.High, "knn"), {"eval", "diff_p_2", "probability", "fusion", "knn", second.P},
		{"eval", "cold_users_n", "cases", "fusion", "", 10},
		share("cold_users_hr1", 1, ""), share("cold_users_hr1_low", 1, ""), share("cold_users_hr1_high", 1, ""), share("cold_users_hr5", 1, ""),
		mean("cold_users_ndcg5", 1), mean("cold_users_mrr", 1),
		{"eval", "cold_items_n", "cases", "fusion", "", 0}, // and nothing else is known of them
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if main.Interval.Low >= 0.75 || main.Interval.High <= 0.75 || first.Low >= 0.25 || first.P > 0.05 {
		t.Errorf("intervals %+v, %+v", main.Interval, first)
	}
}

func TestNoMetricStandsTwice(t *testing.T) {
	var out bytes.Buffer
	err := WriteFigures(&out, []Figure{{Metric: "hr1"}, {Metric: "hr5"}, {Metric: "hr1"}})
	if err == nil || !strings.Contains(err.Error(), "hr1 stands twice") || out.Len() > 0 {
		t.Errorf("%v, written %q", err, out.String())
	}
	if err := WriteFigures(&out, []Figure{{Metric: "hr1", Value: nan}}); err == nil || out.Len() > 0 {
		t.Errorf("NaN: %v, written %q", err, out.String())
	}
}

func TestCompareRefuses(t *testing.T) {
	good := []float64{1, 2}
	for want, c := range map[string]struct {
		cases  []Case
		main   Ranked
		others []Ranked
	}{
		"there is no case":                                       {nil, Ranked{Name: "m", Ranks: nil}, nil},
		`ranks of "m": has 1 ranks for 2 cases`:                  {twoCases, Ranked{Name: "m", Ranks: good[:1]}, nil},
		`ranks of "o": [0]: 3: case "x" has ranks from 1 to 2`:   {twoCases, Ranked{Name: "m", Ranks: good}, []Ranked{{Name: "o", Ranks: []float64{3, 1}}}},
		`ranks of "o": [1]: NaN: case "y" has ranks from 1 to 3`: {twoCases, Ranked{Name: "m", Ranks: good}, []Ranked{{Name: "o", Ranks: []float64{1, nan}}}},
	} {
		if _, err := Compare(c.cases, c.main, c.others, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What a ranker was taught is told to machines and to people, of it alone.
func TestLeakyFiguresSaySo(t *testing.T) {
	cases := []Case{ask("x", "u", 10, "a", "b"), ask("y", "v", 20, "a", "b"), ask("z", "v", 30, "a", "b")}
	report, err := Compare(cases, Ranked{Name: "fusion", Ranks: []float64{1, 1, 2}, Taught: cases[2].At},
		[]Ranked{{Name: "knn", Ranks: []float64{1, 2, 2}}, {Name: "lm", Ranks: []float64{1, 1, 1}, Taught: cases[0].At + 1}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"leaky: fusion was learned from what came after 2 of the 3 cases", "leaky: lm was learned from what came after 1 of the 3 cases"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if strings.Contains(table.String(), "leaky: knn") {
		t.Errorf("knn was taught nothing:\n%s", table.String())
	}
	got := map[string]Figure{}
	for _, f := range report.Figures() {
		if strings.Contains(f.Metric, "taught") {
			got[f.Metric] = f
		}
	}
	if diff := cmp.Diff(map[string]Figure{
		"taught":           {Metric: "taught", Value: 2, Unit: "cases", Ranker: "fusion"},
		"against_taught_2": {Metric: "against_taught_2", Value: 1, Unit: "cases", Ranker: "fusion", Against: "lm"},
	}, got); diff != "" {
		t.Error(diff)
	}
}

const hostile = "</text><script>alert(1)</script>\x1b[2J\t\n\u202e&\"\x00\xff"

func TestTheTableLinesUp(t *testing.T) {
	var out bytes.Buffer
	if err := example(t, "fusion", "größte Beliebtheit", hostile).WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[0] != "40 cases of 20 users" {
		t.Errorf("begins with %q", lines[0])
	}
	for _, row := range lines[2:5] {
		for _, column := range []string{"HR@1", "95 %", "HR@5", "NDCG@5", "MRR"} {
			if c := []rune(row)[strings.Index(lines[1], column)]; c != '0' && c != '1' {
				t.Errorf("below %s of\n%s\n%s\nstands %q", column, lines[1], row, c)
			}
		}
	}
	lead := strings.Index(lines[1], "lead")
	for i, want := range map[int]rune{2: '-', 3: '+', 4: '+'} {
		if []rune(lines[i])[lead] != want {
			t.Errorf("no %c below lead in\n%s\n%s", want, lines[1], lines[i])
		}
	}
	if !strings.Contains(out.String(), "cold items (the answer has fewer than 10 earlier positives): no case") ||
		!strings.Contains(out.String(), "cold users (fewer than 10 earlier positives): 10 cases") {
		t.Error("cold users and items are not told apart")
	}
	if strings.ContainsAny(out.String(), "\x1b\t\x00\u202e") || strings.Count(out.String(), "\n") != 15 {
		t.Errorf("a name broke out:\n%q", out.String())
	}
	if t.Failed() {
		t.Log("\n" + out.String())
	}
}

func TestNamesAreMadePrintable(t *testing.T) {
	for name, want := range map[string]string{
		"größte 人気":             "größte 人気",
		"a\tb\nc\x1b\x00":       `a\tb\nc\x1b\x00`,
		"\u202egnp":             `\u202egnp`,
		"bad \xff byte":         `bad \ufffd byte`,
		strings.Repeat("x", 21): strings.Repeat("x", 20) + "…",
		strings.Repeat("x", 20): strings.Repeat("x", 20),
	} {
		if got := printable(name, 20); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestThePictureIsOneSafeDocument(t *testing.T) {
	report := example(t, "fusion", "pop & <recent>", hostile)
	var out bytes.Buffer
	if err := report.WritePlot(&out); err != nil {
		t.Fatal(err)
	}
	var texts []string
	elements := map[string]int{}
	mains, depth := 0, 0
	decoder := xml.NewDecoder(bytes.NewReader(out.Bytes()))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			elements[token.Name.Local]++
			for _, a := range token.Attr {
				if a.Value == "row main" {
					mains++
				}
				if strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "//") && a.Name.Local != "xmlns" {
					t.Errorf("<%s %s=%q>: is not self-contained", token.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
	if depth != 0 || elements["script"] > 0 || elements["image"] > 0 || elements["circle"] != 3 || mains != 1 {
		t.Errorf("depth %d, elements %v, %d main rows", depth, elements, mains)
	}
	all := strings.Join(texts, "\n")
	fusion, pop, other := strings.Index(all, "\nfusion\n"), strings.Index(all, "\npop & <recent>\n"), strings.Index(all, "\n</text><script>alert(1)</scrip…\n")
	if fusion < 0 || pop < fusion || other < pop {
		t.Errorf("the best does not come first (%d %d %d):\n%s", fusion, pop, other, all)
	}
	for _, want := range []string{"HR@1: share of cases whose answer stands first", "40 cases of 20 users", "0.750", "0.00", "prefers-color-scheme:dark"} {
		if !strings.Contains(all, want) {
			t.Errorf("does not say %q", want)
		}
	}
}

func TestTheAxisHoldsEveryInterval(t *testing.T) {
	for _, c := range []struct {
		low, mean, high float64
		from, to, tick  float64
	}{
		{0.41, 0.5, 0.59, 0.4, 0.6, 0.05},
		{0.05, 0.5, 0.95, 0, 1, 0.1},
		{0.3, 0.4, 0.5, 0.3, 0.5, 0.05},
		{1, 1, 1, 0.95, 1, 0.05},
		{0, 0, 0, 0, 0.05, 0.05},
		{nan, 0.5, nan, 0.45, 0.55, 0.05},
	} {
		low, high, tick := plotRange([]Row{{Metrics: Metrics{HR1: c.mean}, Interval: Interval{c.mean, c.low, c.high}}})
		if !near(low, c.from) || !near(high, c.to) || tick != c.tick {
			t.Errorf("%+v: from %v to %v by %v", c, low, high, tick)
		}
	}
}

// The interval of the cold users is over them and nobody else.
func TestColdUsersAreResampledAmongThemselves(t *testing.T) {
	cases := []Case{ask("x", "cold", 1, "a", "b"), ask("y", "warm", 1, "a", "b"), ask("z", "cold", 2, "a", "b")}
	background := &Background{UserPositives: []int{0, 50, 0}, ItemPositives: []int{50, 50, 50}}
	report, err := Compare(cases, Ranked{Name: "m", Ranks: []float64{1, 1, 2}}, nil, Options{Background: background})
	if err != nil {
		t.Fatal(err)
	}
	if cold := report.ColdUsers[0]; cold.N != 2 || cold.HR1 != 0.5 || !math.IsNaN(cold.Interval.Low) {
		t.Errorf("%+v, want two cases of one user", cold)
	}
	if all := report.All[0]; all.N != 3 || math.IsNaN(all.Interval.Low) || report.Users != 2 {
		t.Errorf("%+v, want three cases of two users", all)
	}
}

func TestOneUserIsShownWithoutAnInterval(t *testing.T) {
	cases := []Case{ask("x", "u", 1, "a", "b"), ask("y", "u", 2, "a", "b")}
	report, err := Compare(cases, Ranked{Name: "m", Ranks: []float64{1, 2}}, []Ranked{{Name: "o", Ranks: []float64{2, 2}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Figures() {
		if strings.Contains(f.Metric, "_low") || strings.Contains(f.Metric, "_high") || f.Metric == "diff_p" {
			t.Errorf("a figure that cannot be known: %+v", f)
		}
	}
	var out bytes.Buffer
	if err := errors.Join(report.WriteTable(&out), report.WritePlot(&out)); err != nil || strings.Contains(out.String(), "NaN") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
