package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/engine"
)

type adaptersPromoteCommand struct {
	Adapter       string  `arg:"" help:"GGUF file of an adapter, or the digest of a stored one, or its first digits." placeholder:"FILE|DIGEST"`
	Share         float64 `help:"Share of the users who get it first, up to 1, all of them." default:"0.1" group:"Promotion"`
	Reason        string  `help:"Why, for those who read the log." group:"Promotion"`
	servedFlags   `embed:""`
	thinkFlag     `embed:""`
	adapterPlaces `embed:""`
}

// Help is shown by `r2rec adapters promote --help`.
func (adaptersPromoteCommand) Help() string {
	return `Puts a file into the store, if it is one, and appends a promotion to the log. No gate judges it: that is your decision, and
the log says so. The adapter has to belong to the model that is served, the one of --model: the same base and tokenizer, and
readout and prompt version where the model's file names them. Servers check that again, and prove that they serve it, before they do: what the adapter
changes is measured here, on the newest decisions, and kept beside its file.

An adapter that is being rolled out is given to all users by --share 1. While another one is rolled out, nothing can be
promoted; roll it back first.`
}

func (c adaptersPromoteCommand) Run(p *process) error {
	if err := errors.Join(checkShare(c.Share), c.thinkFlag.check(c.servedFlags)); err != nil {
		return wrong(err)
	}
	d, err := c.connect(p)
	if err != nil {
		return err
	}
	defer d.close()
	record := event.Promotion{Kind: event.Promote, Parent: d.state.Current, Share: c.Share, Reason: c.Reason, Timestamp: event.At(time.Now())}

	file, proven := "", false
	if info, err := os.Stat(c.Adapter); err == nil && info.Mode().IsRegular() {
		file = c.Adapter
	} else {
		if record.Adapter, err = d.find(p, c.Adapter); err != nil {
			return fmt.Errorf("%w; and there is no file of that name", err)
		}
		if record.Adapter == "" {
			return errors.New("the bare base model is served again by r2rec adapters rollback --to base")
		}
		cache, err := os.MkdirTemp("", "r2rec-adapters-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(cache)
		var m adapters.Manifest
		if file, m, err = d.store.Fetch(p.ctx, record.Adapter, cache); err != nil {
			return c.lookedIn(err)
		}
		proven = len(m.Canaries) > 0
	}
	who, err := c.fits(p, file)
	if err == nil {
		c.Think, err = d.thinks(c.thinkFlag, who.Adapter)
	}
	if err == nil && c.Think != who.Think {
		who, err = c.fits(p, file)
	}
	if err != nil {
		return err
	}
	record.Adapter, record.Base, record.Readout, record.Prompt = who.Adapter, who.Digest, who.Readout, who.PromptVersion
	record.Think = who.Think
	if record.Adapter == d.state.Candidate && c.Share == 1 {
		record.Kind, record.Share = event.Complete, 0
	}
	if err := d.wouldCount(record); err != nil {
		return err
	}
	c.warnUnnamed(p)
	if !proven {
		m := adapters.Manifest{Parent: record.Parent, Created: record.Timestamp}
		if m.Canaries, err = c.canaries(p, d, file); err != nil {
			return err
		}
		if _, err := d.store.Put(p.ctx, file, m); err != nil {
			return err
		}
	}
	return d.append(p, record, c.JSON)
}

// fits holds the adapter against the model, and is both their identities.
func (c adaptersPromoteCommand) fits(p *process, file string) (event.Model, error) {
	model, err := c.servedFlags.open(thinking(engine.Options{Adapter: file, Concurrency: 1}, c.Think))
	if err != nil {
		hint := "it is held against the model that travels with the program; --model names another"
		if c.Model != "" {
			hint = "it is held against " + filepath.Base(c.Model) + ", the --model given"
		}
		return event.Model{}, fmt.Errorf("%w (%s)", err, hint)
	}
	who, err := model.Identity(p.ctx)
	return who, errors.Join(err, model.Close())
}

// wouldCount says why a record would be void if nobody else appended one now.
func (d *adapterDesk) wouldCount(record event.Promotion) error {
	current, served := d.state.Record(d.state.Current) // of the bare base there is none
	switch {
	case record.Kind == event.Promote && record.Adapter == d.state.Current:
		return fmt.Errorf("%s is current already", cleanName(record.Adapter))
	case record.Kind == event.Promote && record.Share < 1 && served && current.Think != record.Think:
		return fmt.Errorf("it is for servers with --think %d, and %s, which is current, for such with --think %d: no server serves both, so that nothing can be compared; --share 1 gives it to all",
			record.Think, cleanName(d.state.Current), current.Think)
	case record.Kind == event.Promote && record.Adapter == d.state.Candidate:
		return fmt.Errorf("%s is being rolled out to %s of the users already; --share 1 gives it to all", cleanName(record.Adapter), percent(d.state.Share))
	}
	if void := voidIn(d.state, record); void != "" {
		return fmt.Errorf("%s would be void: %s", record.Kind, cut(void, 4*reasonWidth))
	}
	return nil
}

// voidIn says why a record would be void as the next one after a state; empty: it would count.
func voidIn(s adapters.State, record event.Promotion) string {
	next := s.Apply(s.Offset, record)
	return next.Entries[len(next.Entries)-1].Void
}

// append writes the record and tells what came of it. One that did not count is an error.
func (d *adapterDesk) append(p *process, record event.Promotion, asJSON bool) error {
	state, counted, err := d.log.Append(p.ctx, record)
	if err != nil {
		return unfinished{err} // whether it is stored may not be known
	}
	entry := state.Entries[len(state.Entries)-1]
	if asJSON {
		err = json.NewEncoder(p.stdout).Encode(appended{entry, counted, state.Current, state.Candidate, state.Share})
	} else if counted {
		_, err = fmt.Fprintf(p.stdout, "Record %d counts.\n%s", entry.Offset, servedNow(state))
	}
	if err == nil && !counted {
		err = fmt.Errorf("record %d is void: %s. Somebody was faster; look at r2rec adapters list and decide again", entry.Offset, cut(entry.Void, 4*reasonWidth))
	}
	return err
}

// appended is what came of a record, for machines.
type appended struct {
	adapters.Entry
	Counted   bool    `json:"counted"`
	Current   string  `json:"current"`
	Candidate string  `json:"candidate"`
	Share     float64 `json:"share"`
}
