// Package engine asks a model that runs within this program: internal/llama behind the interface of package lm. A model
// is one GGUF file, such as the base model that travels with the program (Base), with or without a LoRA adapter.
//
// It reads a ranking out of the prompt itself, without generating anything (readouts lines, verdicts, letters and pointwise), so that
// one takes milliseconds for a small model; it writes, several texts at once; and it learns: a Learner trains an adapter
// over a model, or a whole small one, to rank or to go on with texts.
//
// What it promises: the same model, adapter and prompt give the same shares, bit for bit. A model that answers is the one
// that Identity names; an adapter for another base, prompt version, readout or tokenizer is refused when it is opened.
//
// What it leaves to others: prompts (internal/iot), and what to serve when there is an error (the reasoner).
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

// Options of a Model. The zero value opens the base model that travels with the program.
type Options struct {
	Path    string // of a GGUF file; empty: Base
	Adapter string // path of a GGUF file with a LoRA adapter; empty: none

	// Readout and PromptVersion are how to read a model that does not say how it wants to be read, and has no adapter that
	// does. Defaults lines and iot.Words.
	Readout       Readout
	PromptVersion int
	// Think has the model write a thought of at most so many tokens before it answers, where it is asked to (Model.Think); its
	// identity says so. It takes letters, and prompts of iot.Thoughts. 0: it answers at once.
	Think int

	// Concurrency is how many prompts are read at once, each on one thread and with memory of its own. Default: one a
	// processor.
	Concurrency int
	// Threads read one prompt together. Default 1.
	Threads int
	// Trainable keeps the weights in the order that learning needs, which takes twice the memory.
	Trainable bool
}

// Model ranks the candidates of prompts. It is safe for concurrent use.
type Model struct {
	identity  event.Model
	opt       Options
	file      *source
	bare      *llama.Model // without an adapter
	weights   *llama.Model // that rank
	tokenizer *token.Tokenizer
	reader    *reader
	sessions  *sessions
	threads   int
	closed    atomic.Bool
}

// Open opens a model. The error names the file, and what in it is missing or wrong.
func Open(o Options) (*Model, error) {
	name, file, err := open(o.Path)
	if err != nil {
		return nil, err
	}
	m, err := newModel(name, &source{File: file}, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open model %s: %w", cmp.Or(o.Path, name), err), file.Close())
	}
	return m, nil
}

func open(path string) (name string, file *gguf.File, err error) {
	if path == "" {
		file, err = gguf.Parse(base)
		return BaseName, file, err
	}
	file, err = gguf.Open(path)
	return strings.TrimSuffix(filepath.Base(path), ".gguf"), file, err
}

func newModel(name string, file *source, o Options) (*Model, error) {
	if kind, err := file.Metadata.String("general.type"); err == nil && kind == "adapter" {
		return nil, errors.New("it is an adapter: name the model that it belongs to, and this file as its adapter")
	}
	tokenizer, err := token.FromMetadata(file.Metadata)
	if err != nil {
		return nil, err
	}
	readout, prompt, err := taught(file.Metadata, o)
	if err != nil {
		return nil, err
	}
	m := &Model{opt: o, file: file, tokenizer: tokenizer, threads: max(1, o.Threads)}
	m.identity = event.Model{Name: name, Digest: file.Digest(), Readout: string(readout), PromptVersion: prompt, Think: o.Think}
	if m.bare, err = llama.Load(file.File, o.Trainable); err != nil {
		return nil, err
	}
	if rows := m.bare.Vocabulary; tokenizer.Size() > rows { // fewer are usual: tables are padded
		return nil, fmt.Errorf("tokenizer.ggml.tokens has %d tokens, and token_embd.weight has the rows of %d: the tokenizer is another model's; convert the model again with its own", tokenizer.Size(), rows)
	}
	m.weights = m.bare
	return m, m.complete()
}

// complete adds the adapter, and what reads prompts.
func (m *Model) complete() (err error) {
	if m.opt.Adapter != "" {
		if err := m.adapt(m.opt); err != nil {
			return fmt.Errorf("adapter %s: %w", m.opt.Adapter, err)
		}
	}
	if err := known(m.identity.PromptVersion); err != nil {
		return err
	}
	if m.identity.Think > 0 {
		if err := lm.CheckThinks(m.identity.Readout, m.identity.PromptVersion); err != nil {
			return err
		}
	}
	if m.reader, err = newReader(m.tokenizer, Readout(m.identity.Readout)); err != nil {
		return err
	}
	m.sessions = newSessions(m.opt.Concurrency)
	m.file.users.Add(1)
	return nil
}

