package ollama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/lm"
)

// Prune deletes the models of this base whose adapters are none of those kept, by their digests, and returns their names.
// Copies of the base stay: the next adapter needs them.
func (i *Installer) Prune(ctx context.Context, keep ...string) (deleted []string, err error) {
	return i.prune(ctx, func([]string) []string { return keep })
}

// pruneUnused is Prune of what is not in use, and has not been for long.
func (i *Installer) pruneUnused(ctx context.Context) (deleted []string, err error) {
	return i.prune(ctx, i.kept)
}

func (i *Installer) prune(ctx context.Context, kept func(have []string) []string) (deleted []string, err error) {
	done, err := i.takeTurn(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune models on %s: %w", i.server.base.Redacted(), err)
	}
	defer done()
	have, err := i.server.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune models on %s: %w", i.server.base.Redacted(), err)
	}
	keep := kept(have)
	var faults []error
	for _, name := range have {
		adapter, _, ok := i.names.parse(name)
		if !ok || adapter == "" || slices.ContainsFunc(keep, func(digest string) bool { return strings.HasPrefix(digest, adapter) }) {
			continue
		}
		if err := i.remove(ctx, name); err != nil {
			faults = append(faults, err)
			continue
		}
		deleted = append(deleted, name)
	}
	return deleted, errors.Join(faults...)
}

// Uninstall deletes all models of this base.
func (i *Installer) Uninstall(ctx context.Context) error {
	_, err := i.Prune(ctx)
	have, listed := i.server.list(ctx)
	faults := []error{err, listed}
	for _, name := range have {
		if _, _, ok := i.names.parse(name); ok {
			faults = append(faults, i.remove(ctx, name))
		}
	}
	return errors.Join(faults...)
}

// remove deletes a model, from the server's memory first: deleting alone would leave it there. The server unloads by the
// file of weights, so that only what is loaded under this very name may be: others lie on the same copy of the base.
func (i *Installer) remove(ctx context.Context, name string) error {
	loaded, err := i.server.loaded(ctx, name)
	if err == nil && loaded {
		err = i.server.unload(ctx, name)
	}
	if err != nil && !errors.Is(err, lm.ErrModelMissing) {
		return err
	}
	return i.server.delete(ctx, name)
}
