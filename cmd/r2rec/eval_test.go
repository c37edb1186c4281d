package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/fusion"
	"github.com/redis/go-redis/v9"
)

// slice is the first ratings of MovieLens in the files of r2rec eval, with cases of its last third.
type slice struct {
	*testing.T
	dir    string
	before string // Unix seconds: the time of the first case
	cases  int
}

func newSlice(t *testing.T) slice {
	t.Helper()
	s := slice{T: t, dir: t.TempDir()}
	d, err := dataset.Bundled()
	s.must(err)
	var events []event.Interaction
	known := map[string]bool{}
	rows := [][]string{{"user_id", "item_id", "rating", "timestamp"}}
	for in, err := range d.Interactions() {
		s.must(err)
		events = append(events, in)
		known[in.ItemID] = true
		rows = append(rows, []string{in.UserID, in.ItemID, fmt.Sprint(*in.Value), seconds(in.Timestamp)})
		if len(events) == 8000 {
			break
		}
	}
	s.writeCSV("events.csv", rows)
	rows = [][]string{{"item_id", "title", "categories"}}
	for it, err := range d.Items() {
		s.must(err)
		if known[it.ItemID] {
			rows = append(rows, []string{it.ItemID, it.Title, strings.Join(it.Categories, "|")})
		}
	}
	s.writeCSV("items.csv", rows)
	cases, err := eval.Draw(func(yield func(event.Interaction, error) bool) {
		for _, in := range events {
			if !yield(in, nil) {
				return
			}
		}
	}, events[len(events)-1].Timestamp, 400, 1)
	s.must(err)
	cases = slices.DeleteFunc(cases, func(c eval.Case) bool { return c.At < events[5000].Timestamp })
	if s.cases = len(cases); s.cases < 150 {
		s.Fatalf("%d cases are too few", s.cases)
	}
	s.before = seconds(cases[0].At)
	var lines bytes.Buffer
	s.must(writeCases(&lines, cases))
	s.write("cases.jsonl", lines.String())
	return s
}

// seconds gives a time in Unix seconds.
func seconds(at event.Time) string { return strconv.FormatInt(int64(at)/1000, 10) }

func (s slice) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s slice) file(name string) string { return filepath.Join(s.dir, name) }

func (s slice) write(name, content string) {
	s.Helper()
	s.must(os.WriteFile(s.file(name), []byte(content), 0o600))
}

func (s slice) writeCSV(name string, rows [][]string) {
	s.Helper()
	var b bytes.Buffer
	s.must(csv.NewWriter(&b).WriteAll(rows))
	s.write(name, b.String())
}

// args are those of r2rec eval on the slice, where more does not say otherwise.
func (s slice) args(more ...string) []string {
	args := append([]string{"eval"}, more...)
	for flag, file := range map[string]string{"--events": "events.csv", "--items": "items.csv", "--cases": "cases.jsonl"} {
		if !slices.Contains(more, flag) {
			args = append(args, flag, s.file(file))
		}
	}
	return args
}

// eval runs the command to its end and returns what it printed and logged.
func (s slice) eval(more ...string) (out, log string) {
	s.Helper()
	var o, e bytes.Buffer
	if code := run(s.Context(), s.args(more...), &o, &e); code != 0 {
		s.Fatalf("r2rec eval %s: exit code %d\n%s", strings.Join(more, " "), code, e.String())
	}
	return o.String(), e.String()
}

// figures reads the lines of --json; a metric stands once.
func (s slice) figures(out string) (names []string, values map[string]float64) {
	s.Helper()
	values = map[string]float64{}
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var f struct {
			Command, Metric, Unit, Ranker string
			Value                         *float64
		}
		err := d.Decode(&f)
		if errors.Is(err, io.EOF) {
			return names, values
		}
		s.must(err)
		if _, twice := values[f.Metric]; twice || f.Command != "eval" || f.Value == nil || f.Ranker == "" {
			s.Errorf("figure %+v: is there already, or incomplete", f)
		}
		names = append(names, f.Metric)
		values[f.Metric] = *f.Value
	}
}

func (s slice) ranks(name string) map[string][]float64 {
	s.Helper()
	ranks, err := eval.ReadRanks(s.file(name))
	s.must(err)
	return ranks
}

