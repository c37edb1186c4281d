package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/ope"
)

func TestPlainForm(t *testing.T) {
	const text = "reward,user,ignored,target,logged,vlogged,q,v\n1,a,x,.25,.5,.3,.1,.2\n-1,\"b,c\",,0,1,0,0,0\n"
	want := &Log{Modelled: true, Samples: []ope.Sample{
		{User: "a", Reward: 1, Logged: .5, Target: .25, Q: .1, V: .2, VLogged: .3},
		{User: "b,c", Reward: -1, Logged: 1},
	}}
	got, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write([]byte(text))
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if got, err = Read(&zipped); err != nil || !cmp.Equal(got, want) {
		t.Errorf("gzipped: %v", err)
	}
	got, err = Read(strings.NewReader("user,reward,logged,target\na,1,.5,.25\n"))
	if err != nil || got.Modelled || len(got.Samples) != 1 {
		t.Errorf("without a model: %+v, %v", got, err)
	}
}

func TestLogsThatCannotBe(t *testing.T) {
	const open = "item_id,position,click,propensity_score\n3,1,0,.5\n"
	for text, want := range map[string]string{
		"":                                   "it is empty",
		"a,b\n1,2\n":                         `its columns are ["a" "b"]: want user, reward, logged, target`,
		"user,user,reward\n":                 `"user" stands twice`,
		"user,reward,logged,target,q\n":      "all of q, v, vlogged",
		"user,reward,logged,target\na,1,0,1": "line 2: logged is 0: want a probability above 0",
		"user,reward,logged,target\na,1,1,1\n\nb,x,1,1": `line 4: reward "x": want a number`,
		"user,reward,logged,target\n,1,1,1":             `line 2: user is "": want an id`,
		"user,reward,logged,target\na,1,1":              "wrong number of fields",
		"user,reward,logged,target\na,NaN,1,1":          "line 2: reward is NaN",
		open + "-3,1,0,.5":                              `line 3: item_id "-3": want an integer from 0`,
		open + "3,x,0,.5":                               `line 3: position "x"`,
		open + "3,1,2,.5":                               `line 3: click "2": want 0 or 1`,
		open + "3,1,1,1.5":                              `line 3: propensity_score "1.5": want a probability`,
		"item_id,position,click,action_prob\n3,1,1,0":   `line 2: action_prob "0": want a probability`,
		"\x1f\x8b\x00":                                  "gzip",
	} {
		if l, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, l, err, want)
		}
	}
	if _, err := Open("testdata/none.csv"); err == nil || !strings.Contains(err.Error(), "testdata/none.csv") {
		t.Error(err)
	}
}

// FuzzRead wants an error or samples that can be, never a panic.
func FuzzRead(f *testing.F) {
	f.Add([]byte("user,reward,logged,target,q,v,vlogged\na,1,.5,.25,0,0,0\n"))
	f.Add([]byte("item_id,position,click,propensity_score,user_feature_0\n3,1,1,.5,x\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		if err := ope.Check(l.Samples); err != nil {
			t.Error(err)
		}
		if len(l.Impressions) > 0 {
			j, err := Judge(l.Impressions, l.Impressions, 2)
			if err != nil {
				t.Fatal(err)
			}
			if err := ope.Check(j.Samples); err != nil && !strings.Contains(err.Error(), "divided") {
				t.Error(err)
			}
		}
	})
}

