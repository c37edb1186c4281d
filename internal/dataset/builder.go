package dataset

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// builder adds interactions to a data set, each id stored once.
type builder struct {
	d        *Dataset
	implicit bool
	users    map[string]uint32
	items    map[string]uint32
}

func newBuilder(d *Dataset, implicit bool) *builder {
	return &builder{d: d, implicit: implicit, users: map[string]uint32{}, items: map[string]uint32{}}
}

// add parses one interaction. names are those of the four fields, for the errors.
func (b *builder) add(file string, line int, names []string, user, item, rating, timestamp string) error {
	fail := func(name, value, want string) error {
		return fmt.Errorf("%s:%d: %s %q: want %s", file, line, name, value, want)
	}
	e := interaction{rating: math.NaN(), line: uint32(line)}
	if rating != "" || !b.implicit {
		value, err := strconv.ParseFloat(rating, 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			want := "a number"
			if b.implicit {
				want += ", or nothing for a click"
			}
			return fail(names[2], rating, want)
		}
		e.rating = value
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || seconds > maxSeconds || seconds < -maxSeconds {
		return fail(names[3], timestamp, "whole Unix seconds")
	}
	e.seconds = seconds
	e.user = intern(b.users, &b.d.users, user)
	e.item = intern(b.items, &b.d.items, item)
	b.d.events = append(b.d.events, e)
	return nil
}

// intern gives the index of s in list, where it stands once.
func intern(known map[string]uint32, list *[]string, s string) uint32 {
	if i, ok := known[s]; ok {
		return i
	}
	s = strings.Clone(s) // the field would keep its whole row in memory
	i := uint32(len(*list))
	known[s] = i
	*list = append(*list, s)
	return i
}

// maxSeconds is the largest time whose milliseconds can be counted.
const maxSeconds = math.MaxInt64 / 1000
