package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/iot"
)

// adaptersCommand are the commands about which adapter is served.
type adaptersCommand struct {
	List     adaptersListCommand     `cmd:"" help:"Show every adapter, what became of it, and what its gate found."`
	Show     adaptersShowCommand     `cmd:"" help:"Show one adapter: its manifest, its gate, where it stands in the log."`
	Diff     adaptersDiffCommand     `cmd:"" help:"Compare two adapters: their weights, and their answers to the canaries."`
	Promote  adaptersPromoteCommand  `cmd:"" help:"Begin to serve an adapter, to a share of the users or to all."`
	Import   adaptersImportCommand   `cmd:"" help:"Have the gate judge an adapter that another trainer made, and promote it if it passes."`
	Convert  adaptersConvertCommand  `cmd:"" help:"Turn an adapter that another trainer made into a GGUF file."`
	Rollback adaptersRollbackCommand `cmd:"" help:"Take back what is rolled out, or go back to what was served before."`
	Prune    adaptersPruneCommand    `cmd:"" help:"Delete the files of adapters that nobody will go back to."`
}

// Help is shown by `r2rec adapters --help`.
func (adaptersCommand) Help() string {
	return `An adapter is what a model has learned from your users' clicks: a small file beside the model. Which one is served stands
in the Kafka topic adapters, a log of promotions and roll-backs that servers follow; what is appended there is served a
moment later, without a restart. A record counts only if it names as its parent what is current: of two that were made at
the same time, one is void, and says why. The files lie in --adapters, by their digests.

  r2rec adapters list
  r2rec adapters promote mine.gguf --share 0.1 --reason "fitted on May"
  r2rec adapters rollback --reason "complaints"

An adapter is named by its digest, or by the first digits of it.`
}

// adapterFlags say where adapters' files are.
type adapterFlags struct {
	Adapters string `help:"Folder or URL of the adapters' files: /srv/adapters, s3://bucket?region=eu-west-1, gs://bucket, azblob://container; the same for all, and for servers. Default: r2rec/adapters in $XDG_STATE_HOME, or in ~/.local/state." env:"R2REC_ADAPTERS" placeholder:"FOLDER|URL" group:"Adapters"`
}

// where the adapters' files are.
func (f adapterFlags) where() (string, error) {
	if f.Adapters != "" {
		return f.Adapters, nil
	}
	where, err := stateFolder("adapters")
	if err != nil {
		return "", fmt.Errorf("--adapters is not given, and %w", err)
	}
	return where, nil
}

// store opens the adapters' files.
func (f adapterFlags) store(ctx context.Context) (*adapters.Store, error) {
	where, err := f.where()
	if err != nil {
		return nil, err
	}
	s, err := adapters.OpenStore(ctx, where)
	if err != nil {
		return nil, fmt.Errorf("--adapters: %w", err)
	}
	return s, nil
}

// warnUnnamed says where adapters go that servers are to fetch, if nobody said where.
func (f adapterFlags) warnUnnamed(p *process) {
	if f.Adapters != "" {
		return
	}
	if where, err := f.where(); err == nil { // else no store can be opened, which is told
		p.log.Warn("--adapters is not given: what is promoted lies in the default store, and servers cannot serve it unless they have that one. Set R2REC_ADAPTERS, the same for all", "store", where)
	}
}

// lookedIn says in which store something was not found, and what to do where that is nobody's choice.
func (f adapterFlags) lookedIn(err error) error {
	where, unknown := f.where()
	if unknown != nil {
		return err
	}
	if f.Adapters != "" {
		if u, err := url.Parse(where); err == nil && u.User != nil {
			where = u.Redacted()
		}
		return fmt.Errorf("--adapters %s: %w", where, err)
	}
	return fmt.Errorf("--adapters is not given, so that the default store was looked in, %s: name the one that servers have, by --adapters or R2REC_ADAPTERS. There, %w", where, err)
}

// stateFolder is where a user's programs keep what has to outlast them.
func stateFolder(name string) (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("there is no home to keep %s in: %w", name, err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "r2rec", name), nil
}

