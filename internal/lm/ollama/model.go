package ollama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// OnReload is what a request gets while the server has not got its model in memory: other models pushed it out, it was
// not used for long, or the server started anew.
type OnReload string

// What a request can get.
const (
	// ReloadGraph: lm.ErrUnavailable at once, for which the graph's ranking is served; meanwhile the model is loaded again.
	ReloadGraph OnReload = "graph"
	// ReloadWait: its answer, once the model is loaded, or within its deadline nothing.
	ReloadWait OnReload = "wait"
)

// errLoading says that a request came while the model was not in memory.
var errLoading = fmt.Errorf("%w: the server is loading it", lm.ErrUnavailable)

// Model is a model that an Installer made and loaded. Which one it is, is known without asking the server: its name has
// its digests. It is safe for concurrent use.
type Model struct {
	// Name on the server.
	Name string

	client     *Client
	who        event.Model
	installer  *Installer
	calibrated *lm.Calibrated                  // nil: answers are served as they are
	install    func(ctx context.Context) error // has the server get it, where it has not; nil: not known how
	copy       int                             // of the base that lies under it, or under the base that it is compared with
	ctx        context.Context
	stop       context.CancelFunc
	loads      sync.WaitGroup

	mu      sync.Mutex
	seen    time.Time // when the server was last known to have it in memory
	absent  bool      // it could not be loaded
	loading bool
}

// newModel is a model over a copy of the base that was reserved for it, and is given back where this fails.
func (i *Installer) newModel(name string, copy int, who event.Model) (*Model, error) {
	o := i.opt.Ask
	o.Model = name
	client, err := New(o)
	if err != nil {
		i.release(copy)
		return nil, err
	}
	who.Name = name
	m := &Model{Name: name, client: client, who: who, installer: i, copy: copy, seen: i.opt.Now()}
	m.ctx, m.stop = context.WithCancel(i.ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open[name]++
	return m, nil
}

// start loads a model that the server has; see newModel.
func (i *Installer) start(ctx context.Context, name string, copy int, who event.Model) (*Model, error) {
	m, err := i.newModel(name, copy, who)
	if err != nil {
		return nil, err
	}
	if err := m.load(ctx); err != nil {
		m.discard()
		return nil, err
	}
	return m, nil
}

// discard ends what this program does with a model that does not serve.
func (m *Model) discard() {
	m.stop()
	m.installer.leave(m.Name)
	m.installer.release(m.copy)
}

// load has the server answer once, which makes it load the model. Whether the answer ranks anything is not asked here.
func (m *Model) load(ctx context.Context) error {
	if m.install != nil {
		if err := m.install(ctx); err != nil {
			return err
		}
	}
	p, err := iot.ContentFree(m.who.PromptVersion, 2)
	if err != nil {
		return err
	}
	if _, err = m.client.ask(ctx, p.Text, false); err != nil && !errors.Is(err, lm.ErrNonsense) {
		return fmt.Errorf("load model %q: %w", m.Name, err)
	}
	return nil
}

// Identity names the base and the adapter by their own digests, as the model was made of them.
func (m *Model) Identity(context.Context) (event.Model, error) { return m.who, nil }

// Rank returns the log-share of each candidate, in the order of the context.
func (m *Model) Rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	return m.client.inTurn(ctx, m.rank, p)
}

func (m *Model) rank(ctx context.Context, p iot.Prompt) ([]float64, error) {
	if m.calibrated != nil {
		return m.calibrated.Rank(ctx, p)
	}
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	shares, _, err := m.client.learned(ctx, m.who.Readout, p, m.client.opt.MinMass)
	return shares, m.noticed(err)
}

// noticed takes note where the server has not got the model at all: the next request sees to it that it gets it again.
func (m *Model) noticed(err error) error {
	if errors.Is(err, lm.ErrModelMissing) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.absent, m.seen = true, time.Time{}
	}
	return err
}

