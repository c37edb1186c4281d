package dataset

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// itemColumns is how many columns of u.item stand before the genre flags: id, title, two dates, address.
const itemColumns = 5

// unknownGenre is how MovieLens 100k writes an empty list of genres.
const unknownGenre = "unknown"

func readHundredK(d *Dataset, fsys fs.FS, eventsFile, itemsFile string) error {
	b := newBuilder(d, false)
	names := []string{"user id", "item id", "rating", "timestamp"}
	if err := eachLine(fsys, eventsFile, func(line int, text string) error {
		f := strings.Split(text, "\t")
		if len(f) != len(names) {
			return fmt.Errorf("%s:%d: %q has %d fields, want %d separated by tabs", eventsFile, line, text, len(f), len(names))
		}
		return b.add(eventsFile, line, names, f[0], f[1], f[2], f[3])
	}); err != nil || itemsFile == "" {
		return err
	}
	genres, err := readGenres(fsys)
	if err != nil {
		return err
	}
	return eachLine(fsys, itemsFile, func(line int, text string) error {
		f := strings.Split(text, "|")
		if len(f) != itemColumns+len(genres) {
			return fmt.Errorf("%s:%d: %q has %d fields, want %d separated by bars: %d and a flag for each of the %d genres in u.genre",
				itemsFile, line, text, len(f), itemColumns+len(genres), itemColumns, len(genres))
		}
		it := event.Item{ItemID: f[0], Title: f[1]}
		for i, flag := range f[itemColumns:] {
			switch {
			case flag == "0":
			case flag != "1":
				return fmt.Errorf("%s:%d: flag of genre %q: %q: want 0 or 1", itemsFile, line, genres[i], flag)
			case genres[i] != unknownGenre:
				it.Categories = append(it.Categories, genres[i])
			}
		}
		d.titles = append(d.titles, item{Item: it, line: line})
		return nil
	})
}

// readGenres reads the names of the flags, in their order: the lines are name|number, counted from 0.
func readGenres(fsys fs.FS) ([]string, error) {
	file, ok := find(fsys, "u.genre")
	if !ok {
		return nil, fmt.Errorf("u.item: no u.genre beside it, which names its flags")
	}
	var genres []string
	err := eachLine(fsys, file, func(line int, text string) error {
		name, number, _ := strings.Cut(text, "|")
		if number != fmt.Sprint(len(genres)) {
			return fmt.Errorf("%s:%d: %q: want a name, a bar and the number %d", file, line, text, len(genres))
		}
		genres = append(genres, name)
		return nil
	})
	return genres, err
}

// eachLine calls do with every line that is not empty, decoded from ISO 8859-1, in which every byte is the code point of
// that number.
func eachLine(fsys fs.FS, name string, do func(line int, text string) error) error {
	return withFile(fsys, name, func(content io.Reader) error {
		lines := bufio.NewScanner(content)
		for n := 1; lines.Scan(); n++ {
			if len(lines.Bytes()) == 0 {
				continue
			}
			text := make([]rune, len(lines.Bytes()))
			for i, b := range lines.Bytes() {
				text[i] = rune(b)
			}
			if err := do(n, string(text)); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}
