package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
)

type adaptersPruneCommand struct {
	Keep          int           `help:"How many adapters to go back to are kept: of those that current followed, and of those that were served last." default:"5" group:"Pruning"`
	Younger       time.Duration `help:"Keep what was made in this time and is not in the log: a trainer stores an adapter before it appends a record." default:"24h" group:"Pruning"`
	Yes           bool          `help:"Delete; without it, only show what would be deleted." group:"Pruning"`
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters prune --help`.
func (adaptersPruneCommand) Help() string {
	return `Deletes files only: the log keeps every record. What is current or being rolled out stays, and so do the last --keep adapters
that current followed and the last --keep that were served to all, rolled back or not. What killed processes left in the store
for more than a day goes, too. Nothing is deleted without --yes.`
}

// leftFor is how old what belongs to no adapter has to be: whoever stores one is done with it sooner.
const leftFor = 24 * time.Hour

// pruning is what is deleted, or would be.
type pruning struct {
	Deleted bool                `json:"deleted"` // false: it was only looked
	Bytes   int64               `json:"bytes"`
	Kept    int                 `json:"kept"`
	Prune   []adapters.Manifest `json:"prune"`
	Left    []adapters.Leftover `json:"left"` // that belongs to no adapter
}

func (c adaptersPruneCommand) Run(p *process) error {
	if err := checkCounts(count{"--keep", c.Keep, 0}); err != nil {
		return wrong(err)
	}
	if c.Younger < 0 {
		return misuse("--younger %v: want 0 or more", c.Younger)
	}
	d, err := c.look(p)
	if err != nil {
		return err
	}
	defer d.close()
	stored, err := d.stored(p)
	if err != nil {
		return err
	}
	out := toPrune(d.state, stored, c.Keep, event.At(time.Now().Add(-c.Younger)))
	if out.Left, err = d.store.Leftovers(p.ctx, time.Now().Add(-leftFor)); err != nil {
		return err
	}
	for _, l := range out.Left {
		out.Bytes += l.Bytes
	}
	if c.Yes {
		shown := &stages{p: p}
		defer shown.close()
		for i, m := range out.Prune {
			if err := d.store.Delete(p.ctx, m.Digest); err != nil {
				return err
			}
			shown.set("deleting", i+1, len(out.Prune))
		}
		for i, l := range out.Left {
			if err := d.store.Discard(p.ctx, l); err != nil {
				return err
			}
			shown.set("discarding what was left", i+1, len(out.Left))
		}
		shown.close()
		out.Deleted = true
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(out)
	}
	return out.write(p.stdout)
}

// toPrune is what nobody will go back to. Of what the log has, everything but what is served, the nearest of what it
// followed, and the latest of what was ever served to all; of what the log does not have, what was made before the instant.
func toPrune(s adapters.State, stored map[string]adapters.Manifest, keep int, before event.Time) pruning {
	kept := map[string]bool{s.Current: true, s.Candidate: true}
	for _, past := range [][]string{s.Lineage(), s.Served()} {
		past = slices.DeleteFunc(past, func(digest string) bool { return digest == s.Current })
		for _, digest := range past[:min(keep, len(past))] {
			kept[digest] = true
		}
	}
	logged := map[string]bool{}
	for _, a := range s.Summaries() {
		logged[a.Digest] = true
	}
	out := pruning{Prune: []adapters.Manifest{}}
	for digest, m := range stored {
		if kept[digest] || !logged[digest] && m.Created >= before {
			out.Kept++
			continue
		}
		out.Bytes += m.Size
		out.Prune = append(out.Prune, m)
	}
	slices.SortFunc(out.Prune, func(a, b adapters.Manifest) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

func (o pruning) write(w io.Writer) error {
	if len(o.Prune)+len(o.Left) == 0 {
		_, err := fmt.Fprintf(w, "Nothing to delete; %d adapters are kept.\n", o.Kept)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "adapter\tmade\tbytes")
	for _, m := range o.Prune {
		fmt.Fprintf(t, "%s\t%s\t%d\n", shortName(m.Digest), moment(m.Created), m.Size)
	}
	for _, l := range o.Left {
		fmt.Fprintf(t, "%s\tleft by a killed process\t%d\n", l.Key, l.Bytes)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	said := "Would be deleted; --yes deletes"
	if o.Deleted {
		said = "Deleted"
	}
	_, err := fmt.Fprintf(w, "%s: %d adapters%s, %d bytes; %d are kept.\n", said, len(o.Prune), some(" and %d files that belong to none", len(o.Left)), o.Bytes, o.Kept)
	return err
}