func TestEvalTellsFiguresByTheirNames(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	main := []string{"n", "hr1", "hr1_low", "hr1_high", "hr5", "ndcg5", "mrr"}
	out, _ := s.eval("--json")
	names, figures := s.figures(out)
	if diff := cmp.Diff(main, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if figures["n"] != float64(s.cases) || !(figures["hr1_low"] < figures["hr1"] && figures["hr1"] < figures["hr1_high"]) ||
		!(figures["hr1"] < figures["ndcg5"] && figures["ndcg5"] < figures["hr5"]) {
		t.Errorf("%d cases, figures that cannot be: %v", s.cases, figures)
	}

	out, _ = s.eval("--json", "--ranker", "fusion,popularity,chain", "--cold", "--catalogue")
	names, more := s.figures(out)
	for _, metric := range main {
		if more[metric] != figures[metric] {
			t.Errorf("%s is %v in company, %v alone", metric, more[metric], figures[metric])
		}
	}
	for _, metric := range []string{"against_hr1", "diff_hr1", "diff_hr1_low", "diff_hr1_high", "diff_p", "diff_hr1_2", "cold_users_hr1", "cold_items_n",
		"recall20", "recall100", "recall500", "hr10", "ndcg10", "coverage10", "popular_share10", "touched_share10"} {
		if !slices.Contains(names, metric) {
			t.Errorf("no %s among %q", metric, names)
		}
	}
	if more["diff_hr1_low"] <= 0 || more["diff_p"] > .01 {
		t.Errorf("the fusion does not lead popularity clearly: by %.3f, at least %.3f", more["diff_hr1"], more["diff_hr1_low"])
	}
	if more["recall500"] < .3 { // of some 2,000 items
		t.Errorf("the answer is among 500 candidates in %.3f of the cases", more["recall500"])
	}
}

func TestEvalPrintsATable(t *testing.T) {
	s := newSlice(t)
	out, log := s.eval("--ranker", "popularity,random")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 4 || !strings.HasPrefix(lines[0], fmt.Sprintf("%d cases of ", s.cases)) || !strings.HasPrefix(lines[2], "popularity ") || !strings.HasPrefix(lines[3], "random ") {
		t.Errorf("printed:\n%s", out)
	}
	if strings.ContainsAny(out+log, "\r\x1b") {
		t.Error("a bar was drawn where there is no terminal")
	}
}

func TestEvalKeepsWhatItFoundOut(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	s.write("ranks.json", `{"earlier":[1,2]}`)
	_, log := s.eval("--fit-before", s.before, "--fit-cases", "400", "--save", s.file("weights.json"), "--ranks", s.file("ranks.json"),
		"--ranker", "fusion,popularity", "--plot", s.file("plot.svg"), "--verify", "3", "--without", "user", "--seed", "7")
	if n := strings.Count(log, "verified: "); n != 2 {
		t.Errorf("%d rankers were verified, want 2:\n%s", n, log)
	}
	ranks := s.ranks("ranks.json")
	if len(ranks) != 3 || len(ranks["fusion"]) != s.cases || len(ranks["popularity"]) != s.cases || len(ranks["earlier"]) != 2 {
		t.Errorf("the file has ranks of %d rankers; of fusion %d, of popularity %d, of earlier %v", len(ranks), len(ranks["fusion"]), len(ranks["popularity"]), ranks["earlier"])
	}
	plot, err := os.ReadFile(s.file("plot.svg"))
	s.must(err)
	var svg struct{ XMLName xml.Name }
	if err := xml.Unmarshal(plot, &svg); err != nil || svg.XMLName.Local != "svg" || !bytes.Contains(plot, []byte("popularity")) {
		t.Errorf("the plot is no SVG of the rankers: %v\n%.200s", err, plot)
	}

	weights, err := loadWeights(s.file("weights.json"))
	s.must(err)
	if made := weights.Training(); !slices.Equal(made.Without, []fusion.Group{fusion.User}) || made.Seed != 7 || !strings.HasPrefix(made.Note, "fitted on events.csv before ") {
		t.Errorf("the weights do not say how they were fitted: %+v", made)
	}

	// The saved weights rank as those that were fitted, where latent factors are of the same time; and what was written can be compared with.
	out, _ := s.eval("--weights", s.file("weights.json"), "--ranks", s.file("again.json"), "--against", s.file("ranks.json")+":fusion",
		"--against", s.file("ranks.json")+":popularity", "--learn-before", s.before, "--seed", "7", "--json")
	if !cmp.Equal(ranks["fusion"], s.ranks("again.json")["fusion"]) {
		t.Error("the saved weights rank otherwise than when they were fitted")
	}
	_, figures := s.figures(out)
	if figures["diff_hr1"] != 0 || figures["diff_hr1_2"] <= 0 {
		t.Errorf("lead over itself %v, over popularity %v", figures["diff_hr1"], figures["diff_hr1_2"])
	}
	// They are other weights than those that travel with the program.
	s.eval("--ranks", s.file("again.json"))
	if cmp.Equal(ranks["fusion"], s.ranks("again.json")["fusion"]) {
		t.Error("the fitted weights are those that travel with the program")
	}
}

// Categories come from the catalogue, and without one the rest of the evidence ranks.
func TestEvalNeedsNoCatalogue(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	s.eval("--ranks", s.file("with.json"))
	var out, errs bytes.Buffer
	args := []string{"eval", "--events", s.file("events.csv"), "--cases", s.file("cases.jsonl"), "--ranks", s.file("without.json")}
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if cmp.Equal(s.ranks("with.json"), s.ranks("without.json")) {
		t.Error("the catalogue makes no difference")
	}
}

// What the graph keeps and reads is what was asked for.
func TestEvalSetsTheGraph(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	s.eval("--ranks", s.file("usual.json"))
	usual := s.ranks("usual.json")["fusion"]
	for _, flags := range [][]string{{"--history", "1"}, {"--item-list", "4"}, {"--met", "1"}, {"--bound", "8"}, {"--positive", "5"}, {"--negative", "1"}} {
		s.eval(append(flags, "--ranks", s.file("other.json"))...)
		if cmp.Equal(usual, s.ranks("other.json")["fusion"]) {
			t.Errorf("%s makes no difference", strings.Join(flags, " "))
		}
	}
}

// With --redis the figures are those of the Redis within the process, and nothing stays behind.
func TestEvalInARedis(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	// The embedded server does not say how it is set up, and gets a smaller bound than by default.
	args := []string{"--json", "--fit-before", s.before, "--fit-cases", "400", "--bound", "128"}
	want, _ := s.eval(args...)
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		s := s
		s.T = t
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		s.must(rdb.Set(t.Context(), "r2eval-of-others", 1, 0).Err())
		got, _ := s.eval(append(args, "--redis", fmt.Sprintf("redis://%s/%d", opt.Addrs[0], opt.DB))...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("figures (-within the process +there):\n%s", diff)
		}
		if left, err := embeddedtest.Keys(t.Context(), rdb, "*"); err != nil || !slices.Equal(left, []string{"r2eval-of-others"}) {
			t.Errorf("%d keys are left: %.200q, %v", len(left), left, err)
		}
	})
}

