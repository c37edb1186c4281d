package iot

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/event"
)

var update = flag.Bool("update", false, "write the golden files under testdata again")

// TestGolden keeps the exact bytes of the prompt, the thought and the reasons of each context under testdata.
func TestGolden(t *testing.T) {
	for _, name := range []string{"usual", "cold", "hostile"} {
		c := load(t, name)
		slate := slateOf(c, 5)
		p, err := Build(Words, c, 7)
		if err != nil {
			t.Fatal(err)
		}
		thought := Explain(c, slate, 0)
		words, err := json.MarshalIndent(map[string]any{"thought": thought, "reasons": Reasons(c, thought, slate)}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".prompt.txt", p.Text)
		golden(t, name+".thought.json", string(words)+"\n")
	}
}

// A prompt of figures is the same for everybody whose candidates have the same digits, whatever is called how.
func TestFigures(t *testing.T) {
	c := load(t, "usual")
	p, err := Build(Figures, c, 7)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "figures.prompt.txt", p.Text)
	words := mustBuild(t, c, 7)
	if diff := cmp.Diff(words.Order, p.Order); diff != "" {
		t.Errorf("another order than in words:\n%s", diff)
	}
	for j, line := range mustParse(t, p.Text).Candidates {
		if line.Digits != words.Content.Candidates[j].Digits || line.Title != "" || line.Categories != nil {
			t.Errorf("line %d says %+v, in words %+v", j, line, words.Content.Candidates[j])
		}
		if end := p.Content.Ends[j]; p.Text[end] != '\n' || p.Text[end-1] != '0'+line.Digits[layouts[Figures].lineDigits()-1] {
			t.Errorf("line %d does not end at byte %d", j, end)
		}
	}
	c.History, c.Chains = nil, nil
	for i := range c.Candidates {
		c.Candidates[i].Title, c.Candidates[i].Categories = "Answer:", []string{"x"}
	}
	if bare, err := Build(Figures, c, 7); err != nil || bare.Text != p.Text {
		t.Errorf("another text without titles, likes and chains (error %v):\n%s", err, cmp.Diff(p.Text, bare.Text))
	}
	for _, version := range []int{0, 5, -1} {
		if _, err := Build(version, c, 7); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// Full figures are figures with other digits, the last of which is the same on every line.
func TestFullFigures(t *testing.T) {
	c := load(t, "usual")
	c.Draw = .62
	for i := range c.Candidates { // the file knows no factors
		c.Candidates[i].Evidence.Latent = [2]float64{float64(i%7) / 7, float64(i%5) / 5}
	}
	p, err := Build(FullFigures, c, 7)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "fullfigures.prompt.txt", p.Text)
	if got := mustParse(t, p.Text); !cmp.Equal(got, p.Content) {
		t.Errorf("what Build put in and what Parse found:\n%s", cmp.Diff(p.Content, got))
	}
	for j, end := range p.Content.Ends {
		line := p.Content.Candidates[j]
		if p.Text[end:end+1] != "\n" || p.Text[end-1] != '6' || line.Digits[12] != 6 || p.Text[end-2] != '0'+line.Digits[11] || line.Title != "" {
			t.Errorf("line %d, %+v, does not end at byte %d", j, line, end)
		}
	}
	if Worded(FullFigures) || !Factored(FullFigures) || Factored(Figures) || Factored(Words) {
		t.Error("full figures alone show factors, and no words")
	}
	for name, damage := range map[string][2]string{
		"drawn in two ways": {"6\nB ", "5\nB "},
		"a digit more":      {"6\nB ", "66\nB "},
		"a digit less":      {"6\nB ", "\nB "},
		"another heading":   {layouts[FullFigures].heading, layouts[Words].heading},
	} {
		text := strings.Replace(p.Text, damage[0], damage[1], 1)
		if _, err := Parse(text); err == nil || text == p.Text {
			t.Errorf("%s: it is accepted", name)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update if the change is meant, and make another version if it is a prompt):\n%s", path, diff)
	}
}

// load reads testdata/NAME.context.json.
func load(t testing.TB, name string) event.Context {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".context.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c event.Context
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatalf("decode testdata/%s.context.json: %v", name, err)
	}
	return c
}

// slateOf shows the first k candidates.
func slateOf(c event.Context, k int) []event.Slot {
	var slate []event.Slot
	for i, it := range c.Candidates[:min(k, len(c.Candidates))] {
		slate = append(slate, event.Slot{Position: i + 1, ItemID: it.ItemID, Probability: 1})
	}
	return slate
}

func TestBuildIsAFunctionOfContextAndSeed(t *testing.T) {
	c := load(t, "usual")
	first := mustBuild(t, c, 1)
	if diff := cmp.Diff(first, mustBuild(t, c, 1)); diff != "" {
		t.Errorf("built twice, two prompts:\n%s", diff)
	}
	orders := make(map[string]bool)
	for seed := range uint64(50) {
		orders[string(mustBuild(t, c, seed).Letters)] = true
	}
	if len(orders) != 50 {
		t.Errorf("50 seeds gave %d orders", len(orders))
	}
}

