package llama

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestCrewDoesEachPieceOnce(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 3, 8} {
		t.Run(fmt.Sprint(threads, " threads"), func(t *testing.T) {
			c := newCrew(threads)
			once := func(n, grain int) {
				t.Helper()
				for name, cut := range map[string]func(int, int, func(int, int, int)){"spread": c.spread, "share": c.share} {
					done, pieces := make([]atomic.Int32, n), atomic.Int32{}
					cut(n, grain, func(worker, lo, hi int) {
						if worker < 0 || worker >= c.threads {
							t.Errorf("worker %d of %d", worker, c.threads)
						}
						if hi-lo < min(n, grain) {
							t.Errorf("%s: a run of %d of %d, want %d", name, hi-lo, n, grain)
						}
						pieces.Add(1)
						for i := lo; i < hi; i++ {
							done[i].Add(1)
						}
					})
					for i := range done {
						if n := done[i].Load(); n != 1 {
							t.Fatalf("%s: %d of %d was done %d times", name, i, len(done), n)
						}
					}
					if most := int32(c.threads); name == "spread" && pieces.Load() > most {
						t.Errorf("spread cut %d pieces for %d threads", pieces.Load(), most)
					}
				}
			}
			all := func() {
				for n := range 40 {
					for _, grain := range []int{1, 3, 50} {
						once(n, grain)
					}
				}
			}
			all() // each in a shift of its own
			end := c.shift()
			all()
			endInner := c.shift()
			all()
			endInner()
			for int(c.sleeping.Load()) < c.threads-1 { // helpers that find nothing fall asleep
				runtime.Gosched()
			}
			all()
			end()
		})
	}
	var nobody *crew
	nobody.share(5, 1, func(worker, lo, hi int) {
		if worker != 0 || lo != 0 || hi != 5 {
			t.Errorf("worker %d does %d to %d, want all by the caller", worker, lo, hi)
		}
	})
	nobody.shift()()
}

// TestCrewDoesNotWaitForLateHelpers: a helper that does not come leaves its pieces to the others.
func TestCrewDoesNotWaitForLateHelpers(t *testing.T) {
	c := newCrew(2)
	w := &work{f: func(int, int, int) {}, n: 10, pieces: 10}
	c.depth++ // a shift whose helper never came
	c.work.Store(w)
	ended := make(chan bool)
	go func() {
		c.share(100, 1, func(worker, _, _ int) {
			if worker != 0 {
				t.Errorf("worker %d, who is not there", worker)
			}
		})
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the caller waits for a helper that took nothing")
	}
}

func TestCrewGoesHome(t *testing.T) {
	before := runtime.NumGoroutine()
	c := newCrew(4)
	for range 50 {
		c.share(100, 1, func(int, int, int) {})
		end := c.shift()
		c.share(100, 1, func(int, int, int) {})
		end()
	}
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() { // one that is done may yet have to end
		if time.Since(began) > time.Minute {
			t.Fatalf("%d goroutines, and %d before", runtime.NumGoroutine(), before)
		}
	}
}
