package ollama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
	"github.com/r2rec/r2rec/internal/lm"
)

// letters is the one readout that a server offers.
const letters = "letters"

// InstallOptions of an Installer. The zero value of a field takes the default that its comment states.
type InstallOptions struct {
	BaseURL string // of the server; default http://127.0.0.1:11434
	Base    string // path of the base model's GGUF file; required
	// Prefix begins the names of all models that are made. Default "r2rec". Two programs that follow different logs on one
	// server need different ones, or each prunes what the other made.
	Prefix string
	// Timeout of one upload or creation. Default 10 minutes.
	Timeout time.Duration
	// Ask says how the models are asked. Its BaseURL, Model, Learned and HTTPClient are set here, its Logger is Logger, and
	// the default of its Timeout is 2 minutes, since an answer may have to wait for the model to be loaded.
	Ask Options
	// OnReload is what a request gets while the model is not in the server's memory. Default ReloadGraph.
	OnReload OnReload
	// Fresh is for how long a look at what the server has in its memory holds. Default 500 ms.
	Fresh time.Duration
	// Merged has adapters merged even where the server takes them as layers.
	Merged bool

	Now        func() time.Time // required
	HTTPClient *http.Client     // default: one of its own
	Logger     *slog.Logger     // default: discards
}

// Installer makes models of one base and its adapters on an Ollama server, and runs them.
//
// The base is served with at least 16 bits a weight: from quantized weights a server computes with quantized numbers, and
// that hides what a small adapter changes. An adapter becomes a layer over the base where the server takes one, or else it
// is merged into the weights: the server is asked, by trying.
//
// A server keeps one model in memory for each file of weights, so that two adapters on the same file push each other out,
// half a second or more each time. Therefore each model that is in use has a copy of the base to itself, a file that
// differs in one key of its metadata; there are seldom more than two.
//
// All of it can be interrupted and done again: what the server has already is neither uploaded nor created a second time.
// It is safe for concurrent use.
type Installer struct {
	opt       InstallOptions
	server    *server
	names     names
	file      *gguf.File
	manifest  lora.Manifest // what an adapter has to say, but for its prompt
	prompt    int           // version, where no adapter says one
	quantized bool

	mu   sync.Mutex
	used map[int]bool // copies of the base under models that are in use
}

// NewInstaller opens the base. It does not call the server.
func NewInstaller(o InstallOptions) (*Installer, error) {
	if o.Prefix == "" {
		o.Prefix = "r2rec"
	}
	if !validPrefix.MatchString(o.Prefix) {
		return nil, fmt.Errorf("ollama: Prefix %q: want letters, digits, dots, dashes and underscores, at most 40", o.Prefix)
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Minute
	}
	if o.OnReload == "" {
		o.OnReload = ReloadGraph
	}
	if o.OnReload != ReloadGraph && o.OnReload != ReloadWait {
		return nil, fmt.Errorf("ollama: OnReload %q: must be %s or %s", o.OnReload, ReloadGraph, ReloadWait)
	}
	if o.Fresh <= 0 {
		o.Fresh = 500 * time.Millisecond
	}
	if o.Ask.Timeout <= 0 {
		o.Ask.Timeout = 2 * time.Minute
	}
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		return nil, errors.New("ollama: Now is required")
	}
	o.Ask.BaseURL, o.Ask.Model, o.Ask.Learned, o.Ask.HTTPClient, o.Ask.Logger = o.BaseURL, "to be named", true, o.HTTPClient, o.Logger
	checked, err := New(o.Ask)
	if err != nil {
		return nil, err
	}
	o.BaseURL = checked.opt.BaseURL
	base, err := url.Parse(o.BaseURL)
	if err != nil {
		return nil, err
	}
	bounded := *o.HTTPClient
	bounded.Transport = &boundedTransport{next: o.HTTPClient.Transport}
	i := &Installer{opt: o, used: make(map[int]bool),
		server: &server{base: base, http: &bounded, api: api.NewClient(base, &bounded), timeout: o.Timeout}}
	if i.file, err = gguf.Open(o.Base); err != nil {
		return nil, err
	}
	if err := i.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("base model %s: %w", o.Base, err), i.file.Close())
	}
	return i, nil
}

