package dataset

import (
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

// Of each user the newest half is kept back, and nothing gets lost or comes twice.
func TestTheNewestOfEachUserIsKeptBack(t *testing.T) {
	d := bundled(t)
	all, cut := map[string]int{}, map[string]int{}
	newest := map[string]event.Time{} // of what stays history
	ids := map[string]bool{}
	each := func(d *Dataset, f func(event.Interaction)) {
		var last event.Time
		for in, err := range d.Interactions() {
			if err != nil {
				t.Fatal(err)
			}
			if in.Timestamp < last {
				t.Fatalf("%+v comes after an event at %v", in, last)
			}
			last = in.Timestamp
			f(in)
		}
	}
	each(d, func(in event.Interaction) { all[in.UserID]++ })
	history, rest := d.CutUsers(.5)
	each(history, func(in event.Interaction) { newest[in.UserID] = in.Timestamp; ids[in.EventID] = true })
	each(rest, func(in event.Interaction) {
		if in.Timestamp < newest[in.UserID] {
			t.Errorf("%+v is kept back, and the user did something later at %v", in, newest[in.UserID])
		}
		cut[in.UserID]++
		ids[in.EventID] = true
	})
	for user, n := range all {
		if cut[user] != n/2 {
			t.Errorf("%d of %d interactions of user %s are kept back, want half", cut[user], n, user)
		}
	}
	items, events := history.Len()
	none, kept := rest.Len()
	if items != 9125 || none != 0 || events+kept != 100004 || len(ids) != 100004 {
		t.Errorf("%d items and %d events, then %d and %d, %d events in all", items, events, none, kept, len(ids))
	}
	if history, rest := d.CutUsers(0); len(rest.events) != 0 || len(history.events) != len(d.events) {
		t.Error("something is kept back where nothing is asked for")
	}
}
