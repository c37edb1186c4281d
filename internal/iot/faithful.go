package iot

import (
	"cmp"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Faithful keeps of a thought what the ranking rests on. contributions are those of the chains that were measured, by
// number, in nats: how far the log of the item's share falls when the chain is masked. A step keeps the chains that
// contribute, the largest first, and after them those that were not measured, which it marks; what contributes nothing,
// or speaks against the item, it loses. A step from the graph then says in words what it still cites; one that a model
// wrote cannot be worded anew and is dropped where it loses all its chains, or names what only those bear out which it
// loses. The given thought is not changed.
func Faithful(t event.Thought, c event.Context, contributions map[int]float64) event.Thought {
	titles := historyTitles(c)
	kept := t
	kept.Steps = []event.Step{}
	for _, s := range t.Steps {
		said := s
		s.Chains = slices.DeleteFunc(append([]int{}, s.Chains...), func(n int) bool {
			nats, measured := contributions[n]
			return measured && !(nats > 0)
		})
		if t.Author(s) != event.Graph && len(said.Chains) > 0 && (len(s.Chains) == 0 || namesLost(said, c, s.Chains)) {
			continue
		}
		slices.SortStableFunc(s.Chains, func(a, b int) int { return cmp.Compare(contributions[b], contributions[a]) })
		s.Contributions = nil
		for i, n := range s.Chains {
			if nats, measured := contributions[n]; measured {
				if s.Contributions == nil {
					s.Contributions = make([]*float64, len(s.Chains))
				}
				s.Contributions[i] = &nats
			}
		}
		if i := c.Candidate(s.ItemID); t.Author(s) == event.Graph && i >= 0 {
			s.Text = words(c, c.Candidates[i], s.Chains, titles)
		}
		kept.Steps = append(kept.Steps, s)
	}
	return kept
}