// read takes from the base what models of it need.
func (i *Installer) read() error {
	tokenizer, err := token.FromMetadata(i.file.Metadata)
	if err != nil {
		return err
	}
	const keyPrompt = "r2rec.prompt_version" // as internal/lm/engine writes it
	i.prompt = iot.Words
	if i.file.Metadata.Has(keyPrompt) {
		version, err := i.file.Metadata.Uint(keyPrompt)
		if err != nil {
			return err
		}
		i.prompt = int(version)
	}
	for _, t := range i.file.Tensors() {
		i.quantized = i.quantized || lora.Quantized(t.Type)
	}
	digest := i.file.Digest()
	i.names = newNames(i.opt.Prefix, digest)
	i.manifest = lora.Manifest{BaseDigest: digest, TokenizerDigest: tokenizer.Digest(), Readout: letters}
	return nil
}

// Close ends the use of the base's file. Models that are in use stay so.
func (i *Installer) Close() error { return i.file.Close() }

// Base makes the base model, without an adapter, and loads it. It reads prompts of the version, 0 being the one that its
// file names, or iot.Words.
func (i *Installer) Base(ctx context.Context, promptVersion int) (*Model, error) {
	if promptVersion == 0 {
		promptVersion = i.prompt
	}
	if _, err := iot.ContentFree(promptVersion, 1); err != nil {
		return nil, err
	}
	m, err := i.base(ctx, event.Model{Digest: i.manifest.BaseDigest, Readout: letters, PromptVersion: promptVersion})
	if err != nil {
		return nil, fmt.Errorf("install the base model %s on %s: %w", i.opt.Base, i.server.base.Redacted(), err)
	}
	return m, nil
}

func (i *Installer) base(ctx context.Context, who event.Model) (*Model, error) {
	have, err := i.server.list(ctx)
	if err != nil {
		return nil, err
	}
	copy := i.reserve(nil)
	if _, err := i.ensureCopy(ctx, copy, have); err != nil {
		i.release(copy)
		return nil, err
	}
	return i.start(ctx, i.names.copyOf(copy), copy, who)
}

// Adapter makes a model of the base and an adapter's GGUF file, and loads it. An adapter for another base, tokenizer or
// readout is refused with a *lora.MismatchError, before the server is asked for anything.
func (i *Installer) Adapter(ctx context.Context, path string) (*Model, error) {
	m, err := i.adapter(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("install adapter %s on %s: %w", path, i.server.base.Redacted(), err)
	}
	return m, nil
}

func (i *Installer) adapter(ctx context.Context, path string) (*Model, error) {
	a, digest, err := i.readAdapter(path)
	if err != nil {
		return nil, err
	}
	who := event.Model{Digest: i.manifest.BaseDigest, Adapter: digest, Readout: letters, PromptVersion: a.Manifest.PromptVersion}
	have, err := i.server.list(ctx)
	if err != nil {
		return nil, err
	}
	if i.opt.Merged || slices.Contains(have, i.names.merged(who.Adapter)) {
		return i.merged(ctx, a, who, have)
	}
	m, refused := i.layer(ctx, path, who, have)
	if !refuses(refused) {
		return m, refused
	}
	i.opt.Logger.Info("ollama: the server takes no adapter as a layer: it is merged into the weights", "adapter", who.Adapter, "says", refused)
	if m, err = i.merged(ctx, a, who, have); err != nil {
		return nil, fmt.Errorf("neither as a layer: %w; nor merged: %w", refused, err)
	}
	return m, nil
}

// readAdapter reads an adapter that belongs to this base. An error has a method Refused() bool that answers true where the
// adapter is at fault.
func (i *Installer) readAdapter(path string) (a *lora.Adapter, digest string, err error) {
	file, err := gguf.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if a, err = lora.FromGGUF(file); err != nil {
		return nil, "", unfit{err}
	}
	want := i.manifest
	want.PromptVersion = a.Manifest.PromptVersion
	err = a.Manifest.Check(want)
	if err == nil {
		err = a.Fits(i.file)
	}
	if err == nil {
		_, err = iot.ContentFree(want.PromptVersion, 1)
	}
	if err != nil {
		return nil, "", unfit{err}
	}
	return a, file.Digest(), nil
}