// onText calls f once, as soon as a text has been written.
type onText struct {
	bytes.Buffer
	text string
	f    func()
}

func (w *onText) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.f != nil && strings.Contains(w.String(), w.text) {
		w.f()
		w.f = nil
	}
	return n, err
}

// A Ctrl-C in the middle of the stream, when the weights have just been fitted.
func TestEvalStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		held := int64(0)
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		log := &onText{text: "msg=fitted", f: func() { held = rdb.DBSize(t.Context()).Val(); cancel() }}
		var out bytes.Buffer
		code := run(ctx, s.args("--redis", fmt.Sprintf("redis://%s/%d", opt.Addrs[0], opt.DB), "--fit-before", s.before, "--fit-cases", "400",
			"--ranks", s.file("ranks.json")), &out, log)
		if code != exitStopped || out.Len() != 0 || strings.Contains(log.String(), "msg=asked") {
			t.Errorf("exit code %d, printed %q, logged %s", code, out.String(), log)
		}
		if held == 0 {
			t.Error("nothing was in Redis when it was told to stop: the test tries nothing")
		}
		if n := rdb.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("%d of %d keys are left", n, held)
		}
		if _, err := os.Stat(s.file("ranks.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("ranks were written of a run that was stopped: %v", err)
		}
	})
}

