package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/gguf"
)

// WithAdapter opens an adapter beside a model that goes on as it is and was opened without one: a second model, which
// takes memory for the layers that the adapter changes, and shares the file and all else. Either may be closed first. The
// error says what in the adapter is wrong, or that it is for another model.
func (m *Model) WithAdapter(path string) (*Model, error) {
	if m.identity.Adapter != "" {
		return nil, fmt.Errorf("adapter %s: the model has one already: open it without", path)
	}
	o := m.opt
	o.Adapter = path
	other := m.beside(o)
	if err := other.complete(); err != nil {
		return nil, err
	}
	return other, nil
}

// Bare is the model without its adapter, read in the same way: a second model, which shares all that WithAdapter shares.
func (m *Model) Bare() *Model {
	o := m.opt
	o.Adapter = ""
	other := m.beside(o)
	other.reader, other.sessions = m.reader, newSessions(o.Concurrency)
	other.file.users.Add(1)
	return other
}

// beside is a model of the same file without an adapter, yet to be completed.
func (m *Model) beside(o Options) *Model {
	other := &Model{opt: o, file: m.file, tokenizer: m.tokenizer, threads: m.threads, identity: m.identity, bare: m.bare, weights: m.bare}
	other.identity.Adapter = ""
	return other
}

// source is a model's file, which the last of its models closes.
type source struct {
	*gguf.File
	users atomic.Int64
}

// Close ends the use of the model, and of its file where no other model came from it that is still open. Nothing may be
// asked of the model any more.
func (m *Model) Close() error {
	if m.closed.Swap(true) || m.file.users.Add(-1) > 0 {
		return nil
	}
	return m.file.Close()
}
