package dataset

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

// folder writes files; names that end in .gz are packed.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		raw := []byte(content)
		if strings.HasSuffix(name, ".gz") {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write(raw); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			raw = packed.Bytes()
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, path string) *Dataset {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// lines writes the interactions as text, ids left out.
func lines(t *testing.T, d *Dataset) []string {
	t.Helper()
	var out []string
	for in, err := range d.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintf("%s %s %s %s", in.Timestamp, in.UserID, in.ItemID, in.Type)
		if in.Value != nil {
			s += fmt.Sprint(" ", *in.Value)
		}
		out = append(out, s)
	}
	return out
}

func eventIDs(t *testing.T, d *Dataset) []string {
	t.Helper()
	var out []string
	for in, err := range d.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, in.EventID)
	}
	return out
}

func catalogue(t *testing.T, d *Dataset) []event.Item {
	t.Helper()
	var out []event.Item
	for it, err := range d.Items() {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, it)
	}
	return out
}

const (
	ownEvents = "user_id,item_id,rating,timestamp\nu2,007,,1000000001\nu1,b,3.5,1000000001\nu1,a,5,1000000001\nu1,c,1,1000000000\n"
	ownItems  = "item_id,title,categories\n007,\"Bond, James\",Action|Spy\na,A,\n"
)

var ownWant = []string{
	"2001-09-09T01:46:40.000Z u1 c rating 1",
	"2001-09-09T01:46:41.000Z u1 a rating 5",
	"2001-09-09T01:46:41.000Z u1 b rating 3.5",
	"2001-09-09T01:46:41.000Z u2 007 click",
}

func TestOwnFiles(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"plain":                  {"events.csv": ownEvents, "items.csv": ownItems},
		"gzipped":                {"events.csv.gz": ownEvents, "items.csv.gz": ownItems},
		"with a byte order mark": {"events.csv": "\ufeff" + ownEvents, "items.csv": "\ufeff" + ownItems},
		"Windows line ends":      {"events.csv": strings.ReplaceAll(ownEvents, "\n", "\r\n"), "items.csv": strings.ReplaceAll(ownItems, "\n", "\r\n")},
		"other columns, other order": {
			"events.csv": "timestamp,session,item_id,user_id,rating\n1000000001,x,007,u2,\n1000000001,x,b,u1,3.5\n1000000001,x,a,u1,5\n1000000000,x,c,u1,1\n",
			"items.csv":  "title,item_id,price,categories\n\"Bond, James\",007,1,Action|Spy\nA,a,2,\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, files)
			d := load(t, dir)
			if diff := cmp.Diff(ownWant, lines(t, d)); diff != "" {
				t.Errorf("interactions (-want +got):\n%s", diff)
			}
			want := []event.Item{{ItemID: "007", Title: "Bond, James", Categories: []string{"Action", "Spy"}}, {ItemID: "a", Title: "A"}}
			if diff := cmp.Diff(want, catalogue(t, d)); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if items, interactions := d.Len(); items != 2 || interactions != 4 {
				t.Errorf("Len = %d, %d, want 2, 4", items, interactions)
			}
			if d.Name() != dir {
				t.Errorf("Name = %q, want the path", d.Name())
			}
		})
	}
}