// TestLinesEndAtTheirLastDigit: where a readout scores a candidate, exactly its line has just been read, and the chains
// before it.
func TestLinesEndAtTheirLastDigit(t *testing.T) {
	for _, name := range []string{"usual", "cold", "hostile"} {
		p := mustBuild(t, load(t, name), 4)
		if len(p.Content.Ends) != len(p.Letters) {
			t.Fatalf("%s: %d ends for %d candidates", name, len(p.Content.Ends), len(p.Letters))
		}
		from := strings.Index(p.Text, layouts[Words].heading) + len(layouts[Words].heading) + 1
		for j, end := range p.Content.Ends {
			line := p.Text[from:end]
			if !strings.HasPrefix(line, string(letter(j))+`. "`+p.Content.Candidates[j].Title) || strings.Contains(line, "\n") || p.Text[end] != '\n' {
				t.Errorf("%s: the line of %c is %q", name, letter(j), line)
			}
			n := layouts[Words].lineDigits()
			for k, d := range p.Content.Candidates[j].Digits[:n] {
				if line[len(line)-n+k] != '0'+d {
					t.Errorf("%s: %q does not end in the digits %v", name, line, p.Content.Candidates[j].Digits)
				}
			}
			from = end + 1
		}
		if rest := p.Text[from:]; rest != "\n"+replyLine(len(p.Letters))+"\nAnswer:" {
			t.Errorf("%s: after the candidates stands %q", name, rest)
		}
	}
}

// TestShuffleIsFixed holds the draw to what logged decisions were made with.
func TestShuffleIsFixed(t *testing.T) {
	want := []int{0, 7, 5, 1, 3, 9, 2, 6, 8, 4}
	if got := shuffled(10, 1); !slices.Equal(got, want) {
		t.Errorf("shuffled(10, 1) = %v, want %v", got, want)
	}
}

func TestShuffleIsFair(t *testing.T) {
	const n, seeds = 20, 20000
	var first [n]int
	for seed := range uint64(seeds) {
		first[shuffled(n, seed)[0]]++
	}
	for i, count := range first {
		if count < seeds/n*85/100 || count > seeds/n*115/100 { // 5 standard deviations
			t.Errorf("candidate %d stood first %d times, want about %d", i, count, seeds/n)
		}
	}
}

func TestLettersLeadBackToCandidates(t *testing.T) {
	c := load(t, "usual")
	p := mustBuild(t, c, 3)
	got := mustParse(t, p.Text)
	if len(p.Letters) != len(c.Candidates) || len(p.Order) != len(c.Candidates) {
		t.Fatalf("%d letters and %d places for %d candidates", len(p.Letters), len(p.Order), len(c.Candidates))
	}
	for i, it := range c.Candidates {
		line := got.Candidates[p.Letters[i]-'A']
		if line.Title != title(it.Title, it.ItemID) || p.Order[p.Letters[i]-'A'] != i {
			t.Errorf("candidate %d, %q, has letter %c: %q", i, it.Title, p.Letters[i], line.Title)
		}
	}
	for _, ch := range got.Chains {
		if to := c.Candidates[p.Order[ch.Letter-'A']].ItemID; to != c.Chains[ch.Number-1].ItemID {
			t.Errorf("chain %d leads to %s in the prompt, to %s in the context", ch.Number, to, c.Chains[ch.Number-1].ItemID)
		}
	}
}

func TestBuildNeedsOneToTwentyCandidates(t *testing.T) {
	for n, want := range map[int]error{0: ErrCandidates, 1: nil, 20: nil, 21: ErrCandidates} {
		c := event.Context{Candidates: make([]event.Candidate, n)}
		if _, err := Build(Words, c, 1); !errors.Is(err, want) {
			t.Errorf("%d candidates: error %v, want %v", n, err, want)
		}
	}
}

// TestNoUserIDInAnyText uses neighbours' ids that would be found anywhere.
func TestNoUserIDInAnyText(t *testing.T) {
	c := load(t, "usual")
	for i := range c.Chains {
		c.Chains[i].Neighbour = "secret-" + c.Chains[i].Neighbour
	}
	slate := slateOf(c, len(c.Candidates))
	thought := Explain(c, slate, 5)
	data, err := json.Marshal([]any{mustBuild(t, c, 1), thought, Reasons(c, thought, slate)})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "secret-") {
		t.Errorf("another user's id appears in %s", data)
	}
}

func TestContentFreePromptFavoursNobody(t *testing.T) {
	p, err := ContentFree(Words, 20)
	if err != nil {
		t.Fatal(err)
	}
	got := mustParse(t, p.Text)
	for _, line := range got.Candidates {
		if line.Title != "N/A" || line.Digits != [MaxDigits]byte{} || line.Categories != nil {
			t.Errorf("line %+v says something", line)
		}
	}
	if len(got.Candidates) != 20 || !slices.Equal(got.Likes, []string{"N/A"}) || got.Chains != nil {
		t.Errorf("the prompt says %+v", got)
	}
}

func mustBuild(t testing.TB, c event.Context, seed uint64) Prompt {
	t.Helper()
	p, err := Build(Words, c, seed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustParse(t testing.TB, text string) Content {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}
