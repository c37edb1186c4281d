package reasoner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who cannot have an answer in time is sent away at once, whoever can waits, and a model that became slow is still asked by
// who finds it free.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tt := newTurns(2, time.Now)
		const took, limit = 2 * time.Second, 9 * time.Second
		begin := func() func() {
			t.Helper()
			done, err := tt.take(t.Context(), limit)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		done := begin()
		time.Sleep(took)
		done() // so long it takes
		for range 2 {
			done := begin()
			go func() { time.Sleep(took); done() }()
		}
		// Two at a time begin after 2, 4 and 6 s and are answered after 4, 6 and 8; the seventh would be after 10.
		results := make(chan error, 9)
		for range 9 {
			go func() {
				done, err := tt.take(t.Context(), limit)
				if err == nil {
					time.Sleep(took)
					done()
				}
				results <- err
			}()
			synctest.Wait()
		}
		refused := 0
		for len(results) > 0 {
			if err := <-results; !errors.Is(err, errNoTurn) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("without a turn the error is %v", err)
			}
			refused++
		}
		if refused != 3 {
			t.Errorf("%d of 9 were sent away at once, want 3: the others are answered within %v", refused, limit)
		}
		time.Sleep(limit)
		for range 9 - refused {
			if err := <-results; err != nil {
				t.Errorf("one who waited: %v", err)
			}
		}

		// The model became so slow that a waiter's answer would be cut off: it goes without, and does not begin one.
		done = begin()
		busy := begin()
		var err error
		go func() { _, err = tt.take(t.Context(), limit) }()
		synctest.Wait()
		time.Sleep(limit - took/2)
		done()
		synctest.Wait()
		if !errors.Is(err, errNoTurn) {
			t.Errorf("a turn came too late for an answer, and the error is %v", err)
		}
		time.Sleep(time.Hour)
		busy()
		for range 3 { // too slow for the limit, by all that is known: asked all the same
			done := begin()
			time.Sleep(limit)
			done()
		}

		ctx, cancel := context.WithCancel(t.Context())
		a, b := begin(), begin()
		tt.took = 0
		go func() { _, err = tt.take(ctx, limit) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		a()
		b()
		if !errors.Is(err, context.Canceled) || tt.waiting != 0 || len(tt.free) != 0 {
			t.Errorf("a caller who left: %v, %d wait, %d are with the model", err, tt.waiting, len(tt.free))
		}
	})
}
