package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// columns names the columns of a layout, in the order in which the code uses them.
type columns struct {
	events   []string // user, item, rating, timestamp
	items    []string // item, title, categories
	implicit bool     // a rating may be empty
}

var (
	ownColumns = columns{
		events:   []string{"user_id", "item_id", "rating", "timestamp"},
		items:    []string{"item_id", "title", "categories"},
		implicit: true,
	}
	movieLensColumns = columns{
		events: []string{"userId", "movieId", "rating", "timestamp"},
		items:  []string{"movieId", "title", "genres"},
	}
)

// noGenres is how MovieLens writes an empty list.
const noGenres = "(no genres listed)"

func readCSV(c columns) func(*Dataset, fs.FS, string, string) error {
	return func(d *Dataset, fsys fs.FS, eventsFile, itemsFile string) error {
		b := newBuilder(d, c.implicit)
		if err := eachRow(fsys, eventsFile, c.events, func(line int, f []string) error {
			return b.add(eventsFile, line, c.events, f[0], f[1], f[2], f[3])
		}); err != nil {
			return err
		}
		if itemsFile == "" {
			return nil
		}
		return eachRow(fsys, itemsFile, c.items, func(line int, f []string) error {
			it := event.Item{ItemID: f[0], Title: f[1]}
			for name := range strings.SplitSeq(f[2], "|") {
				if name != "" && name != noGenres {
					it.Categories = append(it.Categories, name)
				}
			}
			d.titles = append(d.titles, item{Item: it, line: line})
			return nil
		})
	}
}

// eachRow calls do with the named columns of every row after the header. The slice is reused, its strings are not.
func eachRow(fsys fs.FS, name string, want []string, do func(line int, fields []string) error) error {
	return withFile(fsys, name, func(content io.Reader) error {
		buffered := bufio.NewReaderSize(content, 1<<16)
		if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
			_, _ = buffered.Discard(3)
		}
		r := csv.NewReader(buffered)
		r.ReuseRecord = true
		header, err := r.Read()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: empty, want a header with %s", name, strings.Join(want, ","))
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		at := make([]int, len(want))
		for i, column := range want {
			at[i] = -1
			for j, h := range header {
				if strings.TrimSpace(h) == column {
					at[i] = j
				}
			}
			if at[i] < 0 {
				return fmt.Errorf("%s:1: the header %q has no column %q, want %s", name, strings.Join(header, ","), column, strings.Join(want, ","))
			}
		}
		fields := make([]string, len(want))
		for {
			record, err := r.Read()
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for i, j := range at {
				fields[i] = record[j]
			}
			line, _ := r.FieldPos(0)
			if err := do(line, fields); err != nil {
				return err
			}
		}
	})
}
