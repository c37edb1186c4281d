package dataset

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpenFilesOfAnyNameInAnyFolder(t *testing.T) {
	for name, files := range map[string][2]string{
		"plain":   {"clicks of May", "films.txt"},
		"gzipped": {"a:b.gz", "films.csv.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			events := filepath.Join(folder(t, map[string]string{files[0]: ownEvents}), files[0])
			items := filepath.Join(folder(t, map[string]string{files[1]: ownItems}), files[1])
			d, err := OpenFiles(events, items)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ownWant, lines(t, d)); diff != "" {
				t.Errorf("interactions (-want +got):\n%s", diff)
			}
			if got := catalogue(t, d); len(got) != 2 || got[0].Title != "Bond, James" {
				t.Errorf("items %+v", got)
			}
			if d.Name() != events {
				t.Errorf("name %q, want %q", d.Name(), events)
			}
			same := load(t, folder(t, map[string]string{"events.csv": ownEvents, "items.csv": ownItems}))
			if diff := cmp.Diff(eventIDs(t, same), eventIDs(t, d)); diff != "" {
				t.Errorf("ids differ from those that Open gives (-Open +OpenFiles):\n%s", diff)
			}

			d, err = OpenFiles(events, "")
			if err != nil {
				t.Fatal(err)
			}
			if items, interactions := d.Len(); items != 0 || interactions != len(ownWant) {
				t.Errorf("without items: %d items, %d interactions", items, interactions)
			}
		})
	}
}

func TestOpenFilesNamesTheFile(t *testing.T) {
	dir := folder(t, map[string]string{
		"good":      ownEvents,
		"items":     ownItems,
		"bad":       "user_id,item_id,rating,timestamp\nu,i,,1000000000\nu,i,five,1000000000\n",
		"no-header": "u,i,,1000000000\n",
		"films":     "item_id,name\na,A\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ events, items, want string }{
		{at("bad"), "", at("bad") + `:3: rating "five": want a number, or nothing for a click`},
		{at("no-header"), at("items"), at("no-header") + ":1: the header"},
		{at("good"), at("films"), at("films") + `:1: the header "item_id,name" has no column "title"`},
	} {
		if _, err := OpenFiles(c.events, c.items); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v, want %s", c.events, c.items, err, c.want)
		}
	}
	for _, c := range [][2]string{{at("none"), ""}, {at("good"), at("none")}} {
		if _, err := OpenFiles(c[0], c[1]); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), at("none")) {
			t.Errorf("%s: %v, want that there is no such file", c, err)
		}
	}
	// A record that only breaks a rule is refused by itself, and its file is named then.
	early := filepath.Join(folder(t, map[string]string{"early": "user_id,item_id,rating,timestamp\nu,i,,1\n"}), "early")
	d, err := OpenFiles(early, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range d.Interactions() {
		if err == nil || !strings.Contains(err.Error(), early+":2: ") {
			t.Errorf("%v, want %s:2", err, early)
		}
	}
}
