package iot

import "github.com/r2rec/r2rec/internal/event"

// Reasons are the arguments for each shown item, in the slate's order: one list a slot, never nil, one Reason a step.
// The thought should have gone through Check; what it cites wrongly all the same is left out. Other users appear as
// numbers that count the neighbours of this document in the order in which they appear.
func Reasons(c event.Context, t event.Thought, slate []event.Slot) [][]event.Reason {
	titles := historyTitles(c)
	numbers := make(map[string]int)
	reasons := make([][]event.Reason, len(slate))
	for i, slot := range slate {
		reasons[i] = []event.Reason{}
		for _, s := range t.Steps {
			if s.ItemID != slot.ItemID {
				continue
			}
			r := event.Reason{Text: s.Text}
			for k, n := range s.Chains {
				if n < 1 || n > len(c.Chains) || c.Chains[n-1].ItemID != s.ItemID {
					continue
				}
				ch := c.Chains[n-1]
				if numbers[ch.Neighbour] == 0 {
					numbers[ch.Neighbour] = len(numbers) + 1
				}
				shown := event.ReasonChain{Via: ch.Via, ViaTitle: titles.of(ch.Via), Neighbour: numbers[ch.Neighbour]}
				if k < len(s.Contributions) {
					shown.Contribution = s.Contributions[k]
				}
				r.Chains = append(r.Chains, shown)
			}
			reasons[i] = append(reasons[i], r)
		}
	}
	return reasons
}