// learned returns the log-share of each candidate, in the order of the context, by a readout that was learned, and tells
// which of them the server stated.
func (c *Client) learned(ctx context.Context, readout string, p iot.Prompt, minMass float64) (shares []float64, stated []bool, err error) {
	var by []float64 // letter
	var statedBy []bool
	if readout == verdicts {
		by, statedBy, err = c.verdicts(ctx, p, minMass)
	} else {
		by, statedBy, err = c.read(ctx, p.Text, len(p.Letters), minMass)
	}
	if err != nil {
		return nil, nil, err
	}
	if shares, err = lm.ByCandidate(by, p); err != nil {
		return nil, nil, fmt.Errorf("read the answer of model %q: %w", c.opt.Model, err)
	}
	stated = make([]bool, len(shares))
	for i, letter := range p.Letters {
		stated[i] = statedBy[letter-'A']
	}
	return shares, stated, nil
}

func (m *Model) letters(ctx context.Context, prompt string, n int) (lm.Reading, error) {
	if err := m.ready(ctx); err != nil {
		return lm.Reading{}, err
	}
	answer, err := m.client.Letters(ctx, prompt, n)
	return answer, m.noticed(err)
}

// bareLetters is a model as lm.Calibrated asks it.
type bareLetters struct{ *Model }

// Letters implements lm.LetterModel.
func (m bareLetters) Letters(ctx context.Context, prompt string, n int) (lm.Reading, error) {
	return m.letters(ctx, prompt, n)
}

// ready lets a request through, or turns it away and sees to it that the model is loaded.
func (m *Model) ready(ctx context.Context) error {
	now := m.installer.opt.Now()
	m.mu.Lock()
	absent, wait := m.absent, m.installer.opt.OnReload == ReloadWait
	switch {
	case m.loading && (absent || !wait):
		m.mu.Unlock()
		return errLoading
	case wait && !absent, now.Sub(m.seen) < m.installer.opt.Fresh && !absent:
		m.mu.Unlock()
		return nil
	case now.Sub(m.seen) < m.installer.opt.Fresh: // a server that was not there is not asked by each request
		m.mu.Unlock()
		return errLoading
	}
	m.seen = now // one looks, and the others go by what was seen before
	m.mu.Unlock()
	if !absent {
		if loaded, err := m.installer.server.loaded(ctx, m.Name); err != nil || loaded {
			return nil // a server that cannot tell may still answer
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loading && m.ctx.Err() == nil {
		m.loading = true
		m.loads.Go(m.reload)
	}
	return errLoading
}

// reload loads the model. Where that fails, a later request tries again.
func (m *Model) reload() {
	log, began := m.installer.opt.Logger, m.installer.opt.Now()
	log.Info("ollama: the server has not got the model in memory: it is loaded", "model", m.Name)
	err := m.load(m.ctx)
	now := m.installer.opt.Now()
	m.mu.Lock()
	m.loading, m.absent, m.seen = false, err != nil, now
	m.mu.Unlock()
	switch {
	case err == nil:
		log.Info("ollama: the model is loaded", "model", m.Name, "took", now.Sub(began))
	case m.ctx.Err() == nil:
		log.Warn("ollama: the model cannot be loaded", "model", m.Name, "error", err)
	}
}

// Close takes the model out of the server's memory, once its last request has ended, unless the same one was made again
// and is in use; and gives its copy of the base back. The server keeps the model itself, until others were used: see
// InstallOptions.Keep.
func (m *Model) Close() error {
	m.stop()
	m.loads.Wait()
	var err error
	if m.installer.leave(m.Name) {
		// The server unloads by the file of weights: nobody else may lie on this copy before that is done.
		err = m.installer.server.unload(context.Background(), m.Name)
	}
	if errors.Is(err, lm.ErrModelMissing) {
		err = nil
	}
	m.installer.release(m.copy)
	ctx, cancel := context.WithTimeout(context.Background(), m.installer.opt.Timeout)
	defer cancel()
	deleted, pruned := m.installer.pruneUnused(ctx)
	if len(deleted) > 0 {
		m.installer.opt.Logger.Info("ollama: adapters that are out of use are deleted", "models", deleted)
	}
	return errors.Join(err, pruned)
}
