package llama

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
)

// A model with changes computes what the trainable computes, and the model it came from what it did before.
func TestChangesAddToAModel(t *testing.T) {
	m := small(t, true)
	f := saved(t, m, gguf.F32, nil)
	changes := lowRank(t, m, 3, "blk.0.attn_q", "blk.1.attn_v", "blk.1.attn_output", "blk.2.ffn_down", "blk.2.ffn_gate")
	for _, keep := range []bool{true, false} {
		from := load(t, f, keep)
		before, weights := logits(t, from), slices.Clone(from.layers[2].down.w.Data)
		with, err := from.WithChanges(changes)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := m.TrainChanges(changes)
		if err != nil {
			t.Fatal(err)
		}
		got, want := logits(t, with), logits(t, tr.Model)
		if d := away(got, want); d > 1e-5 {
			t.Errorf("kept %v: logits are up to %v from those of training", keep, d)
		}
		if d := away(got, before); d < .01 {
			t.Errorf("kept %v: the changes change logits by no more than %v", keep, d)
		}
		if away(logits(t, from), before) != 0 || away(logits(t, m), before) != 0 || !slices.Equal(from.layers[2].down.w.Data, weights) {
			t.Errorf("kept %v: the model itself has changed", keep)
		}
		if err := with.complete(); (err == nil) != keep {
			t.Errorf("kept %v: %v", keep, err)
		}
		if _, err := with.WithChanges(lowRank(t, m, 1, "blk.0.attn_k")); err != nil {
			t.Errorf("kept %v: another layer cannot be changed: %v", keep, err)
		}
		if _, err := with.WithChanges(lowRank(t, m, 1, "blk.2.ffn_down")); err == nil || !strings.Contains(err.Error(), `"blk.2.ffn_down" is changed already`) {
			t.Errorf("kept %v: a layer changed twice: %v", keep, err)
		}
	}
}