// taught is how a model was taught to be read.
func taught(meta *gguf.Metadata, o Options) (Readout, int, error) {
	readout, prompt := o.Readout, o.PromptVersion
	if readout == "" {
		readout = Lines
	}
	if prompt == 0 {
		prompt = iot.Words
	}
	if !meta.Has(lora.KeyReadout) {
		return readout, prompt, nil
	}
	said, err := meta.String(lora.KeyReadout)
	if err != nil {
		return "", 0, err
	}
	version, err := meta.Uint(lora.KeyPromptVersion)
	if err != nil {
		return "", 0, err
	}
	if o.Readout != "" && string(o.Readout) != said || o.PromptVersion != 0 && o.PromptVersion != int(version) {
		return "", 0, fmt.Errorf("the model was taught the readout %s and prompts of version %d; %s and %d are asked for", said, version, readout, prompt)
	}
	return Readout(said), int(version), nil
}

// known tells whether there are prompts of a version.
func known(promptVersion int) error {
	_, err := iot.ContentFree(promptVersion, 1)
	return err
}

// adapt adds an adapter. Where neither the model itself nor the options say how it is to be read, the adapter does.
func (m *Model) adapt(o Options) error {
	file, err := gguf.Open(o.Adapter)
	if err != nil {
		return err
	}
	defer file.Close()
	a, err := lora.FromGGUF(file)
	if err != nil {
		return err
	}
	server := m.manifest()
	says := m.file.Metadata.Has(lora.KeyReadout)
	if !says && o.Readout == "" {
		server.Readout = a.Manifest.Readout
	}
	if !says && o.PromptVersion == 0 {
		server.PromptVersion = a.Manifest.PromptVersion
	}
	if err := a.Manifest.Check(server); err != nil {
		return fmt.Errorf("it does not belong to this model: %w", err)
	}
	m.identity.Readout, m.identity.PromptVersion = server.Readout, server.PromptVersion
	if err := a.Fits(m.file.File); err != nil {
		return err
	}
	if m.weights, err = m.bare.WithChanges(changes(a)); err != nil {
		return err
	}
	m.identity.Adapter = file.Digest()
	return nil
}

// manifest is what an adapter of this model has to say.
func (m *Model) manifest() lora.Manifest {
	return lora.Manifest{BaseDigest: m.identity.Digest, Readout: m.identity.Readout, PromptVersion: m.identity.PromptVersion, TokenizerDigest: m.tokenizer.Digest()}
}

// changes are an adapter's pairs as the model takes them; they share their numbers.
func changes(a *lora.Adapter) []llama.LowRank {
	out := make([]llama.LowRank, len(a.Pairs))
	for i, p := range a.Pairs {
		out[i] = llama.LowRank{Target: p.Target, Rank: a.Rank, Scale: a.Scale(), A: p.A, B: p.B}
	}
	return out
}

// Identity names the weights and the adapter that rank, and the prompts that they read; the prompt's digest is left empty.
func (m *Model) Identity(context.Context) (event.Model, error) { return m.identity, nil }

// Shape is that of the model.
func (m *Model) Shape() llama.Config { return m.weights.Config }

// Reading is how this model reads a prompt, for a trainer that has to read the same: the tokens of all of it, and which of
// them end the candidates' lines, in the order of the letters; none where its vocabulary cannot read lines. A prompt with
// a question for each candidate is more than one text, and an error.
func (m *Model) Reading(p iot.Prompt) (tokens []int32, ends []int, err error) {
	if m.reader.readout == Pointwise {
		return nil, nil, fmt.Errorf("readout %s reads %d texts for a prompt: teach it here, or choose %s, %s or %s", Pointwise, len(p.Letters), Lines, Verdicts, Letters)
	}
	tokens = m.reader.encode(p.Text)
	lines, err := (&reader{tokenizer: m.reader.tokenizer, readout: Lines}).read(p)
	if n := len(lines.tokens); err == nil && (n > len(tokens) || !slices.Equal(lines.tokens, tokens[:n])) {
		err = fmt.Errorf("the last candidate's line, with what follows it: %w", errNoLines)
	}
	switch {
	case len(tokens) > m.weights.Context:
		return nil, nil, fmt.Errorf("%d tokens, and the model reads at most %d: %w", len(tokens), m.weights.Context, lm.ErrPromptTooLong)
	case err == nil:
		return tokens, lines.want, nil
	case m.reader.readout == Letters && errors.Is(err, errNoLines):
		return tokens, nil, nil
	}
	return nil, nil, err
}

// Manifest is what an adapter has to say that is learned for this model elsewhere.
func (m *Model) Manifest() lora.Manifest { return m.manifest() }

// Rank returns the log-share of each candidate of the prompt's context, in the order of the context. The error wraps one
// of package lm's, or the context's where the caller gave up.
func (m *Model) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	t, err := m.reader.read(p)
	if err != nil {
		return nil, fmt.Errorf("read a prompt of %d bytes: %w: %w", len(p.Text), err, lm.ErrNonsense)
	}
	s, err := m.take(ctx, t.tokens, t.longest())
	if err != nil {
		return nil, err
	}
	defer m.sessions.giveBack(s)
	return m.reader.rank(ctx, s, t, p)
}
