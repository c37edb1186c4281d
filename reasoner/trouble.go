package reasoner

import (
	"sync"
	"time"
)

// Trouble is what the model did not do lately.
type Trouble struct {
	Why   string    // one of the fallbacks
	Lists int       // that the graph ranked for it, one after the other
	Since time.Time // of the first of them
	Last  time.Time // of the last
	Err   error     // of the last
}

// trouble keeps what the model did not do since it last did.
type trouble struct {
	mu sync.Mutex
	is Trouble
}

func (t *trouble) failed(why string, err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is.Lists == 0 {
		t.is.Since = now
	}
	t.is.Why, t.is.Err, t.is.Last = why, err, now
	t.is.Lists++
}

func (t *trouble) answered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.is = Trouble{}
}

// Trouble tells what the model did not do since it last answered; its zero value, that nothing is known against it.
func (r *Reasoner) Trouble() Trouble {
	r.trouble.mu.Lock()
	defer r.trouble.mu.Unlock()
	return r.trouble.is
}
