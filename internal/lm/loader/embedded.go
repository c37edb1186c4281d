package loader

import (
	"context"
	"errors"
	"io/fs"

	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// Embedded runs models within this program.
type Embedded struct {
	Base *engine.Model // without an adapter; stays open as long as anything is to be loaded
}

// Bare is the base model.
func (e Embedded) Bare(context.Context) (Model, error) {
	return embedded{e.Base.Bare(), nil}, nil
}

// Adapt opens the adapter beside the base model.
func (e Embedded) Adapt(_ context.Context, _, path string) (Model, error) {
	m, err := e.Base.WithAdapter(path)
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return nil, err // the disk's fault
	}
	if err != nil {
		return nil, Refuse(err)
	}
	return embedded{m, m.Bare()}, nil
}

// embedded is a model beside its own bare one, which is read in the same way.
type embedded struct {
	*engine.Model
	bare *engine.Model // nil: it has no adapter
}

// Sides are the two models.
func (m embedded) Sides() (base, adapter proof.Ranker) {
	if m.bare == nil {
		return m.Model, m.Model
	}
	return m.bare, m.Model
}

// Close closes both.
func (m embedded) Close() error {
	err := m.Model.Close()
	if m.bare != nil {
		err = errors.Join(err, m.bare.Close())
	}
	return err
}