func TestMovieLensFiles(t *testing.T) {
	d := load(t, folder(t, map[string]string{
		"ratings.csv": "userId,movieId,rating,timestamp\n7,10,4.0,1000000000\n07,10,0.5,1000000000\n",
		"movies.csv":  "movieId,title,genres\n10,\"Misérables, Les (1995)\",Drama|War\n11,Nothing (2000),(no genres listed)\n",
	}))
	want := []string{"2001-09-09T01:46:40.000Z 07 10 rating 0.5", "2001-09-09T01:46:40.000Z 7 10 rating 4"}
	if diff := cmp.Diff(want, lines(t, d)); diff != "" {
		t.Errorf("interactions (-want +got):\n%s", diff)
	}
	wantItems := []event.Item{{ItemID: "10", Title: "Misérables, Les (1995)", Categories: []string{"Drama", "War"}}, {ItemID: "11", Title: "Nothing (2000)"}}
	if diff := cmp.Diff(wantItems, catalogue(t, d)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// What one user says twice of one item in one second comes in one order, whatever that of the file: what was learned from past
// events goes by it.
func TestTiesComeInOneOrder(t *testing.T) {
	records := []string{"u,a,5,1000000001\n", "u,a,,1000000001\n", "u,a,1,1000000001\n", "u,a,5,1000000000\n"}
	want := []string{
		"2001-09-09T01:46:40.000Z u a rating 5",
		"2001-09-09T01:46:41.000Z u a click",
		"2001-09-09T01:46:41.000Z u a rating 1",
		"2001-09-09T01:46:41.000Z u a rating 5",
	}
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}} {
		file := "user_id,item_id,rating,timestamp\n"
		for _, i := range order {
			file += records[i]
		}
		if diff := cmp.Diff(want, lines(t, load(t, folder(t, map[string]string{"events.csv": file, "items.csv": ownItems})))); diff != "" {
			t.Errorf("in the order %v (-want +got):\n%s", order, diff)
		}
	}
}

func hundredK() map[string]string {
	return map[string]string{
		"u.data":  "9\t2\t3\t1000000001\n8\t1\t5\t1000000000\n",
		"u.item":  "1|Caf\xe9 (1990)|01-Jan-1990||http://example.org/?a|0|1|1\n2|Other (1991)|||http://example.org/|1|0|0\n\n",
		"u.genre": "unknown|0\nAction|1\nDrama|2\n\n",
	}
}

