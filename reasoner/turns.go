package reasoner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errNoTurn says that too many prompts are before this one for an answer in time.
var errNoTurn = fmt.Errorf("too many prompts wait for the model: %w", context.DeadlineExceeded)

// turns lets so many prompts be with the model at once. Who would not get an answer before the deadline of its context, by
// how long prompts were with the model lately, is sent away at once: under more load than the model can bear, some lists are
// ranked by the graph without delay, instead of all of them after the whole of ModelTimeout.
type turns struct {
	free chan struct{} // takes a token for each prompt that is with the model
	now  func() time.Time

	mu      sync.Mutex
	waiting int
	took    time.Duration // that a prompt is with the model: a mean in which the newest counts an eighth
}

func newTurns(n int, now func() time.Time) *turns {
	return &turns{free: make(chan struct{}, n), now: now}
}

// take waits for a turn; done, which has to be called, ends it. left is what remains until the deadline.
func (t *turns) take(ctx context.Context, left time.Duration) (done func(), err error) {
	select {
	case t.free <- struct{}{}:
		return t.begin(ctx), nil
	default:
	}
	if !t.queue(left) {
		return nil, errNoTurn
	}
	asked := t.now()
	select {
	case t.free <- struct{}{}:
		t.leave()
	case <-ctx.Done():
		t.leave()
		return nil, ctx.Err()
	}
	if t.expects() > left-t.now().Sub(asked) { // it would be cut off, as if the model had failed
		<-t.free
		return nil, errNoTurn
	}
	return t.begin(ctx), nil
}

// queue joins those who wait; false: it would be in vain.
func (t *turns) queue(left time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	rounds := 1 + time.Duration(t.waiting/cap(t.free)) // until the turn; one more until the answer
	if (rounds+1)*t.took > left {
		return false
	}
	t.waiting++
	return true
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting--
}

func (t *turns) expects() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.took
}

// begin counts the time that a prompt is with the model, unless its caller leaves.
func (t *turns) begin(ctx context.Context) (done func()) {
	start := t.now()
	return func() {
		<-t.free
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		took := t.now().Sub(start)
		if t.took == 0 {
			t.took = took
		}
		t.took += (took - t.took) / 8
	}
}
