package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
)

type adaptersRollbackCommand struct {
	To            string `help:"Digest of an adapter that was served to all before, or its first digits, or base, the model without an adapter. Default: what is current where another one is being rolled out, else what current replaced." placeholder:"DIGEST|base" group:"Roll-back"`
	Reason        string `help:"Why, for those who read the log." group:"Roll-back"`
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters rollback --help`.
func (adaptersRollbackCommand) Help() string {
	return `Appends a roll-back to the log, and servers go back: within a second to what they still have loaded, else as soon as it
is loaded and proven again. While an adapter is being rolled out, that one is
taken back; a second roll-back then goes further.`
}

func (c adaptersRollbackCommand) Run(p *process) error {
	d, err := c.look(p)
	if err != nil {
		return err
	}
	defer d.close()
	record := event.Promotion{Kind: event.RollBack, Reason: c.Reason, Timestamp: event.At(time.Now())}
	if d.state.Candidate != "" {
		record.Parent, record.Adapter = d.state.Candidate, d.state.Current
	} else {
		record.Parent = d.state.Current
		if lineage := d.state.Lineage(); len(lineage) > 1 {
			record.Adapter = lineage[1]
		}
	}
	if c.To != "" {
		if record.Adapter, err = d.find(p, c.To); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	if record.Adapter == record.Parent {
		if record.Parent == "" {
			return errors.New("the bare base model is served: there is nothing to roll back")
		}
		return fmt.Errorf("%s is what would be rolled back from", cleanName(record.Parent))
	}
	about := record.Parent
	if about == "" {
		about = record.Adapter
	}
	served, ok := d.state.Record(about)
	if !ok {
		return fmt.Errorf("%s has never been served: promote it instead", cleanName(about))
	}
	record.Base, record.Readout, record.Prompt, record.Think = served.Base, served.Readout, served.Prompt, served.Think
	if err := d.wouldCount(record); err != nil {
		return err
	}
	if err := goneFor(p.ctx, d.store, d.state, record.Adapter); err != nil {
		return c.lookedIn(err)
	}
	return d.append(p, record, c.JSON)
}

// goneFor says why servers could not go back to an adapter that was current before: its files are gone, and the record would
// count and change nothing. What is current has not to be fetched, and of a store that does not answer nothing is known.
func goneFor(ctx context.Context, store *adapters.Store, s adapters.State, adapter string) error {
	if adapter == s.Current || !slices.Contains(s.Served(), adapter) {
		return nil
	}
	_, err := store.Manifest(ctx, adapter)
	var corrupt *adapters.CorruptError
	if errors.Is(err, adapters.ErrNotStored) || errors.As(err, &corrupt) {
		return fmt.Errorf("servers cannot go back to it: %w (r2rec adapters prune deletes files); choose another that was served, see r2rec adapters list, or base, the model without an adapter", err)
	}
	return nil
}
