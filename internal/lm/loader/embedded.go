package loader

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

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
	switch {
	case err != nil && passing(err):
		return nil, err
	case err != nil:
		return nil, Refuse(err)
	}
	return embedded{m, m.Bare()}, nil
}

// passing tells whether it was the disk or the machine that failed, such as one without memory to map the file into, and not
// the adapter.
func passing(err error) bool {
	var file *fs.PathError
	var system syscall.Errno
	return errors.As(err, &file) || errors.As(err, &system)
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