// A log small enough to compute by hand.
func TestJudgeByFrequencies(t *testing.T) {
	log := []Impression{{"a", 1, 1, 1, .5}, {"a", 2, 1, 0, .5}, {"b", 1, 2, 0, .25}, {"b", 1, 1, 0, .5}}
	of := []Impression{{"x", 1, 1, 1, .9}, {"x", 1, 1, 0, .9}, {"x", 1, 1, 0, .9}, {"y", 2, 1, 1, .1}, {"y", 3, 2, 0, 1}}
	j, err := Judge(log, of, 2)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(j.Observed-.4) > 1e-12 || math.Abs(j.Missing-.2) > 1e-12 {
		t.Errorf("observed %v, missing %v; want .4, .2", j.Observed, j.Missing)
	}
	var target []float64
	for i, s := range j.Samples {
		target = append(target, s.Target)
		if s.Logged != log[i].Propensity || s.Reward != log[i].Click || s.User != log[i].User {
			t.Errorf("sample %d is %+v of %+v", i, s, log[i])
		}
	}
	if want := []float64{.75, .25, 0, .75}; !reflect.DeepEqual(target, want) {
		t.Errorf("target %v, want %v", target, want)
	}
	if _, err := Judge(nil, of, 2); err == nil {
		t.Error("no log, no error")
	}
	if _, err := Judge(log, of, 1); err == nil {
		t.Error("one fold, no error")
	}
}

// No user's own clicks reach the model that judges that user.
func TestTheModelNeverSawItsUser(t *testing.T) {
	log := mustOpen(t, "testdata/openbandit/random/women.csv.gz").Impressions
	before, err := Judge(log, log, 5)
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]Impression(nil), log...)
	for i := range changed {
		if changed[i].User == log[0].User {
			changed[i].Click = 1 - changed[i].Click
		}
	}
	after, err := Judge(changed, log, 5)
	if err != nil {
		t.Fatal(err)
	}
	others := 0
	for i, s := range after.Samples {
		b := before.Samples[i]
		same := s.Q == b.Q && s.V == b.V
		if s.User == log[0].User && !same {
			t.Fatalf("sample %d: q %v becomes %v with the user's own clicks", i, b.Q, s.Q)
		}
		if !same {
			others++
		}
	}
	if others == 0 {
		t.Error("nobody's model learned from these clicks")
	}
}

func mustOpen(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Real logs of an A/B test, each judging the other's policy, whose click rate was observed: what numpy computed, to 1e-6;
// from the random log every interval holds the observed rate; from the other one, which hardly ever drew some items, two
// decisions would count, and it is refused.
func TestOpenBandit(t *testing.T) {
	random, bts := mustOpen(t, "testdata/openbandit/random/women.csv.gz").Impressions, mustOpen(t, "testdata/openbandit/bts/women.csv.gz").Impressions
	var numpy map[string]map[string]float64
	raw, err := os.ReadFile("testdata/numpy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &numpy); err != nil {
		t.Fatal(err)
	}
	for name, logs := range map[string][2][]Impression{"random to bts": {random, bts}, "bts to random": {bts, random}} {
		j, err := Judge(logs[0], logs[1], 5)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ope.Evaluate(j.Samples, ope.Options{Resampling: ope.Resampling{Seed: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for metric, got := range map[string]float64{"logged": r.Logged.Estimate, "ips": r.IPS.Estimate, "snips": r.SNIPS.Estimate, "snips_difference": r.SNIPSDifference.Estimate,
			"effective": r.Effective, "clipped": r.Clipped, "max_weight": r.MaxWeight, "mean_weight": r.MeanWeight.Estimate, "observed": j.Observed} {
			if want, ok := numpy[name][metric]; !ok || !(math.Abs(got-want) <= 1e-6*max(1, want)) {
				t.Errorf("%s: %s is %v, numpy says %v", name, metric, got, want)
			}
		}
		switch name {
		case "random to bts":
			for metric, b := range map[string]ope.Bounds{"IPS": r.IPS, "SNIPS": r.SNIPS, "DR": r.DR} {
				if !(b.Low <= j.Observed && j.Observed <= b.High) || b.High-b.Low > .01 {
					t.Errorf("%s: %s says %.4f (%.4f to %.4f), %.4f were observed", name, metric, b.Estimate, b.Low, b.High, j.Observed)
				}
			}
			if r.Refused != "" {
				t.Errorf("%s: %s", name, r.Refused)
			}
		case "bts to random":
			if !strings.Contains(r.Refused, "10000 decisions weigh as much as 2.03 of the judged policy's own") {
				t.Errorf("%s: %q", name, r.Refused)
			}
		}
	}
}
