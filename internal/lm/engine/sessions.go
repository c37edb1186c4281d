package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/lm"
)

// sessionStep is by how many positions sessions grow.
const sessionStep = 512

// sessions are those of one model, each lent to one caller at a time. A session that remembers most of a text goes to who
// is to read it: a thought and the letter after it, or a prompt with a chain masked, are read where the prompt was.
type sessions struct {
	free chan struct{} // one for each that is in idle
	mu   sync.Mutex
	idle []*llama.Session // the longest unused first; nil ones are yet to be made
}

// newSessions has room for n sessions, 0 or less: one a processor.
func newSessions(n int) *sessions {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	p := &sessions{free: make(chan struct{}, n)}
	for range n {
		p.giveBack(nil)
	}
	return p
}

// take waits for a session.
func (p *sessions) take(ctx context.Context, tokens []int32) (*llama.Session, error) {
	select {
	case <-p.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best, most := 0, len(tokens)/2 // all prompts begin alike: what remembers less was about something else
	for i, s := range p.idle {
		if s == nil {
			continue
		}
		if n := s.Remembers(tokens); n > most {
			best, most = i, n
		}
	}
	s := p.idle[best]
	p.idle = slices.Delete(p.idle, best, best+1)
	return s, nil
}

func (p *sessions) giveBack(s *llama.Session) {
	p.mu.Lock()
	p.idle = append(p.idle, s)
	p.mu.Unlock()
	p.free <- struct{}{}
}

// take waits for a session that has room for n tokens, of which the given ones are to be read first.
func (m *Model) take(ctx context.Context, tokens []int32, n int) (*llama.Session, error) {
	if n > m.weights.Context {
		return nil, fmt.Errorf("%d tokens, and the model reads at most %d: %w", n, m.weights.Context, lm.ErrPromptTooLong)
	}
	s, err := m.sessions.take(ctx, tokens)
	if err != nil || s != nil && s.Positions() >= n {
		return s, err
	}
	larger, err := m.weights.NewSession(min(m.weights.Context, (n+sessionStep-1)/sessionStep*sessionStep), m.threads)
	if err != nil {
		m.sessions.giveBack(s)
		return nil, err
	}
	return larger, nil
}
