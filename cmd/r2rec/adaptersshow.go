package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

type adaptersShowCommand struct {
	Adapter       string `arg:"" help:"Digest of the adapter, or its first digits." placeholder:"DIGEST"`
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters show --help`.
func (adaptersShowCommand) Help() string {
	return `Canaries are questions whose answers by the trainer are stored with the adapter: a server proves by them that it serves
what was trained. --json has the round's whole report, and everything the log says.`
}

// shownAdapter is everything that is known of one adapter.
type shownAdapter struct {
	Digest   string             `json:"digest"`
	State    string             `json:"state"`
	Manifest *adapters.Manifest `json:"manifest,omitempty"` // without canaries; absent: its file is not in the store
	Canaries *shownChange       `json:"canaries,omitempty"`
	Gate     *event.Gate        `json:"gate,omitempty"`
	Entries  []adapters.Entry   `json:"entries"`
	share    float64
	thinks   int // tokens of the thought before its answers, by the log
}

// shownChange is how far two rankers' answers are apart.
type shownChange struct {
	Number int     `json:"number"`
	Mean   float64 `json:"mean_change"`  // mean absolute difference of a log share, in nats
	First  float64 `json:"first_change"` // share of the canaries whose first item differs
}

func newShownChange(c adapters.Change) *shownChange {
	if c.Canaries == 0 {
		return nil
	}
	return &shownChange{c.Canaries, c.Mean, c.First}
}

func (c *shownChange) String() string {
	return fmt.Sprintf("%d; a log share differs by %.4f on average, the first item in %s of them", c.Number, c.Mean, percent(c.First))
}

func (c adaptersShowCommand) Run(p *process) error {
	d, err := c.look(p)
	if err != nil {
		return err
	}
	defer d.close()
	digest, err := d.find(p, c.Adapter)
	if err == nil && digest == "" {
		err = errors.New("the bare base model has no adapter to show; r2rec adapters list says what is served")
	}
	if err != nil {
		return err
	}
	shown := shownAdapter{Digest: digest, State: stateStored, Entries: []adapters.Entry{}, share: d.state.Share}
	for _, s := range d.state.Summaries() {
		if s.Digest == digest {
			shown.State, shown.Entries, shown.Gate = string(s.Standing), s.Entries, s.Gate()
		}
	}
	for _, e := range shown.Entries { // the last one that says how it answers
		if e.Void == "" && e.Record.Adapter == digest && e.Record.Kind != event.RollBack {
			shown.thinks = e.Record.Think
		}
	}
	m, err := d.store.Manifest(p.ctx, digest)
	switch {
	case err == nil:
		shown.Canaries = newShownChange(m.Change())
		m.Canaries = nil
		shown.Manifest = &m
	case !errors.Is(err, adapters.ErrNotStored):
		p.log.Warn("no manifest", "error", err)
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(shown)
	}
	return shown.write(p.stdout)
}

func (a shownAdapter) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := a.State
	if state == string(adapters.RollingOut) {
		state += " to " + percent(a.share) + " of the users"
	}
	fmt.Fprintf(t, "adapter\t%s\nstate\t%s\n", iot.Clean(a.Digest), state)
	if m := a.Manifest; m != nil {
		fmt.Fprintf(t, "learned from\t%s\n", shortName(m.Parent))
		fmt.Fprintf(t, "for base model\t%s\n", m.Model.BaseDigest)
		fmt.Fprintf(t, "tokenizer\t%s\n", m.Model.TokenizerDigest)
		fmt.Fprintf(t, "readout, prompt\t%s, version %d\n", iot.Clean(m.Model.Readout), m.Model.PromptVersion)
		if a.thinks > 0 {
			fmt.Fprintf(t, "answers\tafter a thought of up to %d tokens\n", a.thinks)
		}
		fmt.Fprintf(t, "rank, alpha\t%d, %v over %d layers\n", m.Rank, m.Alpha, len(m.Targets))
		fmt.Fprintf(t, "made\t%s, seed %d, %d steps\n", moment(m.Created), m.Seed, m.Model.Steps)
		if m.Model.Note != "" {
			fmt.Fprintf(t, "note\t%s\n", cut(m.Model.Note, 2*reasonWidth))
		}
		fmt.Fprintf(t, "file\t%d bytes\n", m.Size)
	} else {
		fmt.Fprintln(t, "file\tnot in the store")
	}
	if a.Canaries != nil {
		fmt.Fprintf(t, "canaries\t%s than by the base model\n", a.Canaries)
	} else if a.Manifest != nil {
		fmt.Fprintln(t, "canaries\tnone")
	}
	if g := a.Gate; g != nil {
		fmt.Fprintf(t, "gate\tlook %d: %d decisions of %d users (%d needed), effective sample %.0f, %s clipped, margin %.4f\n",
			g.Round, g.Decisions, g.Users, g.Needed, g.Effective, percent(g.Clipped), g.Margin)
		fmt.Fprintf(t, "SNIPS\t%s\nDR\t%s\n", bounds(g.SNIPS), bounds(g.DR))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(a.Entries) == 0 {
		_, err := fmt.Fprintln(w, "\nThe log does not know it.")
		return err
	}
	fmt.Fprintln(t, "\noffset\twhen\trecord\tcounts\treason")
	for _, e := range a.Entries {
		counts := "yes"
		if e.Void != "" {
			counts = "no: " + cut(e.Void, 2*reasonWidth)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", e.Offset, moment(e.Record.Timestamp), recordCell(e.Record), counts, cut(e.Record.Reason, reasonWidth))
	}
	return t.Flush()
}

// recordCell is what a record does, in few words.
func recordCell(r event.Promotion) string {
	switch {
	case r.Kind == event.Promote && r.Share < 1:
		return fmt.Sprintf("promote over %s to %s", shortName(r.Parent), percent(r.Share))
	case r.Kind == event.RollBack:
		return "roll back to " + shortName(r.Adapter)
	}
	return fmt.Sprintf("%s over %s", r.Kind, shortName(r.Parent))
}
