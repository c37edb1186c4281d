package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
)

// evalDraw says how cases are drawn where nobody gives any.
type evalDraw struct {
	Draw      int    `help:"Without --cases: about how many to draw." default:"1000" group:"Data"`
	Since     string `help:"Without --cases: ask about what happened from this time on, Unix seconds or RFC 3339. Default: the newest tenth of the events." placeholder:"TIME" group:"Data"`
	Popular   bool   `help:"Without --cases: draw the other candidates in proportion to how often they were liked, and not uniformly. Harder: popularity then says less." group:"Data"`
	KeepCases string `help:"Write the cases that were drawn to this file, for --cases." type:"path" placeholder:"FILE" group:"Data"`
}

func (c evalCommand) checkDraw() error {
	switch {
	case c.Cases != "" && (c.Since != "" || c.Popular || c.KeepCases != ""):
		return misuse("--cases: the questions are in the file; --since, --popular and --keep-cases are about those that are drawn")
	case c.Cases == "" && len(c.Against) > 0:
		return misuse("--against compares with the ranks that others gave to the same cases; name their file by --cases")
	case c.KeepCases != "":
		if err := checkWritable("--keep-cases", c.KeepCases); err != nil {
			return err
		}
	}
	return wrong(checkCounts(count{"--draw", c.Draw, 1}))
}

// data opens the files, or what travels with the program.
func (c evalCommand) data() (*dataset.Dataset, error) {
	switch {
	case c.Events != "":
		return dataset.OpenFiles(c.Events, c.Items)
	case c.Items != "":
		return nil, misuse("--items without --events: whose items are they? Name both, or none for the bundled data")
	}
	return dataset.Bundled()
}

// questions reads the cases, or draws them.
func (c evalCommand) questions(p *process, data *dataset.Dataset) ([]eval.Case, error) {
	if c.Cases != "" {
		return eval.ReadCases(c.Cases)
	}
	since, err := c.since(data)
	if err != nil {
		return nil, err
	}
	cases, err := eval.DrawSince(data.Interactions(), since, c.Draw, c.Popular, c.Seed)
	if err != nil {
		return nil, fmt.Errorf("--since %s: %w", since, err)
	}
	p.log.Info("cases drawn: a like, among 19 items that the user never touched", "cases", len(cases), "since", since.String(), "popular", c.Popular, "seed", c.Seed)
	if c.KeepCases == "" {
		return cases, nil
	}
	return cases, gguf.WriteFile(c.KeepCases, func(w io.Writer) error { return writeCases(w, cases) })
}

// since is the time from which on is asked.
func (c evalCommand) since(data *dataset.Dataset) (event.Time, error) {
	if c.Since != "" {
		at, err := parseMoment(c.Since)
		if err != nil {
			return 0, misuse("--since: %w", err)
		}
		return at, nil
	}
	var times []event.Time // in their order, as the stream is
	for in, err := range data.Interactions() {
		if err == nil {
			times = append(times, in.Timestamp)
		}
	}
	if len(times) == 0 {
		return 0, errors.New("there are no events to ask about")
	}
	return times[len(times)*9/10], nil
}

// writeCases writes cases as ReadCases reads them.
func writeCases(w io.Writer, cases []eval.Case) error {
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	for _, c := range cases {
		if err := lines.Encode(struct {
			Case       string   `json:"case"`
			User       string   `json:"user"`
			At         int64    `json:"at"`
			Candidates []string `json:"candidates"`
			Positive   string   `json:"positive"`
		}{c.ID, c.User, int64(c.At) / 1000, c.Candidates, c.Positive}); err != nil {
			return err
		}
	}
	return out.Flush()
}
