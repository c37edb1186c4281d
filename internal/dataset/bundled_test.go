package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
)

func bundled(t *testing.T) *Dataset {
	t.Helper()
	d, err := Bundled()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The figures are those of the data set's own README and of a count of its files by another program.
func TestBundledIsWhole(t *testing.T) {
	d := bundled(t)
	items, interactions := d.Len()
	if items != 9125 || interactions != 100004 {
		t.Errorf("Len = %d films, %d ratings, want 9,125 and 100,004", items, interactions)
	}
	users, rated, ids := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var liked, disliked, n int
	var last event.Time
	for in, err := range d.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		if in.Type != event.Rating {
			t.Fatalf("%+v is not a rating", in)
		}
		if in.Timestamp < last {
			t.Fatalf("%+v comes after an event at %v", in, last)
		}
		last = in.Timestamp
		users[in.UserID], rated[in.ItemID], ids[in.EventID] = true, true, true
		if *in.Value >= 4 {
			liked++
		}
		if *in.Value <= 2 {
			disliked++
		}
		n++
	}
	for name, c := range map[string][2]int{
		"ratings": {n, 100004}, "event ids": {len(ids), 100004}, "users": {len(users), 671}, "rated films": {len(rated), 9066},
		"ratings of 4 and more": {liked, 51568}, "ratings of 2 and less": {disliked, 13385},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
	if last.String() != "2016-10-16T17:57:24.000Z" {
		t.Errorf("the last rating is of %v, want 2016-10-16T17:57:24.000Z", last)
	}

	catalogue := map[string]event.Item{}
	without := 0
	for it, err := range d.Items() {
		if err != nil {
			t.Fatal(err)
		}
		catalogue[it.ItemID] = it
		if len(it.Categories) == 0 {
			without++
		}
	}
	if len(catalogue) != 9125 || without != 18 {
		t.Errorf("%d films, %d without genres, want 9,125 and 18", len(catalogue), without)
	}
	if it := catalogue["1"]; it.Title != "Toy Story (1995)" || strings.Join(it.Categories, "|") != "Adventure|Animation|Children|Comedy|Fantasy" {
		t.Errorf("film 1 is %+v", it)
	}
	for id := range rated {
		if _, ok := catalogue[id]; !ok {
			t.Errorf("film %s is rated but not in the catalogue", id)
		}
	}
}

// The files are the data set's own, bit by bit, and its README travels along: its licence asks for no less.
func TestBundledFilesAreTheOriginals(t *testing.T) {
	for name, want := range map[string]string{
		"movielens/ratings.csv.gz": "b4239649fbf90ebf405c56c3ae1d929d9e7c86fc1a3a80cbef1c884df593ef73",
		"movielens/movies.csv.gz":  "43d1736d3c688eb5b7856473c36d86a1c345676cab256c91720c1f6984d263b5",
		"movielens/README.txt":     "59be481ddf3fab0f9f7cf2f73e0db4d0920a413a313c911b62bd01ee8816ea2f",
	} {
		hash := sha256.New()
		if err := withFile(movieLens, name, func(r io.Reader) error { _, err := io.Copy(hash, r); return err }); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != want {
			t.Errorf("%s unpacks to SHA-256 %s, want %s", name, got, want)
		}
	}
}

func BenchmarkBundled(b *testing.B) {
	for b.Loop() {
		if _, err := Bundled(); err != nil {
			b.Fatal(err)
		}
	}
}
