package llama

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
)

// small is a model in which heads share keys, some dimensions do not turn, and texts span several blocks.
func small(t *testing.T, tied bool) *Model {
	t.Helper()
	m, err := New(Config{Vocabulary: 31, Dim: 24, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 8, FeedForward: 20, Context: 400, Epsilon: 1e-5, Tied: tied,
		Rope: Rope{Base: 1000, Dims: 6}}, .5, 7)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func text(n, vocabulary int, seed uint64) []int32 {
	r := rand.New(rand.NewPCG(seed, 1))
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(r.IntN(vocabulary))
	}
	return tokens
}

// loss is a smooth function of the logits, whose gradient is its weights times the logits.
func loss(t *testing.T, p *Pass, tokens []int32, want []int, ids []int32, g Gradients) float64 {
	t.Helper()
	if err := p.Forward(tokens, want); err != nil {
		t.Fatal(err)
	}
	z := p.Logits(ids)
	sum := 0.
	for i, v := range z.Data {
		w := math.Sin(float64(3*i + 1))
		sum += w * float64(v) * float64(v) / 2
		z.Data[i] = float32(w * float64(v))
	}
	if g != nil {
		p.Backward(z, ids, g)
	}
	return sum
}

// Gradients agree with differences along random directions of every parameter.
func checkGradients(t *testing.T, tr *Trainable, tokens []int32, want []int, ids []int32) {
	t.Helper()
	p, g := tr.NewPass(), tr.NewGradients()
	loss(t, p, tokens, want, ids, g)
	r := rand.New(rand.NewPCG(3, 4))
	for i, param := range tr.Parameters() {
		norm := 0.
		for _, v := range g[i] {
			norm += float64(v) * float64(v)
		}
		norm = math.Sqrt(norm)
		// Along the gradient, jittered, so that the slope is far above the rounding of float32.
		d := make([]float64, len(param.Value))
		length := 0.
		for j := range d {
			d[j] = float64(g[i][j]) + .3*norm/math.Sqrt(float64(len(d)))*r.NormFloat64()
			length += d[j] * d[j]
		}
		length = math.Sqrt(length)
		if norm == 0 {
			t.Errorf("%s: the gradient is zero", param.Name)
			continue
		}
		slope, size := 0., 0.
		for j := range d {
			d[j] /= length
			slope += d[j] * float64(g[i][j])
			size += float64(param.Value[j]) * float64(param.Value[j])
		}
		h := 3e-3 * max(math.Sqrt(size), .3)
		at := append([]float32(nil), param.Value...)
		move := func(h float64) float64 {
			for j := range d {
				param.Value[j] = at[j] + float32(h*d[j])
			}
			tr.Refresh()
			l := loss(t, p, tokens, want, ids, nil)
			copy(param.Value, at)
			tr.Refresh()
			return l
		}
		got := (8*(move(h/2)-move(-h/2)) - (move(h) - move(-h))) / (6 * h) // fourth order
		if math.Abs(got-slope) > 4e-3*math.Abs(slope) {
			t.Errorf("%s: slope %.6g by the gradient, %.6g by differences", param.Name, slope, got)
		}
	}
}

func TestGradientsAgreeWithDifferences(t *testing.T) {
	t.Run("all weights, tied", func(t *testing.T) {
		tr, err := small(t, true).TrainAll()
		if err != nil {
			t.Fatal(err)
		}
		checkGradients(t, tr, text(90, 31, 1), []int{3, 40, 41, 89}, []int32{4, 9})
	})
	t.Run("all weights, own output, whole vocabulary", func(t *testing.T) {
		tr, err := small(t, false).TrainAll()
		if err != nil {
			t.Fatal(err)
		}
		checkGradients(t, tr, text(70, 31, 2), []int{0, 64, 68}, nil)
	})
	t.Run("every position asked", func(t *testing.T) {
		tr, err := small(t, true).TrainAll()
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int, 30)
		for i := range want {
			want[i] = i
		}
		checkGradients(t, tr, text(30, 31, 5), want, nil)
	})
	for _, targets := range [][]string{
		{"blk.0.attn_q", "blk.0.attn_v", "blk.2.attn_q", "blk.2.attn_k", "blk.1.attn_output"},
		{"blk.1.ffn_gate", "blk.2.ffn_up", "blk.1.ffn_down"},
		{"blk.2.ffn_down"},
	} {
		t.Run("changes of "+targets[0], func(t *testing.T) {
			tr, err := small(t, true).TrainChanges(lowRank(t, small(t, true), 3, targets...))
			if err != nil {
				t.Fatal(err)
			}
			checkGradients(t, tr, text(90, 31, 1), []int{3, 40, 41, 89}, []int32{4, 9})
		})
	}
}

// lowRank are random changes of layers, none of them zero.
func lowRank(t *testing.T, m *Model, rank int, targets ...string) []LowRank {
	t.Helper()
	r := rand.New(rand.NewPCG(8, 9))
	var changes []LowRank
	for _, name := range targets {
		_, at := m.find(name)
		if at == nil {
			t.Fatalf("no layer %q", name)
		}
		c := LowRank{Target: name, Rank: rank, Scale: .7, A: make([]float32, rank*(*at).w.Cols), B: make([]float32, (*at).w.Rows*rank)}
		for _, x := range [][]float32{c.A, c.B} {
			for i := range x {
				x[i] = float32(.2 * r.NormFloat64())
			}
		}
		changes = append(changes, c)
	}
	return changes
}

// What a pass computes is what a session reads.
func TestAPassAgreesWithASession(t *testing.T) {
	m := small(t, true)
	tr, err := m.TrainChanges(lowRank(t, m, 2, "blk.0.attn_q", "blk.2.ffn_up"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, want := text(300, 31, 4), []int{0, 17, 255, 256, 299}
	p := tr.NewPass()
	if err := p.Forward(tokens, want); err != nil {
		t.Fatal(err)
	}
	z := p.Logits(nil)
	s, err := tr.NewSession(400, 1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Read(context.Background(), tokens, want...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		for j, v := range h.Logits(i) {
			if z.Row(i)[j] != v {
				t.Fatalf("logit %d after token %d is %v in a pass, %v in a session", j, want[i], z.Row(i)[j], v)
			}
		}
	}
}
