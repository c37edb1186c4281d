package ollama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
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

// The readouts that a server offers.
const (
	letters  = "letters"
	verdicts = "verdicts"
)

var offered = []string{letters, verdicts}

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
	// the default of its Timeout is 2 minutes, since an answer may have to wait for the model to be loaded. Where its Think
	// says that they think, a base or an adapter that was taught other prompts than iot.Thoughts, or another readout than letters, is
	// refused.
	Ask Options
	// OnReload is what a request gets while the model is not in the server's memory. Default ReloadGraph.
	OnReload OnReload
	// Fresh is for how long a look at what the server has in its memory holds. Default 500 ms.
	Fresh time.Duration
	// Merged has adapters merged even where the server takes them as layers.
	Merged bool
	// PromptVersion of the prompts that the bare base reads. Default: the one that its file names, or iot.Words, or iot.Thoughts
	// where models think.
	PromptVersion int
	// Keep is how many of the adapters that were used last stay on the server beside those in use, so that the one before
	// comes back at once. Default 3.
	Keep int

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
	opt      InstallOptions
	server   *server
	names    names
	file     *gguf.File
	manifest lora.Manifest // what an adapter has to say, but for its readout and prompt
	readout  string        // of the bare base
	prompt   int           // version that the bare base reads

	ctx     context.Context // of what the models do by themselves; ends with Close
	stop    context.CancelFunc
	reading sync.RWMutex // held by who reads the file, and by Close

	// turn is held, by what stands in it, by whoever makes or deletes models of adapters, so that none is deleted on its way
	// into use.
	turn chan struct{}

	mu      sync.Mutex
	used    map[int]string // adapters of the models in use, by their copy of the base
	digests map[int]string // of those copies' files, once they were made
	recent  []string       // adapters, the last used first
	open    map[string]int // models in use, by their names: a merged adapter has one however often it is made
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
	if o.Keep <= 0 {
		o.Keep = 3
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
	i := &Installer{opt: o, used: make(map[int]string), digests: make(map[int]string), open: make(map[string]int), turn: make(chan struct{}, 1),
		server: &server{base: base, http: &bounded, api: api.NewClient(base, &bounded), timeout: o.Timeout}}
	i.ctx, i.stop = context.WithCancel(context.Background())
	if i.file, err = gguf.Open(o.Base); err != nil {
		return nil, err
	}
	if err := i.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("base model %s: %w", o.Base, err), i.Close())
	}
	return i, nil
}

// read takes from the base what models of it need.
func (i *Installer) read() error {
	tokenizer, err := token.FromMetadata(i.file.Metadata)
	if err != nil {
		return err
	}
	i.opt.Ask.countTokens = func(text string) int { return len(tokenizer.Encode(text, token.Options{Continues: true})) }
	i.readout = letters
	if i.file.Metadata.Has(lora.KeyReadout) {
		taught, err := i.file.Metadata.String(lora.KeyReadout)
		if err != nil {
			return err
		}
		if slices.Contains(offered, taught) {
			i.readout = taught
		}
	}
	i.prompt = i.opt.PromptVersion
	switch {
	case i.prompt != 0:
	case !i.file.Metadata.Has(lora.KeyPromptVersion):
		if i.prompt = iot.Words; i.opt.Ask.Think > 0 {
			i.prompt = iot.Thoughts
		}
	default:
		version, err := i.file.Metadata.Uint(lora.KeyPromptVersion)
		if err != nil {
			return err
		}
		i.prompt = int(version)
	}
	if _, err := iot.ContentFree(i.prompt, 1); err != nil {
		return err
	}
	if err := i.thinksBy(i.readout, i.prompt); err != nil {
		return err
	}
	digest := i.file.Digest()
	i.names = newNames(i.opt.Prefix, digest)
	i.manifest = lora.Manifest{BaseDigest: digest, TokenizerDigest: tokenizer.Digest()}
	return nil
}

// thinksBy tells whether models think that are read so, if they are to.
func (i *Installer) thinksBy(readout string, prompt int) error {
	if i.opt.Ask.Think == 0 {
		return nil
	}
	if err := lm.CheckThinks(readout, prompt); err != nil {
		return fmt.Errorf("it is to think (--think %d): %w", i.opt.Ask.Think, err)
	}
	return nil
}

// Readout is how the bare base is asked: by letters, unless its file says that it was taught verdicts.
func (i *Installer) Readout() string { return i.readout }

// Close ends the use of the base's file, once nobody reads it. Models that are in use stay so, and are not loaded again.
func (i *Installer) Close() error {
	i.stop()
	i.reading.Lock()
	defer i.reading.Unlock()
	return i.file.Close()
}

// Bare makes a model of the base alone, and loads it. Letters are calibrated, since nobody taught it to prefer none; a base
// that was taught verdicts gives these. A server that is not there is no error: the model comes once it is, and until then each request is answered by
// lm.ErrUnavailable.
func (i *Installer) Bare(ctx context.Context) (*Model, error) {
	copy := i.reserve("", nil)
	m, err := i.newModel(i.names.copyOf(copy), copy, event.Model{Digest: i.manifest.BaseDigest, Readout: i.readout, PromptVersion: i.prompt, Think: i.opt.Ask.Think})
	if err != nil {
		return nil, err
	}
	if i.readout == letters {
		m.calibrated = lm.NewCalibrated(bareLetters{m})
	}
	m.install = func(ctx context.Context) error {
		have, err := i.server.list(ctx)
		if err != nil {
			return err
		}
		_, err = i.ensureCopy(ctx, copy, have)
		return err
	}
	switch err := m.load(ctx); {
	case err == nil:
	case errors.Is(err, lm.ErrUnavailable) && !refuses(err):
		m.absent = true
		i.opt.Logger.Warn("ollama: the base model comes once the server does", "model", m.Name, "error", err)
	default:
		m.discard()
		return nil, fmt.Errorf("install the base model %s on %s: %w", i.opt.Base, i.server.base.Redacted(), err)
	}
	return m, nil
}