func TestMovieLens100kFiles(t *testing.T) {
	d := load(t, folder(t, hundredK()))
	want := []string{"2001-09-09T01:46:40.000Z 8 1 rating 5", "2001-09-09T01:46:41.000Z 9 2 rating 3"}
	if diff := cmp.Diff(want, lines(t, d)); diff != "" {
		t.Errorf("interactions (-want +got):\n%s", diff)
	}
	wantItems := []event.Item{{ItemID: "1", Title: "Café (1990)", Categories: []string{"Action", "Drama"}}, {ItemID: "2", Title: "Other (1991)"}}
	if diff := cmp.Diff(wantItems, catalogue(t, d)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

func TestOpenTakesAFileOfInteractions(t *testing.T) {
	both := folder(t, map[string]string{"events.csv.gz": ownEvents, "items.csv": ownItems, "ratings.csv": "userId,movieId,rating,timestamp\n1,1,1,1000000000\n"})
	if items, interactions := load(t, filepath.Join(both, "events.csv.gz")).Len(); items != 2 || interactions != 4 {
		t.Errorf("with a catalogue beside it: %d items, %d interactions, want 2 and 4", items, interactions)
	}
	if items, interactions := load(t, filepath.Join(both, "ratings.csv")).Len(); items != 0 || interactions != 1 {
		t.Errorf("without: %d items, %d interactions, want none and 1", items, interactions)
	}
	t.Chdir(both)
	if _, interactions := load(t, "ratings.csv").Len(); interactions != 1 {
		t.Errorf("by its bare name: %d interactions, want 1", interactions)
	}
}

// What the order of the rows is does not matter, neither for the order of the events nor for their ids; the layout neither.
func TestSameContentSameEvents(t *testing.T) {
	rows := []string{"1,10,4.0,1000000000", "1,11,4.0,1000000000", "2,10,4.0,1000000000", "1,10,4.0,1000000002", "1,10,3.0,1000000000", "11,0,4.0,1000000000"}
	read := func(events, header string, rows []string) *Dataset {
		return load(t, filepath.Join(folder(t, map[string]string{events: header + "\n" + strings.Join(rows, "\n") + "\n"}), events))
	}
	own := read("events.csv", "user_id,item_id,rating,timestamp", rows)
	shuffled := slices.Clone(rows)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	other := read("ratings.csv", "userId,movieId,rating,timestamp", shuffled)

	first, second := eventIDs(t, own), eventIDs(t, other)
	slices.Sort(first)
	slices.Sort(second)
	if !slices.Equal(first, second) {
		t.Errorf("the ids depend on the layout or on the order:\n%q\n%q", first, second)
	}
	if unique := slices.Compact(slices.Clone(first)); len(unique) != len(rows) {
		t.Errorf("%d ids for %d different interactions", len(unique), len(rows))
	}
	// The two at the same user, item and time keep the order of the file.
	byTime := read("events.csv", "user_id,item_id,rating,timestamp", []string{rows[3], rows[5], rows[0], rows[2], rows[1]})
	again := read("events.csv", "user_id,item_id,rating,timestamp", []string{rows[1], rows[2], rows[0], rows[5], rows[3]})
	if diff := cmp.Diff(lines(t, byTime), lines(t, again)); diff != "" {
		t.Errorf("the order of events depends on the order of rows:\n%s", diff)
	}
	// An id is part of what producers rely on: a change would double every earlier import.
	if got := eventIDs(t, read("events.csv", "user_id,item_id,rating,timestamp", rows[:1]))[0]; got != "import-99115fef3723e493c98b95456e4e354b" {
		t.Errorf("the id of a known interaction is %s", got)
	}
}

func TestErrorsNameFileLineFieldAndValue(t *testing.T) {
	spoil := func(file, from, to string) map[string]string {
		files := hundredK()
		files[file] = strings.Replace(files[file], from, to, 1)
		return files
	}
	without := func(name string) map[string]string {
		files := hundredK()
		delete(files, name)
		return files
	}
	own := func(row string) map[string]string {
		return map[string]string{"events.csv": "user_id,item_id,rating,timestamp\nu,i,1,1000000000\n" + row + "\n", "items.csv": ownItems}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"nothing known":       {map[string]string{"notes.txt": ""}, []string{"events.csv", "ratings.csv", "u.data", "items.csv", "movies.csv", "u.item"}},
		"catalogue missing":   {map[string]string{"events.csv": ownEvents}, []string{"events.csv (found)", "items.csv"}},
		"rating":              {own("u,i,five,1000000000"), []string{"events.csv:3", "rating", `"five"`, "number"}},
		"infinite rating":     {own("u,i,+Inf,1000000000"), []string{"events.csv:3", "rating", `"+Inf"`}},
		"timestamp":           {own("u,i,5,2001-09-09"), []string{"events.csv:3", "timestamp", `"2001-09-09"`, "seconds"}},
		"huge timestamp":      {own("u,i,5,9223372036854775807"), []string{"events.csv:3", "timestamp", `"9223372036854775807"`}},
		"too few columns":     {own("u,i,5"), []string{"events.csv", "line 3"}},
		"open quote":          {own(`u,"i,5,1000000000`), []string{"events.csv", "line 3"}},
		"wrong header":        {map[string]string{"events.csv": "user,item,rating,timestamp\n", "items.csv": ownItems}, []string{"events.csv:1", `"user_id"`, "user,item,rating,timestamp"}},
		"wrong header, items": {map[string]string{"events.csv": ownEvents, "items.csv": "item_id,name\n"}, []string{"items.csv:1", `"title"`}},
		"empty file":          {map[string]string{"events.csv": "", "items.csv": ownItems}, []string{"events.csv", "empty"}},
		"MovieLens rating":    {map[string]string{"ratings.csv": "userId,movieId,rating,timestamp\n1,1,,1000000000\n", "movies.csv": "movieId,title,genres\n"}, []string{"ratings.csv:2", "rating", `""`}},
		"u.data":              {spoil("u.data", "8\t1\t5", "8 1 5"), []string{"u.data:2", "tabs"}},
		"u.data rating":       {spoil("u.data", "\t3\t", "\tthree\t"), []string{"u.data:1", "rating", `"three"`}},
		"u.item flag":         {spoil("u.item", "|0|1|1", "|0|2|1"), []string{"u.item:1", `"Action"`, `"2"`}},
		"u.item columns":      {spoil("u.item", "|1|0|0", "|1|0"), []string{"u.item:2", "bars"}},
		"u.genre number":      {spoil("u.genre", "Action|1", "Action|7"), []string{"u.genre:2", `"Action|7"`}},
		"u.genre missing":     {without("u.genre"), []string{"u.genre"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, c.files)
			_, err := Open(dir)
			if err == nil {
				t.Fatal("opened")
			}
			for _, want := range append(c.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}
	t.Run("not packed", func(t *testing.T) {
		dir := folder(t, nil)
		if err := os.WriteFile(filepath.Join(dir, "events.csv.gz"), []byte(ownEvents), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(filepath.Join(dir, "events.csv.gz")); err == nil || !strings.Contains(err.Error(), "gzip") {
			t.Errorf("got %v, want an error that says gzip", err)
		}
	})
	t.Run("unknown name", func(t *testing.T) {
		dir := folder(t, map[string]string{"clicks.csv": ownEvents, "events.csv": ownEvents, "items.csv": ownItems})
		if _, err := Open(filepath.Join(dir, "clicks.csv")); err == nil || !strings.Contains(err.Error(), "events.csv") {
			t.Errorf("got %v, want an error that names the files it takes", err)
		}
	})
	t.Run("no such path", func(t *testing.T) {
		if _, err := Open(filepath.Join(t.TempDir(), "gone")); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("got %v, want an error that names the path", err)
		}
	})
}

// A record that breaks the contract is an error in its place, with its line, and those around it are given.
func TestARecordThatBreaksTheContractIsRefusedByItself(t *testing.T) {
	d := load(t, folder(t, map[string]string{
		"events.csv": "user_id,item_id,rating,timestamp\nu,i,1,1000000000\n,i,1,1000000001\nu,\"two\nlines\",1,1000000002\nu,i,1,1\nu,j,1,1000000003\n",
		"items.csv":  "item_id,title,categories\ni,\xff\xfe,\nj,Good,\n",
	}))
	var good []string
	var refused []error
	for in, err := range d.Interactions() {
		if err != nil {
			refused = append(refused, err)
		} else {
			good = append(good, in.ItemID)
		}
	}
	if !slices.Equal(good, []string{"i", "j"}) {
		t.Errorf("good events of %q, want i and j", good)
	}
	// In the order of time: the one of 1970 is first, and lines count those inside quotes.
	for i, want := range []string{"events.csv:6: ", "events.csv:3: ", "events.csv:4: "} {
		if i >= len(refused) || !strings.Contains(refused[i].Error(), want) {
			t.Fatalf("refused %q, want the %d. error at %s", refused, i+1, want)
		}
	}
	var titles []string
	for it, err := range d.Items() {
		if err != nil {
			titles = append(titles, err.Error())
		} else {
			titles = append(titles, it.Title)
		}
	}
	if len(titles) != 2 || !strings.HasPrefix(titles[0], "items.csv:2: ") || titles[1] != "Good" {
		t.Errorf("items %q, want an error at items.csv:2, then Good", titles)
	}
}

func TestIteratorsStopWhenAsked(t *testing.T) {
	d := load(t, folder(t, map[string]string{"events.csv": ownEvents, "items.csv": ownItems}))
	n := 0
	for range d.Interactions() {
		n++
		break
	}
	for range d.Items() {
		n++
		break
	}
	if n != 2 {
		t.Errorf("%d records after the first of each", n)
	}
}
