package dataset

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// layout is one way in which a data set lies in a folder.
type layout struct {
	title  string
	events string
	items  string
	read   func(d *Dataset, fsys fs.FS, eventsFile, itemsFile string) error
}

var layouts = []layout{
	{title: "r2rec", events: "events.csv", items: "items.csv", read: readCSV(ownColumns)},
	{title: "MovieLens", events: "ratings.csv", items: "movies.csv", read: readCSV(movieLensColumns)},
	{title: "MovieLens 100k", events: "u.data", items: "u.item", read: readHundredK},
}

// Open reads the data set in a folder, or the one that a file belongs to: events.csv, ratings.csv or u.data, with or
// without .gz. A folder must hold the catalogue too; beside a file it may be missing, and is then empty.
func Open(path string) (*Dataset, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open data set: %w", err)
	}
	folder, file := path, ""
	if !info.IsDir() {
		folder, file = filepath.Split(path)
		if folder == "" {
			folder = "."
		}
	}
	d, err := open(os.DirFS(folder), file)
	if err != nil {
		return nil, fmt.Errorf("open data set %s: %w", path, err)
	}
	d.name = path
	return d, nil
}

// open reads the data set of a folder, or of one file in it.
func open(fsys fs.FS, file string) (*Dataset, error) {
	var looked []string
	for _, l := range layouts {
		events, okEvents := find(fsys, l.events)
		items, okItems := find(fsys, l.items)
		if file != "" {
			okEvents, events = strings.TrimSuffix(file, ".gz") == l.events, file
		}
		if okEvents && (okItems || file != "") {
			d := &Dataset{name: l.title, eventsFile: events, itemsFile: items}
			if err := l.read(d, fsys, events, items); err != nil {
				return nil, err
			}
			d.sort()
			return d, nil
		}
		looked = append(looked, fmt.Sprintf("%s%s with %s%s (%s)", l.events, found(okEvents), l.items, found(okItems), l.title))
	}
	if file != "" {
		return nil, errors.New("the name is not that of a file of interactions: want events.csv, ratings.csv or u.data, with or without .gz")
	}
	return nil, fmt.Errorf("no known layout: looked for %s, with or without .gz", strings.Join(looked, ", or "))
}

func found(ok bool) string {
	if ok {
		return " (found)"
	}
	return ""
}

// find gives the name under which a file lies in the folder, plain or gzipped.
func find(fsys fs.FS, name string) (string, bool) {
	for _, n := range []string{name, name + ".gz"} {
		if info, err := fs.Stat(fsys, n); err == nil && !info.IsDir() {
			return n, true
		}
	}
	return "", false
}

// withFile calls read with the unpacked content of a file.
func withFile(fsys fs.FS, name string, read func(io.Reader) error) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if !strings.HasSuffix(name, ".gz") {
		return read(f)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(read(z), z.Close())
}