func TestChangesThatDoNotFit(t *testing.T) {
	m := small(t, true)
	for want, c := range map[string]LowRank{
		`no layer "blk.9.attn_q"`:                     {Target: "blk.9.attn_q", Rank: 1},
		`no layer "token_embd"`:                       {Target: "token_embd", Rank: 1},
		"has rank 0":                                  {Target: "blk.0.attn_q"},
		"has rank -1":                                 {Target: "blk.0.attn_q", Rank: -1},
		"23 numbers in A and 32 in B; must be 24":     {Target: "blk.0.attn_q", Rank: 1, A: make([]float32, 23), B: make([]float32, 32)},
		"24 numbers in A and 33 in B; must be 24 and": {Target: "blk.0.attn_q", Rank: 1, A: make([]float32, 24), B: make([]float32, 33)},
	} {
		if _, err := m.WithChanges([]LowRank{c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := m.TrainChanges([]LowRank{c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to train: %v, want %s", err, want)
		}
	}
	if _, err := m.TrainChanges(nil); err == nil {
		t.Error("nothing can be trained")
	}
	twice := lowRank(t, m, 1, "blk.0.attn_q", "blk.0.attn_q")
	if _, err := m.TrainChanges(twice); err == nil || !strings.Contains(err.Error(), "changed twice") {
		t.Errorf("to train twice: %v", err)
	}
	if _, err := m.WithChanges(twice); err == nil || !strings.Contains(err.Error(), "changed already") {
		t.Errorf("twice: %v", err)
	}
}

// Finite changes whose product or sum is beyond float32 make no model.
func TestChangesThatOverflow(t *testing.T) {
	m := small(t, true)
	for name, value := range map[string]float32{"infinite": 1e30, "NaN": -1e30} {
		changes := lowRank(t, m, 2, "blk.1.ffn_up")
		c := &changes[0]
		for i := range c.A {
			c.A[i] = 1e30
		}
		for i := range c.B {
			c.B[i] = 1e30
			if i%c.Rank == 1 {
				c.B[i] = value // the other one's opposite: infinite less infinite
			}
		}
		if _, err := m.WithChanges(changes); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "blk.1.ffn_up.weight") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// To train a model, or changes of it, marks nothing in it: both can begin again.
func TestTrainingBeginsWithAModelAsItIs(t *testing.T) {
	m := small(t, true)
	all, err := m.TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []*Model{m, all.Model} {
		tr, err := from.TrainChanges(lowRank(t, m, 2, "blk.1.ffn_up"))
		if err != nil {
			t.Fatal(err)
		}
		checkGradients(t, tr, text(20, m.Vocabulary, 1), []int{3, 19}, nil)
		if _, err := tr.TrainAll(); err == nil || !strings.Contains(err.Error(), "blk.1.ffn_up has a change") {
			t.Errorf("all weights of a model whose changes are trained: %v", err)
		}
	}
	again, err := m.TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	checkGradients(t, again, text(20, m.Vocabulary, 1), []int{3, 19}, nil)
}

func TestANewModelIsThatOfItsSeed(t *testing.T) {
	c := small(t, true).Config
	logitsOf := func(spread float64, seed uint64) []float32 {
		m, err := New(c, spread, seed)
		if err != nil {
			t.Fatal(err)
		}
		return logits(t, m)
	}
	if !slices.Equal(logitsOf(.5, 1), logitsOf(.5, 1)) {
		t.Error("one seed gives two models")
	}
	if slices.Equal(logitsOf(.5, 1), logitsOf(.5, 2)) || slices.Equal(logitsOf(.5, 1), logitsOf(.4, 1)) {
		t.Error("another seed or spread gives the same model")
	}
	for _, spread := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := New(c, spread, 1); err == nil || !strings.Contains(err.Error(), "spread of the embedding is") {
			t.Errorf("spread %v: %v", spread, err)
		}
	}
	c.Dim = 0
	if _, err := New(c, 1, 1); err == nil || !strings.Contains(err.Error(), "dim is 0") {
		t.Errorf("no width: %v", err)
	}
}

func TestShapes(t *testing.T) {
	for _, m := range []*Model{small(t, true), small(t, false), smallQwen2(t)} {
		n := 0
		for _, tensor := range saved(t, m, gguf.F32, nil).Tensors() {
			n += tensor.Len()
		}
		if got := m.Parameters(); got != n {
			t.Errorf("%d parameters, and the file has %d numbers", got, n)
		}
		for i, name := range m.Linears() {
			l := *m.layers[1].linears()[i]
			if out, in := m.LinearShape(name); l.name != "blk.1."+name || out != l.w.Rows || in != l.w.Cols {
				t.Errorf("linear layer %s is %d x %d; the model has %s, %d x %d", name, out, in, l.name, l.w.Rows, l.w.Cols)
			}
		}
	}
	if out, in := small(t, true).LinearShape("attn_norm"); out != 0 || in != 0 {
		t.Errorf("attn_norm is %d x %d, must be no linear layer", out, in)
	}
}

// held is the memory that a function leaves in use.
func held[T any](make func() T) int {
	in := func() int {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	before := in()
	x := make()
	after := in()
	runtime.KeepAlive(x)
	return after - before
}

func TestMemoryIsKnownBeforehand(t *testing.T) {
	m, err := New(Config{Vocabulary: 600, Dim: 64, Layers: 3, Heads: 8, KVHeads: 2, HeadDim: 16, FeedForward: 160, Context: 2000, Epsilon: 1e-5,
		Rope: Rope{Base: 10_000, Dims: 16}}, .1, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, got, want int) {
		t.Helper()
		if share := float64(got) / float64(want); share < .95 || share > 1.1 { // blocks of memory are a little larger than what is asked for
			t.Errorf("%s: %d bytes, %.3f of the %d predicted", name, got, share, want)
		}
	}
	for _, c := range []struct{ positions, threads int }{{100, 1}, {300, 2}, {2000, 1}, {2000, 20}} {
		check("a session", held(func() *Session {
			s := session(t, m, c.positions, c.threads)
			read(t, s, text(c.positions, m.Vocabulary, 1), c.positions-1)
			m.rope.table.Store(&[]float32{}) // the model's, not the session's
			return s
		}), m.SessionBytes(c.positions, c.threads))
	}
	f := saved(t, m, gguf.F16, nil)
	for _, keep := range []bool{false, true} {
		check("a model", held(func() *Model { return load(t, f, keep) }), m.LoadBytes(keep))
	}
}