// Check tells whether the server is there.
func (i *Installer) Check(ctx context.Context) error {
	_, err := i.server.list(ctx)
	return err
}

// Adapt makes a model of the base and an adapter's GGUF file, which has the digest, and loads it. Its answers are as they
// are, not calibrated: so they were learned, judged and are proven. An error has a method Refused() bool that answers true
// where the adapter is at fault, such as one for another base, tokenizer or readout; then the server is not asked.
func (i *Installer) Adapt(ctx context.Context, digest, path string) (*Model, error) {
	m, err := i.adapt(ctx, digest, path)
	if err != nil {
		return nil, fmt.Errorf("install adapter %s on %s: %w", path, i.server.base.Redacted(), err)
	}
	return m, nil
}

func (i *Installer) adapt(ctx context.Context, digest, path string) (*Model, error) {
	done, err := i.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	a, is, err := i.readAdapter(path)
	if err != nil {
		return nil, err
	}
	if is != digest {
		return nil, fmt.Errorf("the file has the digest %s, and %s was asked for", is, digest)
	}
	who := event.Model{Digest: i.manifest.BaseDigest, Adapter: digest, Readout: a.Manifest.Readout, PromptVersion: a.Manifest.PromptVersion, Think: i.opt.Ask.Think}
	have, err := i.server.list(ctx)
	if err != nil {
		return nil, err
	}
	if i.opt.Merged || slices.Contains(have, i.names.merged(digest)) {
		return i.merged(ctx, a, who, have)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, refused := i.layer(ctx, file, who, have)
	if !refuses(refused) {
		return m, refused
	}
	i.opt.Logger.Info("ollama: the server takes no adapter as a layer: it is merged into the weights", "adapter", digest, "says", refused)
	if m, err = i.merged(ctx, a, who, have); err != nil {
		return nil, fmt.Errorf("neither as a layer: %w; nor merged: %w", refused, err)
	}
	return m, nil
}

// takeTurn waits until models of adapters may be made or deleted; done gives the turn back.
func (i *Installer) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case i.turn <- struct{}{}:
		return func() { <-i.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for others who make or delete models: %w", ctx.Err())
	}
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
	want.Readout, want.PromptVersion = a.Manifest.Readout, a.Manifest.PromptVersion
	if err = a.Manifest.Check(want); err == nil && !slices.Contains(offered, want.Readout) {
		err = fmt.Errorf("readout %s, the server has %s and %s", want.Readout, letters, verdicts)
	}
	if err == nil {
		err = i.thinksBy(want.Readout, want.PromptVersion)
	}
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

// layer makes the adapter, the bytes of its file, a layer over a copy of the base.
func (i *Installer) layer(ctx context.Context, file []byte, who event.Model, have []string) (*Model, error) {
	copy := i.reserve(who.Adapter, func(copy int) bool { return slices.Contains(have, i.names.layer(who.Adapter, copy)) })
	name := i.names.layer(who.Adapter, copy)
	create := func(ctx context.Context, have []string) error {
		return i.createLayer(ctx, name, file, copy, who, have)
	}
	if !slices.Contains(have, name) {
		if err := create(ctx, have); err != nil {
			i.release(copy)
			return nil, err
		}
	}
	m, err := i.start(ctx, name, copy, who)
	if refuses(err) { // it takes layers, and cannot run them
		err = errors.Join(err, i.server.delete(ctx, name))
	}
	if err == nil {
		m.install = i.again(name, create)
	}
	return m, err
}

// again is Model.install of a model that the server had once and may lose: its disk was a container's, or somebody deleted
// the model.
func (i *Installer) again(name string, create func(ctx context.Context, have []string) error) func(context.Context) error {
	return func(ctx context.Context) error {
		done, err := i.takeTurn(ctx)
		if err != nil {
			return err
		}
		defer done()
		have, err := i.server.list(ctx)
		if err != nil || slices.Contains(have, name) {
			return err
		}
		i.opt.Logger.Warn("ollama: the server has lost the model: it is made again", "model", name)
		return create(ctx, have)
	}
}

func (i *Installer) createLayer(ctx context.Context, name string, file []byte, copy int, who event.Model, have []string) error {
	base, err := i.ensureCopy(ctx, copy, have)
	if err != nil {
		return err
	}
	adapter := blob{digest: "sha256:" + who.Adapter, write: func(w io.Writer) error { _, err := w.Write(file); return err }}
	if err := i.server.upload(ctx, adapter); err != nil {
		return err
	}
	return i.server.create(ctx, name, base, adapter.digest)
}

// merged makes a model of the weights that the adapter changed. It lies on no copy of the base, and has one only for the
// base that it is compared with.
func (i *Installer) merged(ctx context.Context, a *lora.Adapter, who event.Model, have []string) (*Model, error) {
	name := i.names.merged(who.Adapter)
	create := func(ctx context.Context, _ []string) error {
		b, err := newBlob(ctx, func(w io.Writer) error { return i.merge(w, i.file, a) })
		switch {
		case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
			return err
		case err != nil:
			return unfit{err} // F16 does not hold its weights
		}
		if err := i.server.upload(ctx, b); err != nil {
			return err
		}
		return i.server.create(ctx, name, b.digest, "")
	}
	if !slices.Contains(have, name) {
		if err := create(ctx, have); err != nil {
			return nil, err
		}
	}
	m, err := i.start(ctx, name, i.reserve(who.Adapter, nil), who)
	if err == nil {
		m.install = i.again(name, create)
	}
	return m, err
}
