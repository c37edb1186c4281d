package llama

import (
	"sync"
	"sync/atomic"
)

// crew are the threads that share a session's work: the goroutine that calls, and helpers, which stay from one piece of work
// to the next as long as a shift lasts. A token that is written has some hundred pieces of a few microseconds, and waking a
// goroutine for each takes longer than the work. So a helper that has nothing to do looks for it a while before it sleeps.
//
// No piece waits for a helper that has not begun: pieces are taken by whoever comes first, and a helper that another process
// keeps from its core leaves them all to the others. Only the end of a shift waits until all helpers have left. Who computes
// a piece changes no bit.
//
// A nil crew is one thread. A crew works for one goroutine at a time, and a piece must not give it work. Where a piece panics
// in the caller, helpers may still be at others until the shift ends.
type crew struct {
	threads int

	depth   int // of shifts within shifts
	helpers sync.WaitGroup
	work    atomic.Pointer[work] // the latest

	mu       sync.Mutex
	news     sync.Cond     // of work, for those who sleep
	sleeping atomic.Int32  // helpers that do, or are about to
	ended    chan struct{} // of work, for a caller that waits for its last piece
}

// work is 0 to n in pieces.
type work struct {
	f         func(worker, lo, hi int)
	n, pieces int
	next      atomic.Int64 // piece that nobody has taken
	done      atomic.Int64 // pieces
	awaited   atomic.Bool  // the caller sleeps, or is about to: who does the last piece tells it
	over      bool         // there is no more: helpers go home
}

const (
	lookFor   = 1 << 18 // times that a helper looks for work before it sleeps, some 200 to 500 µs
	lookClose = 1 << 18 // times that a caller looks whether the last piece is done before it sleeps
	finer     = 4       // pieces for each thread, where they may be small
)

// newCrew is a crew of so many threads, without helpers until a shift begins.
func newCrew(threads int) *crew {
	c := &crew{threads: max(1, threads), ended: make(chan struct{}, 1)}
	c.news.L = &c.mu
	return c
}

// shift has helpers come; they leave when the function is called that it returns. Shifts nest.
func (c *crew) shift() (end func()) {
	if c == nil || c.threads == 1 {
		return func() {}
	}
	if c.depth++; c.depth == 1 {
		idle := &work{}
		c.work.Store(idle)
		for worker := 1; worker < c.threads; worker++ {
			c.helpers.Go(func() { c.help(worker, idle) })
		}
	}
	return func() {
		if c.depth--; c.depth == 0 {
			c.announce(&work{over: true})
			c.helpers.Wait()
		}
	}
}

// help does pieces of all work that comes after the given one.
func (c *crew) help(worker int, last *work) {
	for {
		w := c.work.Load()
		for i := 0; w == last && i < lookFor; i++ {
			w = c.work.Load()
		}
		if w == last {
			c.sleep(last)
			continue
		}
		if w.over {
			return
		}
		if w.do(worker) && w.awaited.CompareAndSwap(true, false) {
			c.ended <- struct{}{}
		}
		last = w
	}
}

// sleep ends where there is other work than the last.
func (c *crew) sleep(last *work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sleeping.Add(1)
	for c.work.Load() == last {
		c.news.Wait()
	}
	c.sleeping.Add(-1)
}

// announce has helpers find the work. One that looked just before and goes to sleep looks again then, since it has said so.
func (c *crew) announce(w *work) {
	c.work.Store(w)
	if c.sleeping.Load() > 0 {
		c.mu.Lock()
		c.news.Broadcast()
		c.mu.Unlock()
	}
}

// do takes pieces until there are none left. last tells that all are done now, with one of these.
func (w *work) do(worker int) (last bool) {
	for {
		p := int(w.next.Add(1)) - 1
		if p >= w.pieces {
			return last
		}
		w.f(worker, p*w.n/w.pieces, (p+1)*w.n/w.pieces)
		last = int(w.done.Add(1)) == w.pieces
	}
}

// wait ends when all pieces are done. A helper may have been kept from its core in the middle of one, and needs ours: so it is
// not looked for long.
func (c *crew) wait(w *work) {
	for range lookClose {
		if int(w.done.Load()) == w.pieces {
			return
		}
	}
	c.sleepUntilDone(w)
}

func (c *crew) sleepUntilDone(w *work) {
	w.awaited.Store(true)
	if int(w.done.Load()) == w.pieces && w.awaited.CompareAndSwap(true, false) {
		return // nobody has seen that we wait
	}
	<-c.ended
}

// spread cuts 0 to n into runs of at least grain, one a thread, and does f for each. worker is below the number of threads.
func (c *crew) spread(n, grain int, f func(worker, lo, hi int)) { c.cut(1, n, grain, f) }

// share is spread with smaller runs, so that whoever is faster does more of them.
func (c *crew) share(n, grain int, f func(worker, lo, hi int)) { c.cut(finer, n, grain, f) }

func (c *crew) cut(each, n, grain int, f func(worker, lo, hi int)) {
	pieces := 1
	if c != nil && c.threads > 1 {
		pieces = min(c.threads*each, max(1, n/grain))
	}
	if pieces == 1 {
		f(0, 0, n)
		return
	}
	if c.depth == 0 {
		defer c.shift()()
	}
	w := &work{f: f, n: n, pieces: pieces}
	c.announce(w)
	if !w.do(0) {
		c.wait(w)
	}
}
