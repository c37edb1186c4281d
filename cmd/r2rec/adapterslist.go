package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

type adaptersListCommand struct {
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters list --help`.
func (adaptersListCommand) Help() string {
	return `One line an adapter, in the order of the log:

  current      served
  rolling out  served to a share of the users, and watched
  retired      was served, until another one followed
  rolled back  was served and taken back
  refused      did not pass the gate
  void         somebody else's promotion came first, or its record breaks the contract
  stored       only the file is there, the log does not know it

SNIPS and DR are the gate's two estimates of what an adapter earns more in slot 1 than its parent, with their intervals.`
}

// listedAdapter is one line of the list.
type listedAdapter struct {
	Digest    string      `json:"digest"`
	State     string      `json:"state"`
	Parent    string      `json:"parent"`
	Timestamp event.Time  `json:"timestamp"`
	Gate      *event.Gate `json:"gate,omitempty"`
	Reason    string      `json:"reason"`
	Stored    bool        `json:"stored"` // its file is in the store
}

// adapterList is the whole list for machines.
type adapterList struct {
	adapters.State
	Entries    int              `json:"entries"` // records of the log
	Adapters   []listedAdapter  `json:"adapters"`
	Unreadable []adapters.Entry `json:"unreadable,omitempty"`
}

// stateStored is that of an adapter of which the log knows nothing.
const stateStored = "stored"

func (c adaptersListCommand) Run(p *process) error {
	d, err := c.look(p)
	if err != nil {
		return err
	}
	defer d.close()
	stored, err := d.stored(p)
	if err != nil {
		return err
	}
	list := listAdapters(d.state, stored)
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(list)
	}
	return list.write(p.stdout)
}

func listAdapters(s adapters.State, stored map[string]adapters.Manifest) adapterList {
	list := adapterList{State: s, Entries: len(s.Entries), Adapters: []listedAdapter{}}
	listed := map[string]bool{}
	for _, a := range s.Summaries() {
		last := a.Last()
		line := listedAdapter{Digest: a.Digest, State: string(a.Standing), Parent: parentOf(a), Timestamp: last.Record.Timestamp, Gate: a.Gate(), Reason: last.Record.Reason}
		if last.Void != "" {
			line.Reason = last.Void
		}
		_, line.Stored = stored[a.Digest]
		listed[a.Digest] = true
		list.Adapters = append(list.Adapters, line)
	}
	for _, digest := range slices.Sorted(maps.Keys(stored)) {
		if m := stored[digest]; !listed[digest] {
			list.Adapters = append(list.Adapters, listedAdapter{Digest: digest, State: stateStored, Parent: m.Parent, Timestamp: m.Created, Reason: m.Model.Note, Stored: true})
		}
	}
	for _, e := range s.Entries {
		if e.Record.Kind == "" {
			list.Unreadable = append(list.Unreadable, e)
		}
	}
	return list
}

// parentOf is what an adapter was to replace, by its first record that is no roll-back of it.
func parentOf(a adapters.Summary) string {
	for _, e := range a.Entries {
		if e.Record.Kind != event.RollBack {
			return e.Record.Parent
		}
	}
	return ""
}

// reasonWidth is how much of a reason stands in a table.
const reasonWidth = 60

func (l adapterList) write(w io.Writer) error {
	if _, err := io.WriteString(w, servedNow(l.State)); err != nil {
		return err
	}
	if len(l.Adapters) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\nadapter\tstate\tparent\twhen\tSNIPS\tDR\tdecisions\tfile\treason")
		for _, a := range l.Adapters {
			state := a.State
			if state == string(adapters.RollingOut) {
				state = fmt.Sprintf("rolling out to %s", percent(l.Share))
			}
			file := "yes"
			if !a.Stored {
				file = "missing"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shortName(a.Digest), state, shortName(a.Parent), moment(a.Timestamp), gateCells(a.Gate), file, cut(a.Reason, reasonWidth))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, e := range l.Unreadable {
		if _, err := fmt.Fprintf(w, "Record %d is void: %s\n", e.Offset, cut(e.Void, 4*reasonWidth)); err != nil {
			return err
		}
	}
	return nil
}

// servedNow says in words what is served.
func servedNow(s adapters.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Served: %s", cleanName(s.Current))
	if s.Candidate != "" {
		fmt.Fprintf(&b, "; %s is being rolled out to %s of the users", cleanName(s.Candidate), percent(s.Share))
	}
	if s.Since != 0 {
		fmt.Fprintf(&b, ", since %s", moment(s.Since))
	}
	b.WriteByte('\n')
	if s.Gates > 0 {
		fmt.Fprintf(&b, "Gates since a promotion last held for all users: %d\n", s.Gates)
	}
	return b.String()
}

func cleanName(digest string) string { return iot.Clean(adapters.Name(digest)) }

// gateCells are the cells of SNIPS, DR and decisions.
func gateCells(g *event.Gate) string {
	if g == nil {
		return "-\t-\t-"
	}
	return fmt.Sprintf("%s\t%s\t%d", bounds(g.SNIPS), bounds(g.DR), g.Decisions)
}

// bounds is an estimate with its interval.
func bounds(b event.Bounds) string {
	return fmt.Sprintf("%+.4f (%+.4f to %+.4f)", b.Estimate, b.Low, b.High)
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

// moment is an instant as tables show it; "-" where there is none.
func moment(t event.Time) string {
	if t == 0 {
		return "-"
	}
	return t.Std().Format("2006-01-02 15:04 UTC")
}

// cut is text from outside, made harmless and at most so many characters long.
func cut(s string, width int) string {
	r := []rune(iot.Clean(s))
	if len(r) <= width {
		return string(r)
	}
	return string(r[:width-1]) + "…"
}
