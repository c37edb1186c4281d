package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/r2rec/r2rec/internal/event"
)

// maxLine is the longest line of a file of cases, in bytes: some half a million candidates.
const maxLine = 16 << 20

// ReadCases reads a file of cases, one JSON object a line: {"case","user","at","candidates":[…],"positive"}, at in Unix
// seconds. Other fields and empty lines are ignored. The cases come in the order of the file, which need not be that of
// time; files of ranks are in the same order.
func ReadCases(path string) ([]Case, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	defer f.Close()
	cases, err := readCases(path, f)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	return cases, nil
}

func readCases(name string, r io.Reader) ([]Case, error) {
	var cases []Case
	lineOf := map[string]int{} // case id -> line
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	n := 0
	for lines.Scan() {
		n++
		raw := bytes.TrimSpace(lines.Bytes())
		if len(raw) == 0 {
			continue
		}
		c, err := parseCase(raw)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if before, twice := lineOf[c.ID]; twice {
			return nil, fmt.Errorf("%s:%d: case %s: stands in line %d too: give every case its own name", name, n, quote(c.ID), before)
		}
		lineOf[c.ID] = n
		cases = append(cases, c)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s:%d: the line has more than %d bytes: write one case a line", name, n+1, maxLine)
	} else if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf(`%s: holds no case: want one JSON object a line, {"case","user","at","candidates","positive"}`, name)
	}
	return cases, nil
}

func parseCase(raw []byte) (Case, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return Case{}, fmt.Errorf(`%s: %s: want one JSON object, {"case","user","at","candidates","positive"}`, quote(string(raw)), quoteError(err))
	}
	var c Case
	var at json.Number
	for _, f := range []struct {
		name string
		to   any
		want string
	}{
		{"case", &c.ID, "a text, the name of the case"},
		{"user", &c.User, "a text, the id of the user"},
		{"at", &at, "whole Unix seconds"},
		{"candidates", &c.Candidates, "a list of item ids, which are texts"},
		{"positive", &c.Positive, "a text, the id of the item that was chosen"},
	} {
		value, ok := fields[f.name]
		if !ok || string(value) == "null" {
			return Case{}, fmt.Errorf("%s: is missing: want %s", f.name, f.want)
		}
		// json.Number takes a number in a text too; a text is not whole seconds.
		if err := json.Unmarshal(value, f.to); err != nil || f.to == any(&at) && value[0] == '"' {
			return Case{}, fmt.Errorf("%s: %s: want %s", f.name, quote(string(value)), f.want)
		}
		if s, ok := f.to.(*string); ok && *s == "" {
			return Case{}, fmt.Errorf("%s: is empty: want %s", f.name, f.want)
		}
	}
	var err error
	if c.At, err = parseSeconds(at.String()); err != nil {
		return Case{}, err
	}
	return c, checkCandidates(c)
}

// parseSeconds turns Unix seconds into a time of the contract.
func parseSeconds(text string) (event.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil && seconds == 0 { // a number out of range gives the nearest bound
		return 0, fmt.Errorf("at: %s: want whole Unix seconds", quote(text))
	}
	const earliest, latest = int64(event.Earliest / 1000), int64(event.Latest / 1000)
	switch {
	case seconds >= earliest && seconds <= latest:
		return event.Time(seconds * 1000), nil
	case seconds/1000 >= earliest && seconds/1000 <= latest:
		return 0, fmt.Errorf("at: %s: looks like milliseconds: divide by 1000", quote(text))
	default:
		return 0, fmt.Errorf("at: %s: is not between %d (%s) and %d (%s): want Unix seconds",
			quote(text), earliest, event.Earliest, latest, event.Latest)
	}
}

// checkCandidates checks the candidates of a case, which need not come from a file.
func checkCandidates(c Case) error {
	if len(c.Candidates) < 2 {
		return fmt.Errorf("candidates: has %d: want two or more, or there is nothing to rank", len(c.Candidates))
	}
	first := make(map[string]int, len(c.Candidates))
	for i, id := range c.Candidates {
		if id == "" {
			return fmt.Errorf("candidates[%d]: is empty: want the id of an item", i)
		}
		if j, twice := first[id]; twice {
			return fmt.Errorf("candidates[%d]: %s: stands at %d too: give each item once", i, quote(id), j)
		}
		first[id] = i
	}
	if _, ok := first[c.Positive]; !ok {
		return fmt.Errorf("positive: %s: is not among the %d candidates: add it to them", quote(c.Positive), len(c.Candidates))
	}
	return nil
}

// quote makes a value of an input fit for an error: printable, in quotes and not long.
func quote(s string) string {
	const most = 80
	if len(s) <= most {
		return strconv.Quote(s)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// quoteError gives what encoding/json says about bad input, which may hold a piece of that input.
func quoteError(err error) string {
	s := strconv.QuoteToGraphic(err.Error())
	return s[1 : len(s)-1]
}
