package eval

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// start is the second at which the streams of the tests begin.
const start = 1_000_000_000

// at gives a time of the tests, in seconds since their start.
func at(second int) event.Time { return event.Time((start + second) * 1000) }

// click is an interaction of user with item.
func click(second int, user, item string) event.Interaction {
	return event.Interaction{
		EventID: fmt.Sprintf("%d-%s-%s", second, user, item),
		UserID:  user, ItemID: item, Type: event.Click, Timestamp: at(second),
	}
}

func rated(in event.Interaction, value float64) event.Interaction {
	in.Type, in.Value = event.Rating, &value
	return in
}

// stream gives interactions as a data set does.
func stream(events ...event.Interaction) Stream {
	return func(yield func(event.Interaction, error) bool) {
		for _, in := range events {
			if !yield(in, nil) {
				return
			}
		}
	}
}

func ask(id, user string, second int, positive string, others ...string) Case {
	return Case{ID: id, User: user, At: at(second), Candidates: append([]string{positive}, others...), Positive: positive}
}

// counter ranks by the number of interactions that an item had, and remembers what it was asked.
type counter struct {
	n       map[string]float64
	events  int
	batches []int
	asked   []Case
}

func newCounter() *counter { return &counter{n: map[string]float64{}} }

func (c *counter) Observe(_ context.Context, batch []event.Interaction) error {
	c.batches = append(c.batches, len(batch))
	c.events += len(batch)
	for _, in := range batch {
		c.n[in.ItemID]++
	}
	return nil
}

func (c *counter) Scores(_ context.Context, asked Case) ([]float64, error) {
	c.asked = append(c.asked, asked)
	scores := make([]float64, len(asked.Candidates))
	for i, id := range asked.Candidates {
		scores[i] = c.n[id]
	}
	return scores, nil
}

// fixed gives the same scores to every case.
type fixed []float64

func (fixed) Observe(context.Context, []event.Interaction) error { return nil }

func (f fixed) Scores(context.Context, Case) ([]float64, error) { return slices.Clone(f), nil }

func TestIsPositive(t *testing.T) {
	in := click(0, "u", "i")
	for _, c := range []struct {
		in   event.Interaction
		want bool
	}{
		{rated(in, 4), true}, {rated(in, 5), true}, {rated(in, 3.5), false}, {rated(in, 1), false},
	} {
		if got := IsPositive(c.in); got != c.want {
			t.Errorf("a rating of %v: %v", *c.in.Value, got)
		}
	}
	var positive []event.Type
	for _, kind := range event.Types {
		in.Type = kind
		if IsPositive(in) {
			positive = append(positive, kind)
		}
	}
	if want := []event.Type{event.Click, event.Like, event.Cart, event.Purchase}; !slices.Equal(positive, want) {
		t.Errorf("without a value %v are positive, want %v", positive, want)
	}
}