// adapterLog opens the log of adapters.
func adapterLog(p *process, kc *broker.Client) (*adapters.Log, error) {
	return adapters.NewLog(kc.NewWriter(broker.Adapters), p.log)
}

// adapterPlaces are the flags of every command about adapters.
type adapterPlaces struct {
	JSON         bool `help:"One JSON object, for machines."`
	adapterFlags `embed:""`
	kafkaFlags   `embed:""`
}

// adapterDesk is what such a command works with.
type adapterDesk struct {
	kafka *broker.Client
	log   *adapters.Log
	store *adapters.Store
	state adapters.State
}

func (f adapterPlaces) connect(p *process) (*adapterDesk, error) {
	return f.desk(p, func() (*broker.Client, error) { return connectKafka(p, f.kafkaFlags) })
}

// look is connect for what makes no log where there is none.
func (f adapterPlaces) look(p *process) (*adapterDesk, error) {
	return f.desk(p, func() (*broker.Client, error) { return readKafka(p, f.kafkaFlags, broker.Adapters) })
}

func (f adapterPlaces) desk(p *process, kafka func() (*broker.Client, error)) (*adapterDesk, error) {
	store, err := f.store(p.ctx)
	if err != nil {
		return nil, err
	}
	d := &adapterDesk{store: store}
	if err := d.open(p, kafka); err != nil {
		_ = d.close() // what went wrong before is told
		return nil, err
	}
	return d, nil
}

func (d *adapterDesk) open(p *process, kafka func() (*broker.Client, error)) (err error) {
	if d.kafka, err = kafka(); err != nil {
		return err
	}
	if d.log, err = adapterLog(p, d.kafka); err != nil {
		return err
	}
	d.state, err = d.log.State(p.ctx)
	return err
}

func (d *adapterDesk) close() error {
	var errs []error
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	if d.kafka != nil {
		d.kafka.Close()
	}
	return errors.Join(append(errs, d.store.Close())...)
}

// stored lists the store's manifests; those that are corrupt are told and left out.
func (d *adapterDesk) stored(p *process) (map[string]adapters.Manifest, error) {
	list, err := d.store.List(p.ctx)
	var corrupt *adapters.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	if err != nil {
		p.log.Warn("left out", "error", err)
	}
	out := make(map[string]adapters.Manifest, len(list))
	for _, m := range list {
		out[m.Digest] = m
	}
	return out, nil
}

// baseName stands for the bare base model on the command line and in tables.
const baseName = "base"

// knownShown bounds how many adapters an error lists.
const knownShown = 10

// find is the digest that a name given by the user stands for: the only one that begins with it. "base" is none.
func (d *adapterDesk) find(p *process, name string) (string, error) {
	if name == baseName {
		return "", nil
	}
	stored, err := d.stored(p)
	if err != nil {
		return "", err
	}
	var known []string
	for _, s := range d.state.Summaries() {
		known = append(known, s.Digest)
	}
	for digest := range stored {
		if !slices.Contains(known, digest) {
			known = append(known, digest)
		}
	}
	var fits []string
	for _, digest := range known {
		if digest == name {
			return digest, nil
		}
		if name != "" && strings.HasPrefix(digest, name) {
			fits = append(fits, digest)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return "", fmt.Errorf("%q could be any of %s: give more digits", name, shortList(fits))
	case len(known) == 0:
		return "", fmt.Errorf("there is no adapter %q: neither the log nor the store has any; r2rec adapters promote FILE brings in the first", name)
	}
	return "", fmt.Errorf("there is no adapter %q; known are %s", name, shortList(known))
}

func shortList(digests []string) string {
	var names []string
	for _, digest := range slices.Backward(digests) { // the newest first
		if len(names) == knownShown {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(digests)-knownShown)
		}
		names = append(names, shortName(digest))
	}
	return strings.Join(names, ", ")
}

// shortName is how tables name an adapter. A digest in the log is whatever somebody wrote there.
func shortName(digest string) string {
	if digest == "" {
		return baseName
	}
	return iot.Clean(adapters.Short(digest))
}
