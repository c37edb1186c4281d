package dataset

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/event"
)

// EndingAt is the same data set with all times moved by the same amount, so that the last interaction falls on t, to the
// second. Event ids follow the moved times.
func (d *Dataset) EndingAt(t time.Time) *Dataset {
	if len(d.events) == 0 {
		return d
	}
	moved := *d
	moved.events = slices.Clone(d.events)
	by := t.Unix() - moved.events[len(moved.events)-1].seconds
	for i := range moved.events {
		moved.events[i].seconds += by
	}
	return &moved
}

// CutLast splits off the last n interactions: history has the catalogue and all others, rest has them alone.
func (d *Dataset) CutLast(n int) (history, rest *Dataset) {
	at := max(0, len(d.events)-n)
	before, after := *d, *d
	before.events, after.events, after.titles = d.events[:at], d.events[at:], nil
	return &before, &after
}

// CutUsers splits off the newest part of what each user did, a share rounded down: history has the catalogue and all that
// came before, rest has the newest of everybody alone, in the order of time.
func (d *Dataset) CutUsers(share float64) (history, rest *Dataset) {
	left := make([]int, len(d.users)) // of each user, interactions that stay history
	for _, e := range d.events {
		left[e.user]++
	}
	for i, n := range left {
		left[i] = n - int(share*float64(n))
	}
	before, after := *d, *d
	before.events, after.events, after.titles = nil, nil, nil
	for _, e := range d.events {
		if left[e.user] > 0 {
			left[e.user]--
			before.events = append(before.events, e)
		} else {
			after.events = append(after.events, e)
		}
	}
	return &before, &after
}

// Replay publishes the interactions one by one, each when tick says so, and tells seen how many are dealt with. One that breaks
// the contract is left out, and rejected hears of it. It ends with the data, with an error of the writer, or with ctx.
func Replay(ctx context.Context, d *Dataset, to Writer, tick <-chan time.Time, seen func(done, total int), rejected func(error)) error {
	done := 0
	for in, err := range d.Interactions() {
		select {
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		}
		var raw []byte
		if err == nil {
			raw, err = event.Encode(in)
		}
		if err != nil {
			rejected(err)
		} else if err := to.WriteMessages(ctx, kafka.Message{Key: []byte(in.UserID), Value: raw}); err != nil {
			return fmt.Errorf("replay %s: %w", d.name, firstOf(err))
		}
		done++
		seen(done, len(d.events))
	}
	return nil
}
