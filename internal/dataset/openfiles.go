package dataset

import (
	"fmt"
	"io/fs"
	"os"
)

// OpenFiles reads a data set in r2rec's own layout from two files of any name, anywhere; names that end in .gz are
// unpacked. Without a file of items ("") the catalogue is empty.
func OpenFiles(events, items string) (*Dataset, error) {
	d := &Dataset{name: events, eventsFile: events, itemsFile: items}
	if err := readCSV(ownColumns)(d, anywhere{}, events, items); err != nil {
		return nil, fmt.Errorf("open data set: %w", err)
	}
	d.sort()
	return d, nil
}

// anywhere opens files by any path of the operating system, where an fs.FS proper takes those below a root alone. So
// errors name a file as the caller did.
type anywhere struct{}

func (anywhere) Open(path string) (fs.File, error) { return os.Open(path) }
