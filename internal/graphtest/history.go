package graphtest

import (
	"fmt"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
)

// Shape is what a history is drawn from: ids are u0, u1, ... and i0, i1, ..., times are this many milliseconds from a
// moment in 2023.
type Shape struct{ Users, Items, Moments int }

// History is n interactions in an order that has nothing to do with their times. Where there are few users, items or
// moments, many are of the same pair or the same moment, and say the contrary of each other.
func (s Shape) History(random *rand.Rand, n int) []event.Interaction {
	out := make([]event.Interaction, n)
	for i := range out {
		out[i] = event.Interaction{
			EventID: fmt.Sprintf("e%05d", i), UserID: fmt.Sprint("u", random.IntN(s.Users)), ItemID: fmt.Sprint("i", random.IntN(s.Items)),
			Type: event.Types[random.IntN(len(event.Types))], Timestamp: event.Time(1_700_000_000_000 + random.IntN(s.Moments)),
		}
		if out[i].Type == event.Rating {
			value := float64(1 + random.IntN(5))
			out[i].Value = &value
		}
	}
	return out
}
