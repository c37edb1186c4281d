package rltrainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// round is one round under way.
type round struct {
	*RoundOptions
	note    note
	resumed bool // the note stood in the folder
	former  bool // it was begun otherwise than it was called, and has been judged: it is ended, and another one begins
}

// note is what a round knows of itself, kept in a file so that a killed one goes on. What it says is settled; everything
// else is computed again from it.
type note struct {
	Version int         `json:"version"`
	Options string      `json:"options"` // which the round began with, so that others begin anew
	Model   event.Model `json:"model"`
	Began   event.Time  `json:"began"`
	Parent  string      `json:"parent"` // the adapter that was current
	Gates   int         `json:"gates"`  // looks that had been taken since a promotion last held for all users
	Used    event.Time  `json:"used"`   // decisions that a gate had used
	Input
	Learns string `json:"learns,omitempty"` // digest of the decisions to learn from; absent until they have been read

	// From here on absent until the gate has judged.
	Adapter  string         `json:"adapter,omitempty"` // digest
	Gate     *event.Gate    `json:"gate,omitempty"`
	Passed   bool           `json:"passed,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Canaries []proof.Canary `json:"canaries,omitempty"`
	Report   Report         `json:"report"`
}

const noteVersion = 1

// Files of a round in its folder.
const (
	noteFile       = "round.json"
	parentFolder   = "parent"
	fittedFile     = "fitted.gguf" // after supervised fine-tuning
	adapterFile    = "adapter.gguf"
	checkpointFile = "checkpoint"
)

func (r *round) path(name string) string { return filepath.Join(r.Dir, name) }

// takeUp finds the round that stands in the folder, or begins a new one where there is none or it is of another world.
func takeUp(ctx context.Context, o *RoundOptions, state adapters.State) (*round, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	r := &round{RoundOptions: o}
	fresh, err := r.begin(ctx, state)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(r.path(noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.clear(); err != nil { // whatever else stands there is of no round that is known
			return nil, err
		}
		r.note = fresh
		return r, r.write()
	}
	if err != nil {
		return nil, err
	}
	var old note
	if err := json.Unmarshal(raw, &old); err != nil {
		return nil, fmt.Errorf("%s is no note of a round: %w; remove it to begin anew", r.path(noteFile), err)
	}
	if why := fresh.differs(old); why != "" && findIn(state, old) == nil && !fresh.judged(old) {
		o.Logger.Info("the round that was under way is given up, and a new one begins", "why", why, "dir", o.Dir)
		if err := r.clear(); err != nil {
			return nil, err
		}
		r.note = fresh
		return r, r.write()
	}
	o.Logger.Info("the round that was under way goes on", "dir", o.Dir, "began", old.Began.String())
	r.note, r.resumed, r.former = old, true, old.Options != fresh.Options || old.Model != fresh.Model
	if r.former {
		own := *o
		var was begunWith
		if err := json.Unmarshal([]byte(old.Options), &was); err != nil {
			return nil, fmt.Errorf("%s: the options of its round: %w; remove it to begin anew", r.path(noteFile), err)
		}
		own.Share, own.Seed = was.Share, was.Seed
		r.RoundOptions = &own
	}
	return r, nil
}

// begunWith is what decides what a round learns and how it is judged and published.
type begunWith struct {
	Learn   LearnOptions
	Gate    GateOptions
	Share   float64
	Seed    uint64
	Teacher string
	// What was learned elsewhere, if it was.
	Adapter string     `json:",omitempty"`
	Before  event.Time `json:",omitempty"`
}

// begin is the note of a round that begins now.
func (r *round) begin(ctx context.Context, state adapters.State) (note, error) {
	learned := ""
	if r.Import.Path != "" {
		var err error
		if learned, err = fileDigest(r.Import.Path); err != nil {
			return note{}, fmt.Errorf("read what was learned elsewhere: %w", err)
		}
	}
	options, err := json.Marshal(begunWith{r.Learn, r.Gate, r.Share, r.Seed, r.Teacher.Settings(), learned, r.Import.Before})
	if err != nil {
		return note{}, err
	}
	began := r.Now()
	input, err := InputOf(ctx, r.History, r.Learn.Staleness, began)
	if err != nil {
		return note{}, err
	}
	now := event.At(began)
	n := note{Version: noteVersion, Options: string(options), Model: r.Teacher.Model(), Began: now, Input: input,
		Parent: state.Current, Gates: state.Gates, Used: state.Used}
	n.Report = Report{Began: now, Parent: state.Current, Round: state.Gates + 1}
	return n, nil
}

// differs says why an old note is not of the world as it is now; "" where it is.
func (n note) differs(old note) string {
	switch {
	case old.Version != n.Version:
		return "it was begun by another version of this program"
	case old.Options != n.Options:
		return "its options were others"
	case old.Model != n.Model:
		return "its base model was another"
	case old.Parent != n.Parent:
		return "another adapter has become current"
	case !n.sameLook(old):
		return "another gate has used decisions meanwhile"
	}
	return ""
}

// judged tells whether an old note holds a look of the gate that the log has yet to learn of. Given up, its decisions would be
// looked at again as if it had not been.
func (n note) judged(old note) bool {
	return old.Gate != nil && old.Version == n.Version && old.Parent == n.Parent && n.sameLook(old)
}

// sameLook tells whether the gate's next look is the one that it was: each takes decisions that none had taken.
func (n note) sameLook(old note) bool { return old.Used == n.Used }

// write keeps the note, whole or not at all.
func (r *round) write() error {
	raw, err := json.MarshalIndent(r.note, "", "  ")
	if err != nil {
		return err
	}
	return gguf.WriteFile(r.path(noteFile), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// clear removes the round's files, the note last, so that a killed clearing is taken up too.
func (r *round) clear() error {
	return r.remove(parentFolder, checkpointFile, fittedFile, adapterFile, noteFile)
}

// remove lets go of files, and of what is left of them where their writing was killed.
func (r *round) remove(names ...string) error {
	for _, name := range names {
		if err := errors.Join(os.RemoveAll(r.path(name)), gguf.RemoveLeft(r.path(name))); err != nil {
			return err
		}
	}
	return nil
}
