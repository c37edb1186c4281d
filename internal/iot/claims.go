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

var (
	// clauseEnd is where words may come to speak of something else.
	clauseEnd = regexp.MustCompile(`[.;]|, and |, but |, while |, since `)
	// bothForm is how a clause speaks of an item and of what leads to it alike. Reasons are in English, as they are opened.
	bothForm = regexp.MustCompile(`\b(both|they (all )?are|are all|all of (them|these))\b`)
	// inName keeps what ends clauses from ending them within a name, such as "U.S. History".
	inName = strings.NewReplacer(".", "·", ";", "·")
)

// BorneOut is how many steps of a thought name a category, titles aside, that an item has which their chains touch.
func BorneOut(t event.Thought, c event.Context) (steps int) {
	for _, s := range t.Steps {
		if borneOut, _, _ := claims(s, c); len(borneOut) > 0 {
			steps++
		}
	}
	return steps
}

// withoutClaims is what a step says before it first claims a category that is known not to be so; "": nothing.
func withoutClaims(s event.Step, c event.Context) (text string, cut bool) {
	_, others, upTo := claims(s, c)
	if len(others) == 0 {
		return s.Text, false
	}
	text = strings.TrimRightFunc(string([]rune(s.Text)[:upTo]), func(r rune) bool { return !wordRune(r) && !strings.ContainsRune(")'!?…", r) })
	if text != "" {
		text += "."
	}
	return text, true
}

// claims are the categories of the context that a step's words name, titles aside: those that an item has which its
// chains touch, and others, of which it is known that none has them. A clause that speaks of both, the item and what leads to
// it, is borne out only if the item has the category and something from which a chain starts does. Singular and plural
// count alike, as far as English rules go. Names are in lower case. upTo is how many runes of the text come before the first part
// that names one of the others.
//
// It goes by words alone: "not a comedy" names a category as well.
func claims(s event.Step, c event.Context) (borneOut, others []string, upTo int) {
	has, names := catalogued(c)
	words := withoutTitles(s, c)
	for _, name := range names {
		if strings.Contains(name, "·") {
			words = inNamed(words, name)
		}
	}
	upTo = utf8.RuneCountInString(words)
	at, before := 0, 0 // where a clause begins, and where what is before it ends
	for _, end := range append(clauseEnd.FindAllStringIndex(words, -1), []int{len(words), len(words)}) {
		clause := words[at:end[0]]
		both := bothForm.MatchString(clause)
		for _, name := range names {
			without := clause
			for _, form := range inflected(name) {
				without = cutOut(without, form)
			}
			if without == clause {
				continue
			}
			switch borne, known := bears(has, touched(s, c), name, both); {
			case borne:
				borneOut = append(borneOut, name)
			case known:
				others = append(others, name)
				cutAt := before
				if part := partBefore(clause, without); part > 0 {
					cutAt = at + part
				}
				upTo = min(upTo, utf8.RuneCountInString(words[:cutAt]))
			}
			clause = without
		}
		before, at = end[0], end[1]
	}
	return borneOut, others, upTo
}

// catalogued are the categories that each item of a context has, where any are known, and the names of all that are looked
// for, "science fiction" before "fiction".
func catalogued(c event.Context) (has map[string]map[string]bool, names []string) {
	has = make(map[string]map[string]bool, len(c.History)+len(c.Candidates))
	all := map[string]bool{}
	add := func(item string, categories []string) {
		for _, name := range categories {
			if name = inName.Replace(strings.ToLower(wholeCategory(name))); name == "" {
				continue
			}
			if has[item] == nil {
				has[item] = map[string]bool{}
			}
			has[item][name] = true
			if utf8.RuneCountInString(name) >= minClaimRunes {
				all[name] = true
			}
		}
	}
	for _, h := range c.History {
		add(h.ItemID, h.Categories)
	}
	for _, it := range c.Candidates {
		add(it.ItemID, it.Categories)
	}
	return has, longestFirst(slices.Collect(maps.Keys(all)))
}

// withoutTitles are a step's words in lower case, rune by rune, the titles of what its chains touch cut out.
func withoutTitles(s event.Step, c event.Context) string {
	words, titles := strings.ToLower(s.Text), wholeTitles(c)
	for _, item := range touched(s, c) {
		for _, form := range longestFirst(spoken(titles[item])) {
			words = cutOut(words, form)
		}
	}
	return words
}

// partBefore is where the part of a clause begins in which it differs from another, at a comma or an "and"; 0: nowhere but at its
// beginning.
func partBefore(clause, other string) int {
	same := 0
	for same < min(len(clause), len(other)) && clause[same] == other[same] {
		same++
	}
	return max(0, strings.LastIndexByte(clause[:same], ','), strings.LastIndex(clause[:same], " and "))
}

// bears tells whether the first of some items has a category, or another of them, or, if it is to be so of both, the first and
// another; and whether that is known of them.
func bears(has map[string]map[string]bool, items []string, name string, both bool) (borne, known bool) {
	first, rest, restKnown := has[items[0]][name], false, true
	for _, item := range items[1:] {
		rest, restKnown = rest || has[item][name], restKnown && has[item] != nil
	}
	if both {
		return first && rest, has[items[0]] != nil && !first || restKnown && !rest
	}
	return first || rest, has[items[0]] != nil && restKnown
}

// touched are the items of a step: the one that it is about, and those from which its chains start.
func touched(s event.Step, c event.Context) []string {
	items := []string{s.ItemID}
	for _, n := range s.Chains {
		if n >= 1 && n <= len(c.Chains) {
			items = append(items, c.Chains[n-1].Via)
		}
	}
	return items
}

func longestFirst(words []string) []string {
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return words
}

// inNamed writes a name in which a clause would end as it is searched for.
func inNamed(words, name string) string {
	form := strings.Split(name, "·")
	for i := range form {
		form[i] = regexp.QuoteMeta(form[i])
	}
	return regexp.MustCompile(strings.Join(form, `[.;]`)).ReplaceAllLiteralString(words, name)
}

// inflected are a category's name, its plural and its singular, and what a prompt shows of it.
func inflected(name string) []string {
	forms := []string{name, plural(name)}
	if stem, ok := strings.CutSuffix(name, "ies"); ok {
		forms = append(forms, stem+"y")
	} else if stem, ok := strings.CutSuffix(name, "s"); ok && !strings.HasSuffix(stem, "s") {
		forms = append(forms, stem)
	}
	if short := strings.TrimSuffix(shorten(name, maxCategoryRunes), "…"); short != name {
		forms = append(forms, short)
	}
	return longestFirst(forms)
}

// plural is that of an English word, as far as there are rules.
func plural(word string) string {
	for _, end := range []string{"s", "x", "ch", "sh"} {
		if strings.HasSuffix(word, end) {
			return word + "es"
		}
	}
	if stem, ok := strings.CutSuffix(word, "y"); ok && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])) {
		return stem + "ies"
	}
	return word + "s"
}
