// Package dataset reads recommendation data from files, as the events and items that r2rec takes, and publishes them.
//
// It knows three layouts, plain or gzipped (.gz after the name):
//
//	events.csv (user_id,item_id,rating,timestamp) and items.csv (item_id,title,categories)   r2rec's own
//	ratings.csv (userId,movieId,rating,timestamp) and movies.csv (movieId,title,genres)      MovieLens, since 2015
//	u.data (tabs), u.item and u.genre (bars, ISO 8859-1)                                     MovieLens 100k
//
// Times are Unix seconds, categories are joined by "|", and an empty rating in events.csv is a click. Columns may stand in
// any order and others among them are ignored. Ids stay the strings they are.
//
// What it promises: interactions come in the order of time, then user id, then item id, then rating, clicks first, whatever the
// order of the file; the id of an event is a hash of its content, so that a second import changes nothing; and an error names
// file, line, field and value. A file that is not what its header says is refused as a whole when it is opened; a record that only breaks a
// rule of the contract (package event) is refused by itself, when it is its turn.
//
// A data set is held in memory, at 32 bytes an interaction. Bundled holds the MovieLens data that travel with the program:
// see there for the conditions of their licence.
package dataset

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Dataset is a set of interactions and the catalogue of their items. It does not change once it is read.
type Dataset struct {
	name       string
	eventsFile string
	itemsFile  string

	users  []string // each id once; an interaction holds its index
	items  []string
	events []interaction // in the order of Interactions
	titles []item        // in the order of the file
}

type interaction struct {
	seconds    int64
	rating     float64 // NaN: none was given
	user, item uint32
	line       uint32
}

type item struct {
	event.Item
	line int
}

// Name says where the data are from.
func (d *Dataset) Name() string { return d.name }

// Len counts the records of Items and of Interactions, refused ones included.
func (d *Dataset) Len() (items, interactions int) { return len(d.titles), len(d.events) }

// Interactions gives the interactions in the order of time, user id, item id, rating, clicks before ratings. For a record that breaks a rule of the
// contract it gives the error instead, and goes on.
func (d *Dataset) Interactions() iter.Seq2[event.Interaction, error] {
	return func(yield func(event.Interaction, error) bool) {
		for _, e := range d.events {
			in := d.interaction(e)
			err := in.Validate()
			if err != nil {
				in, err = event.Interaction{}, fmt.Errorf("%s:%d: %w", d.eventsFile, e.line, err)
			}
			if !yield(in, err) {
				return
			}
		}
	}
}

// Items gives the catalogue in the order of its file. For a record that breaks a rule of the contract it gives the error
// instead, and goes on.
func (d *Dataset) Items() iter.Seq2[event.Item, error] {
	return func(yield func(event.Item, error) bool) {
		for _, t := range d.titles {
			it := t.Item
			it.Categories = slices.Clone(it.Categories)
			err := it.Validate()
			if err != nil {
				it, err = event.Item{}, fmt.Errorf("%s:%d: %w", d.itemsFile, t.line, err)
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

func (d *Dataset) interaction(e interaction) event.Interaction {
	in := event.Interaction{
		UserID:    d.users[e.user],
		ItemID:    d.items[e.item],
		Type:      event.Click,
		Timestamp: event.Time(e.seconds * 1000),
	}
	if !math.IsNaN(e.rating) {
		in.Type, in.Value = event.Rating, &e.rating
	}
	in.EventID = contentID(in)
	return in
}

// contentID is the same for the same interaction, whatever file it is from: the first 128 bits of a SHA-256.
func contentID(in event.Interaction) string {
	var b []byte
	for _, s := range []string{in.UserID, in.ItemID, string(in.Type)} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(in.Timestamp))
	if in.Value != nil {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(*in.Value))
	}
	sum := sha256.Sum256(b)
	return "import-" + hex.EncodeToString(sum[:16])
}

// sort brings the interactions into the order of Interactions.
func (d *Dataset) sort() {
	slices.SortStableFunc(d.events, func(a, b interaction) int {
		return cmp.Or(
			cmp.Compare(a.seconds, b.seconds),
			cmp.Compare(d.users[a.user], d.users[b.user]),
			cmp.Compare(d.items[a.item], d.items[b.item]),
			cmp.Compare(a.rating, b.rating),
		)
	})
}
