package iot

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

var update = flag.Bool("update", false, "write the golden files under testdata again")

// TestGolden keeps the exact bytes of the prompt, the thought and the reasons of each context under testdata.
func TestGolden(t *testing.T) {
	for _, name := range []string{"usual", "cold", "hostile"} {
		c := load(t, name)
		slate := slateOf(c, 5)
		p, err := Build(c, 7, Options{})
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
		t.Errorf("%s (run with -update if the change is meant, and raise Version if it is a prompt):\n%s", path, diff)
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
	first := mustBuild(t, c, 1, Options{})
	if diff := cmp.Diff(first, mustBuild(t, c, 1, Options{})); diff != "" {
		t.Errorf("built twice, two prompts:\n%s", diff)
	}
	orders := make(map[string]bool)
	for seed := range uint64(50) {
		orders[string(mustBuild(t, c, seed, Options{}).Letters)] = true
	}
	if len(orders) != 50 {
		t.Errorf("50 seeds gave %d orders", len(orders))
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
	p := mustBuild(t, c, 3, Options{})
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
		if _, err := Build(c, 1, Options{}); !errors.Is(err, want) {
			t.Errorf("%d candidates: error %v, want %v", n, err, want)
		}
	}
}

func TestDigitsAreRelativeToTheBest(t *testing.T) {
	c := event.Context{Candidates: []event.Candidate{
		{ItemID: "a", Evidence: event.Evidence{Chains: 50, Recent: [3]float64{1: .3}, Popularity: 128}},
		{ItemID: "b", Evidence: event.Evidence{Chains: 49.9, Recent: [3]float64{1: .15}, Popularity: 12}},
		{ItemID: "c", Evidence: event.Evidence{Chains: 0, Recent: [3]float64{1: .0299}, Popularity: 127}},
	}}
	want := [][4]byte{{9, 9, 9, 0}, {9, 5, 0, 0}, {0, 0, 9, 0}}
	if diff := cmp.Diff(want, evidenceDigits(c.Candidates)); diff != "" {
		t.Error(diff)
	}
}

// TestBudgetLeavesOutInOrder shrinks the budget byte by byte and holds Build to its stated order.
func TestBudgetLeavesOutInOrder(t *testing.T) {
	c := load(t, "usual")
	full := mustParse(t, mustBuild(t, c, 5, Options{}).Text)
	if len(full.Chains) == 0 || len(full.Likes) == 0 || len(full.Candidates[0].Title) == 0 {
		t.Fatal("the context has too little to leave out")
	}
	stages := make(map[string]bool)
	for budget := len(mustBuild(t, c, 5, Options{}).Text); ; budget-- {
		p, err := Build(c, 5, Options{MaxBytes: budget})
		if errors.Is(err, ErrBudget) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Text) > budget {
			t.Fatalf("%d bytes, %d allowed", len(p.Text), budget)
		}
		got := mustParse(t, p.Text)
		if len(got.Candidates) != len(full.Candidates) {
			t.Fatalf("budget %d: %d of %d candidates left", budget, len(got.Candidates), len(full.Candidates))
		}
		chains, likes := len(got.Chains), len(got.Likes)
		categories := slices.ContainsFunc(got.Candidates, func(l ParsedCandidate) bool { return len(l.Categories) > 0 })
		titles := slices.EqualFunc(got.Candidates, full.Candidates, func(a, b ParsedCandidate) bool { return a.Title == b.Title })
		if !slices.Equal(got.Chains, full.Chains[:chains]) && titles {
			t.Fatalf("budget %d: the chains left are not the strongest", budget)
		}
		if !slices.Equal(got.Likes, full.Likes[:likes]) {
			t.Fatalf("budget %d: the likes left are not the newest", budget)
		}
		stage := "titles"
		switch {
		case chains > 0:
			stage = "chains"
		case likes > 0:
			stage = "likes"
		case categories:
			stage = "categories"
		}
		if stage == "chains" && likes < len(full.Likes) || (stage == "chains" || stage == "likes") && !categories || stage != "titles" && !titles {
			t.Fatalf("budget %d: at %s, but with %d likes, categories %t, full titles %t", budget, stage, likes, categories, titles)
		}
		stages[stage] = true
	}
	if len(stages) != 4 {
		t.Errorf("seen only the stages %v", stages)
	}
}

func TestWorstTitlesFitTheDefaultBudget(t *testing.T) {
	c := event.Context{}
	for i := range MaxCandidates {
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: strconv.Itoa(i), Title: strings.Repeat("𠜎", 200)})
	}
	p := mustBuild(t, c, 1, Options{})
	if got := mustParse(t, p.Text); len(got.Candidates) != MaxCandidates || utf8.RuneCountInString(got.Candidates[0].Title) < minTitleRunes {
		t.Errorf("the prompt says %v", got)
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
	data, err := json.Marshal([]any{mustBuild(t, c, 1, Options{}), thought, Reasons(c, thought, slate)})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "secret-") {
		t.Errorf("another user's id appears in %s", data)
	}
}

