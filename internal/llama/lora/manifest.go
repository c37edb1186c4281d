package lora

import (
	"errors"
	"fmt"
	"math"
	"regexp"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
)

// Manifest says what an adapter was learned for. The zero value stands for an adapter that does not say.
//
// GGUF files have it in their metadata, each field under "r2rec." and its JSON name: base_digest, readout,
// tokenizer_digest, parent (where there is one) and note as strings, prompt_version, steps and learned_before (where it is
// known) as int64, seed as uint64; learned_events (where it is known) as learned_events.before, Unix ms as int64, and
// learned_events.digest, a string.
// PEFT folders have it in r2rec.json.
type Manifest struct {
	BaseDigest      string `json:"base_digest"`      // SHA-256 of the base model's GGUF file, in lower-case hexadecimal
	Readout         string `json:"readout"`          // letters, lines, pointwise or verdicts
	PromptVersion   int    `json:"prompt_version"`   // of internal/iot
	TokenizerDigest string `json:"tokenizer_digest"` // SHA-256 in lower-case hexadecimal

	// How it was made, for people: no server compares it.
	Parent string `json:"parent,omitempty"` // SHA-256 of the GGUF file of the adapter that it began from; empty: from nothing
	Seed   uint64 `json:"seed"`
	Steps  int    `json:"steps"`
	Note   string `json:"note,omitempty"`

	// LearnedBefore is Unix time in ms: no decision from then on taught it, so the gate may judge it by them. 0: it does not say.
	LearnedBefore int64 `json:"learned_before,omitempty"`
	// LearnedEvents are those of a data set that it was learned from, by itself or by what it began from: r2rec eval does not ask it
	// about earlier cases of that data set. The zero value: it does not say.
	LearnedEvents event.Past `json:"learned_events,omitzero"`
}

// MismatchError says that an adapter was learned for something else than what a server has.
type MismatchError struct {
	Field           string // JSON name of the manifest's field
	Adapter, Server any
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the adapter is for %s %v, the server has %v", e.Field, e.Adapter, e.Server)
}

// Check compares a manifest with what a server has, leaving out how either was made. The first field that differs is
// named by a MismatchError.
func (m Manifest) Check(server Manifest) error {
	if m == (Manifest{}) {
		return errors.New("the adapter has no manifest: nothing says which base model, readout, prompt and tokenizer it is for")
	}
	for _, f := range []MismatchError{
		{"base_digest", m.BaseDigest, server.BaseDigest},
		{"tokenizer_digest", m.TokenizerDigest, server.TokenizerDigest},
		{"readout", m.Readout, server.Readout},
		{"prompt_version", m.PromptVersion, server.PromptVersion},
	} {
		if f.Adapter != f.Server {
			return &f
		}
	}
	return nil
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m Manifest) check() error {
	switch {
	case m == Manifest{}:
		return nil
	case !hexDigest.MatchString(m.BaseDigest):
		return fmt.Errorf("manifest: base_digest %.80q: want 64 lower-case hexadecimal digits", m.BaseDigest)
	case !hexDigest.MatchString(m.TokenizerDigest):
		return fmt.Errorf("manifest: tokenizer_digest %.80q: want 64 lower-case hexadecimal digits", m.TokenizerDigest)
	case m.Readout == "":
		return errors.New("manifest: readout is empty")
	case m.PromptVersion < 0:
		return fmt.Errorf("manifest: prompt_version %d: want 0 or more", m.PromptVersion)
	case m.Parent != "" && !hexDigest.MatchString(m.Parent):
		return fmt.Errorf("manifest: parent %.80q: want 64 lower-case hexadecimal digits, or nothing", m.Parent)
	case m.Steps < 0:
		return fmt.Errorf("manifest: steps %d: want 0 or more", m.Steps)
	case m.LearnedBefore < 0:
		return fmt.Errorf("manifest: learned_before %d: want 0 or more", m.LearnedBefore)
	}
	if err := m.LearnedEvents.Check(); err != nil {
		return fmt.Errorf("manifest: learned_events: %w", err)
	}
	return nil
}

// Keys of a GGUF file's metadata that say how what it holds was taught to be read: an adapter, as a part of its manifest, or a
// base model of r2rec's own.
const (
	KeyReadout       = manifestPrefix + "readout"
	KeyPromptVersion = manifestPrefix + "prompt_version"
)

const (
	manifestPrefix  = "r2rec."
	keyEventsBefore = manifestPrefix + "learned_events.before"
	keyEventsDigest = manifestPrefix + "learned_events.digest"
)

// manifestKey is the metadata key of a field.
func manifestKey(field string) string { return manifestPrefix + field }

func (m Manifest) set(metadata *gguf.Metadata) {
	if m == (Manifest{}) {
		return
	}
	gguf.Set(metadata, manifestKey("base_digest"), m.BaseDigest)
	gguf.Set(metadata, KeyReadout, m.Readout)
	gguf.Set(metadata, KeyPromptVersion, int64(m.PromptVersion))
	gguf.Set(metadata, manifestKey("tokenizer_digest"), m.TokenizerDigest)
	if m.Parent != "" {
		gguf.Set(metadata, manifestKey("parent"), m.Parent)
	}
	gguf.Set(metadata, manifestKey("seed"), m.Seed)
	gguf.Set(metadata, manifestKey("steps"), int64(m.Steps))
	gguf.Set(metadata, manifestKey("note"), m.Note)
	if m.LearnedBefore != 0 {
		gguf.Set(metadata, manifestKey("learned_before"), m.LearnedBefore)
	}
	if m.LearnedEvents != (event.Past{}) {
		gguf.Set(metadata, keyEventsBefore, int64(m.LearnedEvents.Before))
		gguf.Set(metadata, keyEventsDigest, m.LearnedEvents.Digest)
	}
}

// manifestFrom reads the manifest of an adapter that r2rec wrote; of any other, the zero value.
func manifestFrom(metadata *gguf.Metadata) (Manifest, error) {
	var m Manifest
	if !metadata.Has(manifestKey("base_digest")) {
		return m, nil
	}
	var faults [11]error
	var prompt, steps int64
	m.BaseDigest, faults[0] = metadata.String(manifestKey("base_digest"))
	m.Readout, faults[1] = metadata.String(KeyReadout)
	prompt, faults[2] = metadata.Int(KeyPromptVersion)
	m.TokenizerDigest, faults[3] = metadata.String(manifestKey("tokenizer_digest"))
	m.Seed, faults[4] = metadata.Uint(manifestKey("seed"))
	steps, faults[5] = metadata.Int(manifestKey("steps"))
	m.Note, faults[6] = metadata.String(manifestKey("note"))
	if metadata.Has(manifestKey("parent")) {
		m.Parent, faults[7] = metadata.String(manifestKey("parent"))
	}
	if metadata.Has(manifestKey("learned_before")) {
		m.LearnedBefore, faults[8] = metadata.Int(manifestKey("learned_before"))
	}
	if metadata.Has(keyEventsBefore) || metadata.Has(keyEventsDigest) {
		var before int64
		before, faults[9] = metadata.Int(keyEventsBefore)
		m.LearnedEvents.Before = event.Time(before)
		m.LearnedEvents.Digest, faults[10] = metadata.String(keyEventsDigest)
	}
	if err := errors.Join(faults[:]...); err != nil {
		return Manifest{}, err
	}
	if prompt > math.MaxInt32 || steps > math.MaxInt32 {
		return Manifest{}, fmt.Errorf("manifest: prompt_version %d or steps %d is too large", prompt, steps)
	}
	m.PromptVersion, m.Steps = int(prompt), int(steps)
	return m, nil
}