// Every wrong input is told with its flag or file, its value and the way out, and before anything has been written.
func TestEvalWrongInput(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	good, err := os.ReadFile(s.file("cases.jsonl"))
	s.must(err)
	s.write("broken.jsonl", string(good)+"{\"case\":\n")
	s.write("other.json", `{"als":[1,2,3],"odd":{}}`)
	s.write("nonsense.txt", "nonsense")
	first, err := strconv.Atoi(s.before)
	s.must(err)
	file := func(name string) string { return s.file(name) }
	for _, tc := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--events", "/does/not/exist"}, 2, []string{"--events", "/does/not/exist"}},
		{[]string{"--cases", "/does/not/exist"}, 2, []string{"--cases", "/does/not/exist"}},
		{[]string{"--weights", "/does/not/exist"}, 2, []string{"--weights", "/does/not/exist"}},
		{[]string{"--events", file("nonsense.txt")}, 1, []string{"nonsense.txt:1", "user_id"}},
		{[]string{"--items", file("nonsense.txt")}, 1, []string{"nonsense.txt:1", "item_id"}},
		{[]string{"--cases", file("broken.jsonl")}, 1, []string{fmt.Sprintf("broken.jsonl:%d: ", s.cases+1), `{\"case\":`, "want one JSON object"}},
		{[]string{"--ranker", "magic"}, 2, []string{`--ranker "magic"`, "want some of fusion, lm, pool, random"}},
		{[]string{"--ranker", "chain,chain"}, 2, []string{"--ranker chain: is given twice"}},
		{[]string{"--against", file("other.json")}, 1, []string{"--against", "other.json", "want RANKS.json:KEY"}},
		{[]string{"--against", file("other.json") + ":knn"}, 1, []string{"--against", `no key "knn"`, `it has "als", "odd"`}},
		{[]string{"--against", file("other.json") + ":als"}, 1, []string{"--against", fmt.Sprintf("has 3 ranks for %d cases", s.cases)}},
		{[]string{"--against", file("nonsense.txt") + ":als"}, 1, []string{"--against", "nonsense.txt", "want a JSON object"}},
		{[]string{"--sample", "2", "--against", file("other.json") + ":als"}, 2, []string{"--sample 2: --against compares with the ranks of all cases"}},
		{[]string{"--fit-before", "tomorrow"}, 2, []string{`--fit-before: "tomorrow" is no time`, "want Unix seconds or RFC 3339"}},
		{[]string{"--fit-before", s.before + "000"}, 2, []string{"--fit-before: " + s.before + "000 looks like milliseconds"}},
		{[]string{"--fit-before", "0"}, 2, []string{"--fit-before: 0 is not between"}},
		{[]string{"--fit-before", fmt.Sprint(first + 1)}, 1, []string{fmt.Sprintf("--fit-before %d: case ", first+1), "at or before the first case"}},
		{[]string{"--fit-before", "400000000"}, 1, []string{"--fit-before 400000000", "none of the 0 events", "choose a later time"}},
		{[]string{"--fit-before", "831000000"}, 1, []string{"too few examples", "before 1996-05-02T01:20:00.000Z", "longer time"}},
		{[]string{"--fit-before", s.before, "--fit-cases", "50"}, 2, []string{"--fit-cases 50: want at least 200"}},
		{[]string{"--fit-before", s.before, "--without", "luck"}, 2, []string{`--without "luck": want some of popularity, recency`}},
		{[]string{"--fit-before", s.before, "--weights", file("nonsense.txt")}, 2, []string{"--fit-before and --weights can't be used together"}},
		{[]string{"--fit-before", s.before, "--ranker", "chain"}, 2, []string{"--fit-before is about the fusion", "add fusion to --ranker"}},
		{[]string{"--without", "user"}, 2, []string{"--without needs --fit-before"}},
		{[]string{"--save", file("w.json")}, 2, []string{"--save needs --fit-before"}},
		{[]string{"--fit-before", s.before, "--save", "/does/not/exist"}, 1, []string{"--save /does/not/exist", "make the folder first"}},
		{[]string{"--fit-before", s.before, "--learn-before", s.before}, 2, []string{"--learn-before " + s.before, "leave one of them out"}},
		{[]string{"--ranker", "popularity", "--learn-before", s.before}, 2, []string{"--learn-before is about latent factors", "add fusion or lm"}},
		{[]string{"--learn-before", "noon"}, 2, []string{"--learn-before", "is no time"}},
		{[]string{"--dimensions", "999"}, 2, []string{"latent factors: option Dimensions is 999"}},
		{[]string{"--weights", file("nonsense.txt")}, 1, []string{"--weights " + file("nonsense.txt")}},
		{[]string{"--weights", file("other.json")}, 1, []string{"--weights " + file("other.json"), "version"}},
		{[]string{"--ranks", "/does/not/exist"}, 1, []string{"--ranks /does/not/exist", "make the folder first"}},
		{[]string{"--ranks", file("nonsense.txt")}, 1, []string{"--ranks", "nonsense.txt", "has to be a file of ranks"}},
		{[]string{"--plot", file("nonsense.txt") + "/plot.svg"}, 1, []string{"--plot", "nonsense.txt is no folder"}},
		{[]string{"--catalogue", "--ranker", "chain,fusion"}, 2, []string{"--catalogue: chain only ranks", "put fusion first"}},
		{[]string{"--verify=-1"}, 2, []string{"--verify -1: want 0 or more"}},
		{[]string{"--bound=-1"}, 2, []string{"--bound -1: want 0 or more"}},
		{[]string{"--met", "0"}, 2, []string{"--met 0: want 1 or more"}},
		{[]string{"--positive", "1"}, 2, []string{"--positive 1, --negative 2"}},
		{[]string{"--redis", "nonsense"}, 1, []string{"--redis", "want redis://user:password@host:port/db"}},
		{[]string{"--redis", "redis://u:hush@127.0.0.1:1/0"}, 1, []string{"--redis: redis at 127.0.0.1:1"}},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), s.args(tc.args...), &out, &errs)
		if code != tc.code || out.Len() != 0 {
			t.Errorf("r2rec eval %q: exit code %d, want %d; printed %q", tc.args, code, tc.code, out.String())
		}
		for _, want := range tc.want {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("r2rec eval %q: want %q in %s", tc.args, want, errs.String())
			}
		}
		if strings.Contains(errs.String(), "hush") || strings.Contains(errs.String(), "goroutine") || strings.Contains(errs.String(), "are left in redis") {
			t.Errorf("r2rec eval %q tells a secret, a stack or what is not so: %s", tc.args, errs.String())
		}
	}
	files, err := os.ReadDir(s.dir)
	s.must(err)
	if len(files) != 6 {
		t.Errorf("wrong input has made files: %v", files)
	}
}

