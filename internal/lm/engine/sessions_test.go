package engine

import (
	"sync"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// What goes on from a text is read where the text was, whatever was asked in between; what is about something else takes
// the session that was longest unused, so that it forgets as little as can be.
func TestWhoGoesOnGetsTheSessionThatRemembers(t *testing.T) {
	o := toyOptions(t, 1)
	o.Readout, o.PromptVersion = Letters, iot.Words
	m := open1(t, Options{Path: toyModel(t, o), Concurrency: 3})
	prompts := toyPrompts(t, iot.Words, 30)
	texts := []iot.Prompt{prompts[8], prompts[17], prompts[26]} // of 17, 20 and 3 candidates
	for range 3 {
		for _, p := range texts {
			rank(t, m, p)
		}
	}
	for _, p := range []iot.Prompt{texts[1], texts[0], texts[2], texts[0]} {
		longer := m.reader.encode(p.Text + " A, and more")
		s, err := m.sessions.take(t.Context(), longer)
		must(t, err)
		if s == nil || s.Remembers(longer) < len(m.reader.encode(p.Text))-1 {
			t.Errorf("the session remembers %d of %d tokens", s.Remembers(longer), len(longer))
		}
		m.sessions.giveBack(s)
	}
	// The first text was read last: another one takes the session of the second, and the first is still there.
	rank(t, m, prompts[9])
	for i, p := range texts {
		tokens := m.reader.encode(p.Text)
		s, err := m.sessions.take(t.Context(), tokens)
		must(t, err)
		if known := s.Remembers(tokens) == len(tokens); known != (i != 1) {
			t.Errorf("text %d: %d of %d tokens are remembered", i, s.Remembers(tokens), len(tokens))
		}
		m.sessions.giveBack(s)
	}
	// A thought and its answer are two calls.
	for _, p := range texts {
		written, err := m.Write(t.Context(), p.Text, 1, lm.WriteOptions{Most: 4})
		must(t, err)
		tokens := m.reader.encode(p.Text + written[0].Text)
		s, err := m.sessions.take(t.Context(), tokens)
		must(t, err)
		if n := len(m.reader.encode(p.Text)); s.Remembers(tokens) < n-1 {
			t.Errorf("after writing, %d of the text's %d tokens are remembered", s.Remembers(tokens), n)
		}
		m.sessions.giveBack(s)
	}
}

// No session is lent twice, and none is lost.
func TestSessionsAreLentOnce(t *testing.T) {
	m := open1(t, Options{Concurrency: 2})
	prompts := toyPrompts(t, iot.FullFigures, 12)
	var group sync.WaitGroup
	var mu sync.Mutex
	lent := map[any]bool{}
	for i := range 8 {
		group.Go(func() {
			for j := range 30 {
				tokens := m.reader.encode(prompts[(i+j)%len(prompts)].Text)
				s, err := m.take(t.Context(), tokens, len(tokens))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if lent[s] || len(lent) == 2 {
					t.Errorf("%d sessions are lent, this one already: %v", len(lent), lent[s])
				}
				lent[s] = true
				mu.Unlock()
				if _, err := s.Read(t.Context(), tokens); err != nil {
					t.Error(err)
				}
				mu.Lock()
				delete(lent, s)
				mu.Unlock()
				m.sessions.giveBack(s)
			}
		})
	}
	group.Wait()
	if len(m.sessions.idle) != 2 || len(m.sessions.free) != 2 {
		t.Errorf("%d sessions are idle, %d free, of 2", len(m.sessions.idle), len(m.sessions.free))
	}
}