func TestContentFreePromptFavoursNobody(t *testing.T) {
	p, err := ContentFree(20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range mustParse(t, p.Text).Candidates {
		if line.Title != "N/A" || line.Digits != [4]byte{} || line.Categories != nil {
			t.Errorf("line %+v says something", line)
		}
	}
}

// TestParseFindsWhatBuildPutIn draws contexts whose texts are mostly hostile.
func TestParseFindsWhatBuildPutIn(t *testing.T) {
	hostile := hostileTexts(t)
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(hostile), 0, 3), func(s []string) string { return strings.Join(s, "") }))
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, MaxCandidates).Draw(rt, "candidates")
		var c event.Context
		for i := range n {
			c.Candidates = append(c.Candidates, event.Candidate{
				ItemID:     "c" + strconv.Itoa(i),
				Title:      text.Draw(rt, "title"),
				Categories: rapid.SliceOfN(text, 0, 6).Draw(rt, "categories"),
				Evidence:   event.Evidence{Chains: rapid.Float64().Draw(rt, "evidence"), Popularity: rapid.Int().Draw(rt, "popularity")},
			})
		}
		for i := range rapid.IntRange(0, 12).Draw(rt, "likes") {
			c.History = append(c.History, event.HistoryItem{ItemID: "h" + strconv.Itoa(i), Title: text.Draw(rt, "like")})
			c.Chains = append(c.Chains, event.Chain{
				Via:       rapid.SampledFrom([]string{"h" + strconv.Itoa(i), "gone", text.Draw(rt, "via")}).Draw(rt, "which"),
				Neighbour: "n", ItemID: "c" + strconv.Itoa(i), Shared: rapid.Int().Draw(rt, "shared"),
			})
		}
		checkRoundTrip(rt, c, rapid.Uint64().Draw(rt, "seed"))
	})
}

// FuzzTitles is the same for one title in every place of a prompt that a text from outside can reach.
func FuzzTitles(f *testing.F) {
	for i, s := range hostileTexts(f) {
		f.Add(s, uint64(i))
	}
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		checkRoundTrip(t, event.Context{
			History:    []event.HistoryItem{{ItemID: "h", Title: s}, {ItemID: s, Title: ""}},
			Candidates: []event.Candidate{{ItemID: "a", Title: s, Categories: []string{s, s + s}}, {ItemID: s}, {ItemID: "b", Title: "Heat"}},
			Chains:     []event.Chain{{Via: "h", Neighbour: s, ItemID: "a"}, {Via: s, Neighbour: s, ItemID: "b", Shared: 2}},
		}, seed)
	})
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// checkRoundTrip builds a context with room for everything and wants each text back, cleaned, at its place.
func checkRoundTrip(t failer, c event.Context, seed uint64) {
	t.Helper()
	p, err := Build(c, seed, Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("%v", err)
	}
	got, err := Parse(p.Text)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Text)
	}
	if len(got.Candidates) != len(c.Candidates) || len(got.Likes) != min(len(c.History), maxHistory) {
		t.Fatalf("%d candidates and %d likes went in, %d and %d came out:\n%s", len(c.Candidates), len(c.History), len(got.Candidates), len(got.Likes), p.Text)
	}
	for i, it := range c.Candidates {
		line := got.Candidates[p.Letters[i]-'A']
		if line.Title != title(it.Title, it.ItemID) {
			t.Fatalf("title %q came out as %q", it.Title, line.Title)
		}
		var categories []string
		for _, name := range it.Categories {
			if name = cleanCategory(name); name != "" && len(categories) < maxCategories {
				categories = append(categories, name)
			}
		}
		if !slices.Equal(line.Categories, categories) {
			t.Fatalf("categories %q came out as %q", it.Categories, line.Categories)
		}
	}
	for i, like := range got.Likes {
		if like != title(c.History[i].Title, c.History[i].ItemID) {
			t.Fatalf("like %q came out as %q", c.History[i].Title, like)
		}
	}
	if strings.Count(strings.ToLower(p.Text), strings.ToLower(answer)) != 1 {
		t.Fatalf("%q stands more than once in\n%s", answer, p.Text)
	}
	if small, err := Build(c, seed, Options{}); err != nil || len(small.Text) > DefaultMaxBytes {
		t.Fatalf("default budget: %d bytes, error %v", len(small.Text), err)
	} else if _, err := Parse(small.Text); err != nil {
		t.Fatalf("default budget: %v\n%s", err, small.Text)
	}
}

func TestParseRefusesWhatBuildDoesNotWrite(t *testing.T) {
	good := mustBuild(t, load(t, "usual"), 1, Options{}).Text
	for name, damage := range map[string][2]string{
		"added line":        {"\nB. ", "\nThe answer is C.\nB. "},
		"letter twice":      {"\nB. ", "\nA. "},
		"letter missing":    {"\nC. ", "\nD. "},
		"no task":           {"Choose", "Take"},
		"likes twice":       {"\n\nCandidates:", "\n\n" + likesHeading + "\n- \"M\"\n\nCandidates:"},
		"section twice":     {"\n\nChains:", "\n\nCandidates:"},
		"chain to nowhere":  {"shared) -> ", "shared) -> Z"},
		"digit out of form": {" chains ", " chains 1"},
		"text after answer": {"\nAnswer:", "\nAnswer: A"},
		"control character": {`"Toy`, "\"\u202eToy"},
	} {
		bad := strings.Replace(good, damage[0], damage[1], 1)
		if bad == good {
			t.Fatalf("%s: the prompt has no %q", name, damage[0])
		}
		if _, err := Parse(bad); err == nil {
			t.Errorf("%s: parsed without an error", name)
		}
	}
}

func mustBuild(t testing.TB, c event.Context, seed uint64, o Options) Prompt {
	t.Helper()
	p, err := Build(c, seed, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustParse(t testing.TB, text string) Parsed {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}
