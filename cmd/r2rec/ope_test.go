package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

const (
	randomWomen = "../../internal/ope/logs/testdata/openbandit/random/women.csv.gz"
	btsWomen    = "../../internal/ope/logs/testdata/openbandit/bts/women.csv.gz"
	plainLog    = "../../internal/ope/testdata/samples.csv"
)

// opeRun runs r2rec ope to its end.
func opeRun(t *testing.T, args ...string) (out string, figures map[string]opeFigure) {
	t.Helper()
	var o, e bytes.Buffer
	if code := run(t.Context(), append([]string{"ope"}, args...), &o, &e); code != 0 {
		t.Fatalf("r2rec ope %v: exit code %d, %s", args, code, e.String())
	}
	figures = map[string]opeFigure{}
	for line := range strings.Lines(o.String()) {
		var f opeFigure
		if json.Unmarshal([]byte(line), &f) == nil {
			if _, twice := figures[f.Metric]; twice {
				t.Errorf("%s stands twice", f.Metric)
			}
			figures[f.Metric] = f
		}
	}
	return o.String(), figures
}

// From the log that was drawn at random, the other policy's click rate is within every interval of an estimator that uses
// weights; from the other's log, whose effective sample is 2, nothing is estimated.
func TestOpeOnOpenBandit(t *testing.T) {
	_, got := opeRun(t, randomWomen, "--policy-of", btsWomen, "--json")
	for _, metric := range []string{"ips", "snips", "dr"} {
		if f, observed := got[metric], got["observed"].Value; f.Low == nil || !(*f.Low < observed && observed < *f.High) || observed != .0046 {
			t.Errorf("%s: %+v, observed %v", metric, f, observed)
		}
	}
	if f := got["refused"]; f.Value != 0 || f.Verdict != "estimated" || f.Command != "ope" {
		t.Errorf("%+v", f)
	}
	_, got = opeRun(t, btsWomen, "--policy-of", randomWomen, "--json")
	if f := got["refused"]; f.Value != 1 || f.Verdict != "refused" || !strings.Contains(f.Reason, "the weights tell nothing") {
		t.Errorf("%+v", f)
	}
	if f := got["effective_sample"]; f.Value < 2 || f.Value > 2.1 {
		t.Errorf("%+v", f)
	}
	if _, ok := got["snips"]; ok {
		t.Error("a refused log gives an estimate")
	}
	out, _ := opeRun(t, "log", btsWomen, "--policy-of", randomWomen)
	for _, want := range []string{"verdict: refused: the weights tell nothing", "effective sample  2.034"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestOpeOnAPlainLog(t *testing.T) {
	var numpy map[string]struct{ Effective float64 }
	raw, err := os.ReadFile("../../internal/ope/testdata/numpy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &numpy); err != nil {
		t.Fatal(err)
	}
	_, got := opeRun(t, plainLog, "--json", "--clip", "3") // refused: 28 of 248 are too few
	if got["refused"].Value != 1 || math.Abs(got["effective_sample"].Value-numpy["3"].Effective) > 1e-6 {
		t.Errorf("%+v", got)
	}
	log := "user,reward,logged,target\n"
	for i := range 300 {
		log += strings.Repeat("u", 1+i%30) + "," + []string{"1,.5,.6", "0,.5,.4"}[i%2] + "\n"
	}
	path := t.TempDir() + "/log.csv"
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := opeRun(t, path)
	if !strings.Contains(out, "verdict: estimated") || !strings.Contains(out, "judged policy by SNIPS            0.60000") || strings.Contains(out, "DR") || strings.Contains(out, "own log") {
		t.Errorf("without a model of the reward:\n%s", out)
	}
	// The columns line up: a name may be as long as it wants.
	at := strings.Index(out, "estimate")
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "\n") {
			break
		}
		if len(line) <= at || line[at-1] != ' ' || line[at] == ' ' {
			t.Errorf("column at %d: %q", at, line)
		}
	}
}

func TestOpeWrongUsage(t *testing.T) {
	bad := t.TempDir() + "/bad.csv"
	if err := os.WriteFile(bad, []byte("user,reward,logged,target\na,1,0,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"ope", 2, `expected "<log>"`},
		{"ope /does/not/exist", 2, "/does/not/exist"},
		{"ope " + bad, 1, "bad.csv: line 2: logged is 0: want a probability above 0"},
		{"ope " + randomWomen, 1, "--policy-of FILE"},
		{"ope " + randomWomen + " --policy-of " + plainLog, 1, "is no Open Bandit log"},
		{"ope " + plainLog + " --policy-of " + randomWomen, 1, "--policy-of is for Open Bandit logs"},
		{"ope " + plainLog + " --clip 0.5", 2, "--clip 0.5: want 1 or more"},
		{"ope " + plainLog + " --level 95", 2, "--level 95: want a share between 0 and 1"},
		{"ope " + plainLog + " --resamples 10", 2, "--resamples 10: want 200 or more"},
		{"ope power --cases 1", 2, "--cases 1: want 100 or more"},
		{"ope power --reruns 0", 2, "--reruns 0: want 1 or more"},
		{"ope power --plot /does/not/exist/p.svg", 1, "make the folder first"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(tc.args), &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("r2rec %s: exit code %d, %q; want %d and %q", tc.args, code, errs.String(), tc.code, tc.want)
		}
	}
}

// On the first ratings of MovieLens, the same seed gives the same figures, and the picture is written.
func TestOpePower(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	args := []string{"power", "--events", s.file("events.csv"), "--cases", "400", "--reruns", "4", "--decisions", "1500,300", "--improvements", "0.02,0", "--json"}
	out, got := opeRun(t, append(args, "--plot", s.file("power.svg"))...)
	for metric, want := range map[string]float64{"promoted_1_of_1500": 0, "underpowered_2_of_300": 1} {
		if f, ok := got[metric]; !ok || f.Value != want || f.Command != "ope power" {
			t.Errorf("%s: %+v, want %v", metric, f, want)
		}
	}
	if f := got["needed"]; !(f.Value > 300) {
		t.Errorf("%+v", f)
	}
	if again, _ := opeRun(t, args...); again != out {
		t.Errorf("again with the same seed:\n%s\nfirst:\n%s", again, out)
	}
	if svg, err := os.ReadFile(s.file("power.svg")); err != nil || !bytes.Contains(svg, []byte("better by 0.02")) {
		t.Errorf("%v, %.200s", err, svg)
	}
	table, _ := opeRun(t, args[:len(args)-1]...)
	if !strings.Contains(table, "better by 0.020") || !strings.Contains(table, "a gate that is to find 0.02 needs") {
		t.Error(table)
	}
}
