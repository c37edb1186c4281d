package eval

import (
	"context"
	"fmt"
)

// A user with fewer earlier positives than ColdUser is a cold user; an item with fewer than ColdItem, a cold item.
const (
	ColdUser = 10
	ColdItem = 10
)

// Background is what the stream held about the users and items of cases before them, with an entry a case.
type Background struct {
	UserPositives []int // earlier positives of the user
	ItemPositives []int // earlier positives of the item that was chosen
}

// Survey goes through the stream and gives the background of the cases.
func Survey(ctx context.Context, events Stream, cases []Case, cfg Config) (*Background, error) {
	b := &Background{UserPositives: make([]int, len(cases)), ItemPositives: make([]int, len(cases))}
	users, items := map[string]int{}, map[string]int{}
	for s, err := range steps(events, cases, cfg) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("survey the stream: %w", err)
		}
		for _, in := range s.events {
			if IsPositive(in) {
				users[in.UserID]++
				items[in.ItemID]++
			}
		}
		for _, i := range s.ask {
			b.UserPositives[i], b.ItemPositives[i] = users[cases[i].User], items[cases[i].Positive]
		}
	}
	return b, nil
}

// ColdUsers gives the indices of the cases of cold users.
func (b *Background) ColdUsers() []int { return below(b.UserPositives, ColdUser) }

// ColdItems gives the indices of the cases whose answer is a cold item.
func (b *Background) ColdItems() []int { return below(b.ItemPositives, ColdItem) }

func below(counts []int, bound int) []int {
	var found []int
	for i, n := range counts {
		if n < bound {
			found = append(found, i)
		}
	}
	return found
}

// pick gives the entries at the indices.
func pick[T any](all []T, indices []int) []T {
	picked := make([]T, len(indices))
	for i, at := range indices {
		picked[i] = all[at]
	}
	return picked
}
