package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/rltrainer"
)

// What is written for a trainer elsewhere is the given cases, each with its prompt and what was chosen; drawn ones say from
// when on they taught nothing; and no user is named.
func TestLMExport(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	export := func(out string, more ...string) (rows []rltrainer.ExportedCase, m lora.Manifest, said lmExported) {
		code, printed, log := lmRun(t.Context(), append([]string{"export", out, "--json", "--model", baseFile, "--events", s.file("events.csv"), "--items", s.file("items.csv")}, more...)...)
		if code != 0 || json.Unmarshal([]byte(printed), &said) != nil {
			t.Fatalf("exit code %d, %q\n%s", code, printed, log)
		}
		s.must(json.Unmarshal(readFile(t, filepath.Join(out, manifestFile)), &m))
		for line := range bytes.Lines(readFile(t, filepath.Join(out, rolloutsFile))) {
			var x rltrainer.ExportedCase
			s.must(json.Unmarshal(line, &x))
			rows = append(rows, x)
		}
		return rows, m, said
	}
	cases, err := eval.ReadCases(s.file("cases.jsonl"))
	s.must(err)
	letters := map[string]bool{}
	rows, m, said := export(filepath.Join(s.dir, "held"), "--cases", s.file("cases.jsonl"))
	if len(rows) != len(cases) || said.Cases != len(cases) || m.LearnedBefore != 0 || m.LearnedEvents != (event.Past{}) || m.Readout != "lines" || len(m.BaseDigest) != 64 {
		t.Fatalf("%d rows of %d cases, %+v, %+v", len(rows), len(cases), said, m)
	}
	tokens := 0
	for i, x := range rows {
		content, err := iot.Parse(x.Prompt)
		s.must(err)
		best, sum := 0, 0.
		for j, v := range x.Values {
			if sum += v; v > x.Values[best] {
				best = j
			}
		}
		if x.Case != cases[i].ID || cases[i].Candidates[x.Chosen] != cases[i].Positive || best != x.Chosen || sum != 1 || x.Weight != 1 {
			t.Fatalf("row %d is %+v, want that of %+v", i, x, cases[i])
		}
		if len(x.Completions) != len(content.Ends) || len(x.Ends) != len(content.Ends) || len(x.Values) != len(content.Ends) {
			t.Fatalf("row %d: %d completions, %d lines, %d values of %d candidates", i, len(x.Completions), len(x.Ends), len(x.Values), len(content.Ends))
		}
		for k, c := range x.Completions { // in the order of the case: the letters are shuffled, and lines end later the later the letter
			for l, other := range x.Completions {
				if (c < other) != (x.Ends[k] < x.Ends[l]) {
					t.Fatalf("row %d: %q ends at %d, %q at %d", i, c, x.Ends[k], other, x.Ends[l])
				}
			}
		}
		tokens += len(x.Tokens)
		letters[x.Completions[x.Chosen]] = true
		if line, err := json.Marshal(x); err != nil || strings.Contains(string(line), `"user`) {
			t.Fatalf("row %d names its user: %s, %v", i, line, err)
		}
		asked, err := iot.Build(iot.Figures, event.Context{Candidates: make([]event.Candidate, len(x.Completions))}, live.Seed(cases[i]))
		s.must(err)
		for k, letter := range asked.Letters { // which depend on the seed alone
			if x.Completions[k] != " "+string(rune(letter)) {
				t.Fatalf("row %d is not asked as r2rec eval asks it", i)
			}
		}
	}
	if tokens != said.Tokens || len(letters) < 15 {
		t.Errorf("%d tokens, said %d; the chosen candidate has one of %d letters", tokens, said.Tokens, len(letters))
	}

	drawn, m, _ := export(filepath.Join(s.dir, "drawn"), "--fit-before", s.before, "--draw", "50")
	if len(drawn) < 20 || m.LearnedBefore == 0 || seconds(cases[0].At) != s.before || m.LearnedBefore != int64(cases[0].At) || m.LearnedEvents != s.past(s.before) {
		t.Errorf("%d drawn cases, manifest %+v, want those before %s", len(drawn), m, s.before)
	}
	code, _, log := lmRun(t.Context(), "export", filepath.Join(s.dir, "none"), "--events", s.file("events.csv"), "--cases", s.file("cases.jsonl"))
	if code != 2 || !strings.Contains(log, "--model: name the GGUF file") {
		t.Errorf("without a model: exit code %d, %s", code, log)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"", 2, "--fit-before to draw cases, or --cases"},
		{"--fit-before 1 --cases " + s.file("cases.jsonl"), 2, "--fit-before to draw cases, or --cases"},
		{"--fit-before yesterday", 2, "yesterday"},
		{"--fit-before 400000000", 1, "choose a later time"},
		{"--fit-before 400000000 --draw 0", 2, "--draw 0"},
		{"--readout pointwise --cases " + s.file("cases.jsonl"), 2, "pointwise"},
	} {
		out := filepath.Join(s.dir, "none")
		code, _, log := lmRun(t.Context(), append([]string{"export", out, "--model", baseFile, "--events", s.file("events.csv"), "--items", s.file("items.csv")}, strings.Fields(tc.args)...)...)
		if code != tc.code || !strings.Contains(log, tc.want) {
			t.Errorf("%s: exit code %d, %s; want %d and %q", tc.args, code, log, tc.code, tc.want)
		}
		if _, err := os.Stat(filepath.Join(out, rolloutsFile)); err == nil {
			t.Errorf("%s: something is written", tc.args)
		}
	}
}