// What ranks by later events is found out: here a ranker that has read the whole file before.
func TestEvalVerifyFindsWhoLooksAhead(t *testing.T) {
	s := newSlice(t)
	data, err := dataset.OpenFiles(s.file("events.csv"), s.file("items.csv"))
	s.must(err)
	cases, err := eval.ReadCases(s.file("cases.jsonl"))
	s.must(err)
	var out, errs bytes.Buffer
	p := &process{ctx: t.Context(), stdout: &out, stderr: &errs, log: newLogger(&errs, 0, false)}
	c := evalCommand{Verify: 20, Seed: 1}
	k, err := c.contestant(p, &stages{p: p}, "popularity", data, cases)
	s.must(err)
	results, err := eval.Run(t.Context(), data.Interactions(), cases, []eval.Named{k.Named}, eval.Config{})
	s.must(err)
	s.must(c.verify(p, &stages{p: p}, data, cases, k, results[0]))
	for _, scores := range results[0].Scores {
		scores[0]++
	}
	err = c.verify(p, &stages{p: p}, data, cases, k, results[0])
	if err == nil || !regexp.MustCompile(`popularity looks into the future: \d+ of 20 cases`).MatchString(err.Error()) {
		t.Errorf("%v, want that it looks into the future", err)
	}
}

// Without cases they are drawn, the same for the same seed, and what is kept of them asks the same.
func TestEvalDrawsCases(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	data := []string{"eval", "--events", s.file("events.csv"), "--items", s.file("items.csv"), "--ranker", "popularity,recent", "--json"}
	ask := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), slices.Concat(data, args), &out, &errs); code != 0 {
			t.Fatalf("exit code %d, %s", code, errs.String())
		}
		return out.String()
	}
	kept := s.file("kept.jsonl")
	drawn := ask("--draw", "40", "--since", s.before, "--keep-cases", kept)
	if again := ask("--cases", kept); again != drawn {
		t.Errorf("drawn, the figures are %s, and asked again %s", drawn, again)
	}
	cases, err := eval.ReadCases(kept)
	s.must(err)
	since, err := parseMoment(s.before)
	s.must(err)
	if len(cases) < 20 || cases[0].At < since {
		t.Errorf("%d cases since %s, want about 40 since %s", len(cases), cases[0].At, since)
	}
	if popular := ask("--draw", "40", "--since", s.before, "--popular"); popular == drawn {
		t.Error("popular candidates are no others")
	}
	if newest := ask("--draw", "20"); newest == "" {
		t.Error("of the newest tenth nothing is asked")
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--cases", kept, "--popular"}, 2, "--since, --popular and --keep-cases are about those that are drawn"},
		{[]string{"--draw", "0"}, 2, "--draw 0"},
		{[]string{"--since", "yesterday"}, 2, "--since: "},
		{[]string{"--since", "4000000000"}, 1, "choose an earlier time"},
		{[]string{"--against", kept + ":als"}, 2, "name their file by"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), slices.Concat(data, tc.args), &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("%v: exit code %d, %s; want %d and %s", tc.args, code, errs.String(), tc.code, tc.want)
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"eval", "--items", s.file("items.csv")}, &out, &errs); code != exitMisused || !strings.Contains(errs.String(), "--items without --events") {
		t.Errorf("items of nobody's: exit code %d, %s", code, errs.String())
	}
}