// promptOf is the version of the prompts that an adapter reads.
func (i *Installer) promptOf(path string) (int, error) {
	a, _, err := i.readAdapter(path)
	if err != nil {
		return 0, fmt.Errorf("read adapter %s: %w", path, err)
	}
	return a.Manifest.PromptVersion, nil
}

// layer makes the adapter a layer over a copy of the base.
func (i *Installer) layer(ctx context.Context, path string, who event.Model, have []string) (*Model, error) {
	copy := i.reserve(func(copy int) bool { return slices.Contains(have, i.names.layer(who.Adapter, copy)) })
	name := i.names.layer(who.Adapter, copy)
	if !slices.Contains(have, name) {
		if err := i.createLayer(ctx, name, path, copy, who, have); err != nil {
			i.release(copy)
			return nil, err
		}
	}
	m, err := i.start(ctx, name, copy, who)
	if refuses(err) { // it takes layers, and cannot run them
		err = errors.Join(err, i.server.delete(ctx, name))
	}
	return m, err
}

func (i *Installer) createLayer(ctx context.Context, name, path string, copy int, who event.Model, have []string) error {
	base, err := i.ensureCopy(ctx, copy, have)
	if err != nil {
		return err
	}
	adapter := blob{digest: "sha256:" + who.Adapter, write: fileWriter(path)}
	if err := i.server.upload(ctx, adapter); err != nil {
		return err
	}
	return i.server.create(ctx, name, base, adapter.digest)
}

// merged makes a model of the weights that the adapter changed.
func (i *Installer) merged(ctx context.Context, a *lora.Adapter, who event.Model, have []string) (*Model, error) {
	name := i.names.merged(who.Adapter)
	if !slices.Contains(have, name) {
		b, err := newBlob(func(w io.Writer) error { return lora.MergeF16(i.file, a, w) })
		if err != nil {
			return nil, err
		}
		if err := i.server.upload(ctx, b); err != nil {
			return nil, err
		}
		if err := i.server.create(ctx, name, b.digest, ""); err != nil {
			return nil, err
		}
	}
	return i.start(ctx, name, 0, who)
}

// ensureCopy makes sure that the server has a copy of the base, as a model, so that it keeps the file; and says which file.
func (i *Installer) ensureCopy(ctx context.Context, copy int, have []string) (digest string, err error) {
	b, err := newBlob(func(w io.Writer) error { return i.writeCopy(w, copy) })
	if err != nil {
		return "", err
	}
	if slices.Contains(have, i.names.copyOf(copy)) {
		return b.digest, nil
	}
	if err := i.server.upload(ctx, b); err != nil {
		return "", err
	}
	return b.digest, i.server.create(ctx, i.names.copyOf(copy), b.digest, "")
}

// writeCopy writes the base with 16 bits a weight or more, and its number, which makes it a file of its own.
func (i *Installer) writeCopy(w io.Writer, copy int) error {
	numbered := *i.file
	numbered.Metadata = i.file.Metadata.Clone()
	gguf.Set(numbered.Metadata, "r2rec.copy", uint32(copy))
	return lora.MergeF16(&numbered, nil, w)
}

// reserve takes the first copy of the base that is not in use, one that is preferred before all others.
func (i *Installer) reserve(preferred func(copy int) bool) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	first := 1
	for i.used[first] {
		first++
	}
	for copy := first; preferred != nil && copy <= first+len(i.used); copy++ {
		if !i.used[copy] && preferred(copy) {
			first = copy
			break
		}
	}
	i.used[first] = true
	return first
}

func (i *Installer) release(copy int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.used, copy)
}

// Prune deletes the models of this base whose adapters are none of those kept, by their digests, and returns their names.
// Copies of the base stay: the next adapter needs them.
func (i *Installer) Prune(ctx context.Context, keep ...string) (deleted []string, err error) {
	have, err := i.server.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("prune models on %s: %w", i.server.base.Redacted(), err)
	}
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

// remove deletes a model, from the server's memory first: deleting alone would leave it there.
func (i *Installer) remove(ctx context.Context, name string) error {
	if err := i.server.unload(ctx, name); err != nil && !errors.Is(err, lm.ErrModelMissing) {
		return err
	}
	return i.server.delete(ctx, name)
}
