package iot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

// TestBudgetLeavesOutInOrder shrinks the budget byte by byte and holds Build to its stated order: chains from the
// weakest on, likes from the oldest on, all categories, halves of titles.
func TestBudgetLeavesOutInOrder(t *testing.T) {
	c := load(t, "usual")
	whole := mustBuild(t, c, 5)
	full := whole.Content
	if len(full.Chains) == 0 || len(full.Likes) == 0 || !full.hasCategories() {
		t.Fatal("the context has too little to leave out")
	}
	if exact, _ := build(Words, c, 5, len(whole.Text)); exact.Text != whole.Text {
		t.Error("a prompt as large as the budget lost something")
	}
	var stages []string
	for budget := len(whole.Text); ; budget-- {
		p, err := build(Words, c, 5, budget)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Text) > budget {
			if p.Content.hasCategories() || len(p.Content.Likes) > 0 || longest(p.Content) > minTitleRunes {
				t.Fatalf("budget %d: overrun by a prompt that could be shorter:\n%s", budget, p.Text)
			}
			break
		}
		got := mustParse(t, p.Text)
		chains, likes, titles := len(got.Chains), len(got.Likes), longest(got)
		stage := fmt.Sprintf("titles of %d", titles)
		switch {
		case chains > 0:
			stage = "chains"
		case likes > 0:
			stage = "likes"
		case got.hasCategories():
			stage = "categories"
		case titles == longest(full):
			stage = "bare"
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
		if !slices.Equal(got.Chains, full.Chains[:chains]) || !slices.Equal(got.Likes, full.Likes[:likes]) {
			t.Fatalf("budget %d: not the strongest chains and the newest likes are left:\n%s", budget, p.Text)
		}
		if stage == "chains" && likes < len(full.Likes) {
			t.Fatalf("budget %d: a like went before a chain", budget)
		}
		if len(got.Candidates) != len(full.Candidates) {
			t.Fatalf("budget %d: %d of %d candidates left", budget, len(got.Candidates), len(full.Candidates))
		}
		for j, line := range got.Candidates {
			was := full.Candidates[j]
			if line.Digits != was.Digits {
				t.Fatalf("budget %d: digits %v became %v", budget, was.Digits, line.Digits)
			}
			if !strings.HasPrefix(stage, "titles") && line.Title != was.Title {
				t.Fatalf("budget %d: at %s, title %q became %q", budget, stage, was.Title, line.Title)
			}
			if (stage == "chains" || stage == "likes" || stage == "categories") && !slices.Equal(line.Categories, was.Categories) {
				t.Fatalf("budget %d: at %s, categories %q became %q", budget, stage, was.Categories, line.Categories)
			}
		}
	}
	want := []string{"chains", "likes", "categories", "bare", "titles of 30", "titles of 15", "titles of 7"}
	if !slices.Equal(stages, want) {
		t.Errorf("the stages were %q, want %q", stages, want)
	}
}

func longest(c Content) int {
	n := 0
	for _, line := range c.Candidates {
		n = max(n, utf8.RuneCountInString(line.Title))
	}
	return n
}

// TestNoContextOverrunsTheBudget draws contexts of up to twice as much as a prompt takes, in runes of one to four bytes.
func TestNoContextOverrunsTheBudget(t *testing.T) {
	overrun := 0
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "é", "千", "𠜎", "W\u0301\u0302", "\U0001f600", "\"", "9 ", ", "})
		text := rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(word.Draw(t, "rune"), rapid.SampledFrom([]int{0, 1, 20, 60, 200}).Draw(t, "length"))
		})
		texts := rapid.SliceOfN(text, 0, 2*maxCategories)
		var c event.Context
		for i := range rapid.IntRange(0, 2*layouts[Words].likes).Draw(t, "likes") {
			c.History = append(c.History, event.HistoryItem{ItemID: fmt.Sprint("h", i), Title: text.Draw(t, "like")})
		}
		for i := range rapid.IntRange(1, MaxCandidates).Draw(t, "candidates") {
			c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint("c", i), Title: text.Draw(t, "title"), Categories: texts.Draw(t, "categories")})
		}
		for range rapid.IntRange(0, 2*layouts[Words].chains).Draw(t, "chains") {
			c.Chains = append(c.Chains, event.Chain{Via: text.Draw(t, "via"), ItemID: "c0", Shared: rapid.Int().Draw(t, "shared")})
		}
		p, err := Build(Words, c, rapid.Uint64().Draw(t, "seed"))
		if err != nil || len(p.Text) > MaxBytes {
			t.Fatalf("%d bytes, error %v", len(p.Text), err)
		}
		if got, err := Parse(p.Text); err != nil || len(got.Candidates) != len(c.Candidates) {
			t.Fatalf("%d of %d candidates, error %v:\n%s", len(got.Candidates), len(c.Candidates), err, p.Text)
		}
		if whole, _ := build(Words, c, 0, 1<<30); len(whole.Text) > MaxBytes {
			overrun++
		}
	})
	if overrun == 0 {
		t.Error("no context that was drawn needed the budget")
	}
}

// TestTheLargestCandidatesFitTwice: what is never left out stays below half of the budget.
func TestTheLargestCandidatesFitTwice(t *testing.T) {
	c := event.Context{}
	for i := range MaxCandidates {
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: fmt.Sprint(i), Title: strings.Repeat("𠜎", 200)})
	}
	p, err := build(Words, c, 1, 0)
	if err != nil || 2*len(p.Text) > MaxBytes {
		t.Errorf("%d bytes, error %v", len(p.Text), err)
	}
	if got := longest(mustParse(t, p.Text)); got != minTitleRunes {
		t.Errorf("titles of %d runes, want %d", got, minTitleRunes)
	}
}
