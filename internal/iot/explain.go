package iot

import (
	"slices"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// DefaultPerItem is how many chains a step cites at most unless the caller says otherwise; maxPerItem keeps its words
// within what a decision may hold.
const (
	DefaultPerItem = 3
	maxPerItem     = 10
)

// Explain finds the thought behind a slate without a model: one step for each shown item, in the slate's order, that
// cites the item's strongest chains, each from another like-minded user, at most perItem: 0 or less means
// DefaultPerItem, more than 10 means 10. An item that no chain leads to gets a step that cites nothing and says why it
// is shown, as far as its evidence bears it out. Slots of items that are not candidates get no step.
//
// What it finds is plausible. Whether the ranking rests on it is for Faithful to say, once the chains are measured.
func Explain(c event.Context, slate []event.Slot, perItem int) event.Thought {
	if perItem <= 0 {
		perItem = DefaultPerItem
	}
	perItem = min(perItem, maxPerItem)
	titles := historyTitles(c)
	t := event.Thought{By: event.Graph, Steps: []event.Step{}}
	for _, slot := range slate {
		i := c.Candidate(slot.ItemID)
		if i < 0 {
			continue
		}
		chains := strongest(c, slot.ItemID, perItem)
		t.Steps = append(t.Steps, event.Step{ItemID: slot.ItemID, Chains: chains, Text: words(c, c.Candidates[i], chains, titles)})
	}
	return t
}

// Propose is what a model said about the items of a slate, in the slate's order, and for those that it has no word for
// what Explain finds. Where it has no word for any of them, the thought is the graph's.
func Propose(said event.Thought, c event.Context, slate []event.Slot, perItem int) event.Thought {
	found := Explain(c, slate, perItem)
	t := event.Thought{By: event.Reasoned, Steps: []event.Step{}}
	words := false
	for _, slot := range slate {
		about := func(s event.Step) bool { return s.ItemID == slot.ItemID }
		if !slices.ContainsFunc(said.Steps, about) {
			if i := slices.IndexFunc(found.Steps, about); i >= 0 {
				step := found.Steps[i]
				step.By = event.Graph
				t.Steps = append(t.Steps, step)
			}
			continue
		}
		words = true
		for _, s := range said.Steps {
			if about(s) {
				t.Steps = append(t.Steps, s)
			}
		}
	}
	if !words {
		return found
	}
	return t
}

// strongest are the numbers of the strongest chains to an item, at most n, one of each neighbour: two chains over the
// same choice of the same neighbour stand and fall together, so that they are one argument.
func strongest(c event.Context, item string, n int) []int {
	chains := []int{}
	for k, ch := range c.Chains {
		if ch.ItemID != item || len(chains) == n {
			continue
		}
		if !slices.ContainsFunc(chains, func(cited int) bool { return c.Chains[cited-1].Neighbour == ch.Neighbour }) {
			chains = append(chains, k+1)
		}
	}
	return chains
}

// words of a step for the item that cites these chains, or none.
func words(c event.Context, it event.Candidate, chains []int, titles titlesByID) string {
	if len(chains) == 0 {
		return withoutChains(c, it)
	}
	return fromChains(c, chains, it.Evidence.Support, titles)
}

// fromChains says in words what the chains of these numbers say. support is how many like-minded users chose the item
// in all, which may be more than those in the chains.
func fromChains(c event.Context, numbers []int, support int, titles titlesByID) string {
	var neighbours, vias, shared []string
	for _, n := range numbers {
		ch := c.Chains[n-1]
		if !slices.Contains(neighbours, ch.Neighbour) {
			neighbours = append(neighbours, ch.Neighbour)
		}
		if !slices.Contains(vias, ch.Via) {
			vias = append(vias, ch.Via)
			shared = append(shared, `"`+titles.of(ch.Via)+`"`)
		}
	}
	n := len(neighbours)
	switch {
	case support > n && n == 1:
		return users(support) + " chose it; one of them shares " + and(shared) + " with you."
	case support > n:
		return users(support) + " chose it; " + strconv.Itoa(n) + " of them share " + and(shared) + " with you."
	case n == 1:
		return "A like-minded user chose it; you both chose " + and(shared) + "."
	default:
		return users(n) + " chose it; they share " + and(shared) + " with you."
	}
}

func users(n int) string { return strconv.Itoa(n) + " like-minded users" }

// withoutChains says why an item is shown that no chain of the context leads to.
func withoutChains(c event.Context, it event.Candidate) string {
	e := it.Evidence
	var why []string
	switch {
	case it.Origin == event.FromExplore:
		why = append(why, "Shown to learn whether you like it.")
	case it.Origin == event.FromTrends:
		why = append(why, "Popular at the moment.")
	case e.Support == 1:
		why = append(why, "A like-minded user chose it.")
	case e.Support > 1:
		why = append(why, users(e.Support)+" chose it.")
	case e.Similar > 0: // somebody chose both it and an item of the history
		why = append(why, "Chosen by somebody who shares a choice with you.")
	}
	if common := commonCategories(c.History, it.Categories); len(common) > 0 {
		why = append(why, "Of a kind that you chose before: "+and(common)+".")
	}
	switch {
	case len(why) > 0:
	case e.Recent[1] > 0:
		why = append(why, "Popular at the moment.")
	default:
		why = append(why, "Shown to learn whether you like it.")
	}
	return strings.Join(why, " ")
}

// commonCategories are those of an item's first categories that the history has too, cleaned.
func commonCategories(history []event.HistoryItem, categories []string) []string {
	had := make(map[string]bool)
	for _, h := range history {
		for _, name := range h.Categories {
			had[name] = true
		}
	}
	var common []string
	for _, name := range categories {
		if !had[name] || len(common) == maxCategories {
			continue
		}
		if name = cleanCategory(name); name != "" && !slices.Contains(common, name) {
			common = append(common, name)
		}
	}
	return common
}

// and lists things as people do: a, b and c.
func and(things []string) string {
	if len(things) < 2 {
		return strings.Join(things, "")
	}
	last := len(things) - 1
	return strings.Join(things[:last], ", ") + " and " + things[last]
}
