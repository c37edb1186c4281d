package main

import (
	"sync"

	"github.com/schollz/progressbar/v3"
)

// stages shows what goes on, one bar at a time, to be told from any goroutine.
type stages struct {
	p    *process
	mu   sync.Mutex
	what string
	held bool // by a stage that the others are not shown beside
	bar  *progressbar.ProgressBar
}

// hold shows nothing but this stage from now on; "" lets go.
func (s *stages) hold(what string, done, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = what != ""
	s.show(what, done, total)
}

func (s *stages) set(what string, done, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		s.show(what, done, total)
	}
}

func (s *stages) show(what string, done, total int) {
	if what != s.what && s.bar != nil {
		_ = s.bar.Clear() // a bar that cannot be drawn stops nothing
		s.bar = nil
	}
	s.what = what
	if what == "" {
		return
	}
	if s.bar == nil {
		s.bar = newBar(s.p, total, what)
	}
	_ = s.bar.Set(done)
}

func (s *stages) close() { s.hold("", 0, 0) }
