package iot

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/r2rec/r2rec/internal/event"
)

// minClaimRunes is how long a category's name is at least that words are searched for.
const minClaimRunes = 3

// clauseEnd is where words may come to speak of something else.
var clauseEnd = regexp.MustCompile(`[.;]|, and |, but |, while `)

// bothForm is how a clause speaks of what leads to an item and of the item alike. Reasons are in English, as they are opened.
var bothForm = regexp.MustCompile(`\b(both|they|all)\b`)

// Claims are the categories of the context that a step's words name, titles aside: those that an item has which its
// chains touch, and others, which none of these has. Of a clause that speaks of both, only those count as had that the item has and
// one from which a chain starts. Where the categories of such an item are not known, none is another's. A
// plural counts as its singular. Names are in lower case.
func Claims(s event.Step, c event.Context) (borneOut, others []string) {
	categories := make(map[string][]string, len(c.History)+len(c.Candidates)) // by item
	all := map[string]bool{}
	add := func(item string, names []string) {
		for _, name := range names {
			if name = strings.ToLower(cleanCategory(name)); utf8.RuneCountInString(name) >= minClaimRunes {
				categories[item], all[name] = append(categories[item], name), true
			}
		}
	}
	for _, h := range c.History {
		add(h.ItemID, h.Categories)
	}
	for _, it := range c.Candidates {
		add(it.ItemID, it.Categories)
	}
	var had, shared []string
	known := true
	for i, item := range touched(s, c) {
		known = known && len(categories[item]) > 0
		for _, name := range categories[item] {
			if i > 0 && slices.Contains(categories[s.ItemID], name) {
				shared = append(shared, name)
			}
			had = append(had, name)
		}
	}
	words := strings.ToLower(s.Text)
	titles := wholeTitles(c)
	for _, item := range touched(s, c) {
		for _, form := range longestFirst(spoken(titles[item])) {
			words = cutOut(words, form)
		}
	}
	names := longestFirst(slices.Collect(maps.Keys(all))) // "science fiction" before "fiction"
	for _, clause := range clauseEnd.Split(words, -1) {
		own := had
		if bothForm.MatchString(clause) {
			own = shared
		}
		for _, name := range names {
			without := cutOut(cutOut(clause, name), plural(name))
			switch {
			case without == clause:
			case slices.Contains(own, name):
				borneOut = append(borneOut, name)
			case known:
				others = append(others, name)
			}
			clause = without
		}
	}
	return borneOut, others
}

// touched are the items of a step: the one that it is about, and those from which its chains start.
func touched(s event.Step, c event.Context) []string {
	items := []string{s.ItemID}
	for _, n := range s.Chains {
		items = append(items, c.Chains[n-1].Via)
	}
	return items
}

func longestFirst(words []string) []string {
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return words
}

// plural is that of an English word, as far as there are rules.
func plural(word string) string {
	if stem, ok := strings.CutSuffix(word, "y"); ok {
		return stem + "ies"
	}
	return word + "s"
}
