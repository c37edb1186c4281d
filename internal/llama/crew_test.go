package llama

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCrewDoesEachPieceOnce(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 3, 8} {
		t.Run(fmt.Sprint(threads, " threads"), func(t *testing.T) {
			c := newCrew(threads)
			busy := make([]atomic.Bool, c.threads) // a worker's scratch is its own
			once := func(n, grain int) {
				t.Helper()
				for name, cut := range map[string]func(int, int, func(int, int, int)){"spread": c.spread, "share": c.share} {
					done, pieces := make([]atomic.Int32, n), atomic.Int32{}
					cut(n, grain, func(worker, lo, hi int) {
						if worker < 0 || worker >= c.threads {
							t.Errorf("worker %d of %d", worker, c.threads)
						}
						if !busy[worker].CompareAndSwap(false, true) {
							t.Errorf("worker %d does two pieces at once", worker)
						}
						defer busy[worker].Store(false)
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
	within(t, "the caller for a helper that took nothing", func() {
		c.share(100, 1, func(worker, _, _ int) {
			if worker != 0 {
				t.Errorf("worker %d, who is not there", worker)
			}
		})
	})
}

// within fails where f takes a minute, by something that does not come.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); f() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("waits for ever: " + what)
	}
}

// TestCrewWakesACallerThatSleeps: helpers do their part, and one that takes long tells the caller when it is done.
func TestCrewWakesACallerThatSleeps(t *testing.T) {
	c := newCrew(2)
	within(t, "the caller for its helper", func() {
		defer c.shift()()
		for range 200 {
			var both sync.WaitGroup
			both.Add(2)
			c.spread(2, 1, func(worker, _, _ int) {
				both.Done()
				both.Wait() // neither takes both pieces
				for w := c.work.Load(); worker == 1 && !w.awaited.Load(); {
					runtime.Gosched()
				}
			})
			if w := c.work.Load(); int(w.done.Load()) != w.pieces || w.awaited.Load() || len(c.ended) != 0 {
				t.Errorf("%d of %d pieces done, awaited %v, %d left to tell", w.done.Load(), w.pieces, w.awaited.Load(), len(c.ended))
				return
			}
		}
	})
}

// TestCrewDoesNotSleepWhenAllIsDone: the last piece may be done between the last look and falling asleep.
func TestCrewDoesNotSleepWhenAllIsDone(t *testing.T) {
	c, w := newCrew(2), &work{pieces: 1}
	w.done.Store(1)
	within(t, "the caller for work that is done", func() { c.sleepUntilDone(w) })
	if w.awaited.Load() {
		t.Error("a helper would still tell that it is done")
	}
}

// TestNoBitDependsOnThreads where the vocabulary is large enough to be shared out.
func TestNoBitDependsOnThreads(t *testing.T) {
	m, err := New(Config{Vocabulary: 9001, Dim: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8, FeedForward: 16, Context: 100, Epsilon: 1e-5, Tied: true,
		Rope: Rope{Base: 1000, Dims: 8}}, .5, 3)
	if err != nil {
		t.Fatal(err)
	}
	begin := text(20, m.Vocabulary, 1)
	type outcome struct {
		ids  []int32
		logs []float64
	}
	run := func(threads int) (o outcome) {
		s := session(t, m, 100, threads)
		for tok, err := range s.Generate(t.Context(), begin, GenerateOptions{Most: 20, Temperature: 1, Seed: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			o.ids, o.logs = append(o.ids, tok.ID), append(o.logs, tok.LogProb)
		}
		h, err := s.Read(t.Context(), begin, 3, 7, 19)
		if err != nil {
			t.Fatal(err)
		}
		logs, err := h.LogProbs([]int32{5, 4500, 9000})
		if err != nil {
			t.Fatal(err)
		}
		o.logs = append(o.logs, logs...)
		return o
	}
	want := run(1)
	for threads := 2; threads <= 5; threads++ {
		if got := run(threads); !slices.Equal(got.ids, want.ids) || !slices.Equal(got.logs, want.logs) {
			t.Errorf("%d threads: %v, and one thread %v", threads, got, want)
		}
	}
	for _, n := range []int{1, 4095, 4096, 4097, 13000} {
		z, sum := make([]float32, n), 0.
		for i := range z {
			z[i] = float32(i%23) / 4
			sum += math.Exp(float64(z[i]))
		}
		if got, err := logSumExp(z, nil); err != nil || math.Abs(got-math.Log(sum)) > 1e-9 {
			t.Errorf("%d logits: %v, %v, want %v", n, got, err, math.Log(sum))
		}
	}
	z := make([]float32, 3*4096+7)
	for _, bad := range []int{2, 5000, len(z) - 1} {
		z[bad] = float32(math.NaN())
	}
	c := newCrew(4)
	defer c.shift()()
	for range 50 {
		if _, err := logSumExp(z, c); err == nil || !strings.Contains(err.Error(), "logit of token 2 is NaN") {
			t.Fatalf("%v, want the first token that is wrong", err)
		}
	}
}

// TestCrewEndsAShiftWhenAllHaveLeft: one that comes late would work under the number of a helper of the next.
func TestCrewEndsAShiftWhenAllHaveLeft(t *testing.T) {
	c := newCrew(2)
	end := c.shift()
	c.helpers.Add(1) // one that has not left
	var ended atomic.Bool
	within(t, "the caller for helpers that have left", func() {
		var ending sync.WaitGroup
		ending.Go(func() { end(); ended.Store(true) })
		for range 1000 {
			runtime.Gosched()
		}
		if ended.Load() {
			t.Error("the shift ends before a helper has left")
		}
		c.helpers.Done()
		ending.Wait()
	})
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
