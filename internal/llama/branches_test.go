package llama

import (
	"errors"
	"math"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// waysOn are continuations of several lengths, some longer than a block of attention.
func waysOn(vocabulary int) [][]int32 {
	var out [][]int32
	for i, n := range []int{7, 1, 70, 0, 12} {
		out = append(out, text(n, vocabulary, uint64(40+i)))
	}
	return out
}

// Hidden states and gradients of a text with continuations are those of each read by itself.
func TestBranchesAreReadAsIfAlone(t *testing.T) {
	m := small(t, false)
	tr, err := m.TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	prompt, ways := text(90, 31, 5), waysOn(31)
	// Asked for: the logits after the text's last token, and after every token of the continuations but some.
	want, each := []int{len(prompt) - 1}, make([][]int, len(ways))
	at := len(prompt)
	for i, way := range ways {
		for j := range way {
			if j%3 != 1 {
				want = append(want, at+j)
				each[i] = append(each[i], len(prompt)+j)
			}
		}
		at += len(way)
	}
	together, g := tr.NewPass(), tr.NewGradients()
	if err := together.ForwardBranches(prompt, ways, want); err != nil {
		t.Fatal(err)
	}
	z := together.Logits(nil)
	first := z.Slice(0, 1)
	alone, sum := tr.NewPass(), tr.NewGradients()
	row, dFirst := 1, make([]float32, z.Cols)
	var gradients kernel.Matrix = kernel.View(make([]float32, len(z.Data)), z.Rows, z.Cols)
	for i, way := range ways {
		if err := alone.Forward(append(append([]int32{}, prompt...), way...), append([]int{len(prompt) - 1}, each[i]...)); err != nil {
			t.Fatal(err)
		}
		y := alone.Logits(nil)
		for r := range y.Rows {
			got := first.Row(0)
			if r > 0 {
				got = z.Row(row + r - 1)
			}
			for k, v := range y.Row(r) {
				if math.Abs(float64(got[k]-v)) > 1e-4*(1+math.Abs(float64(v))) {
					t.Fatalf("continuation %d, row %d: logit %d is %v, alone %v", i, r, k, got[k], v)
				}
				d := float32(math.Sin(float64(i+3*r+k))) * v // of a smooth loss
				y.Row(r)[k] = d
				if r == 0 {
					dFirst[k] += d
				} else {
					gradients.Row(row + r - 1)[k] = d
				}
			}
		}
		row += y.Rows - 1
		alone.Backward(y, nil, sum)
	}
	copy(gradients.Row(0), dFirst)
	together.Backward(gradients, nil, g)
	for i, param := range tr.Parameters() {
		diff, norm := 0., 0.
		for j, v := range sum[i] {
			diff += math.Pow(float64(g[i][j]-v), 2)
			norm += math.Pow(float64(v), 2)
		}
		if norm == 0 || math.Sqrt(diff/norm) > 1e-4 {
			t.Errorf("gradient of %s: %v of its norm away from the sum of those alone", param.Name, math.Sqrt(diff/norm))
		}
	}
}

// A pass that has read branches reads a text as if it had not.
func TestAPassAfterBranches(t *testing.T) {
	tr, err := small(t, true).TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	fresh, used := tr.NewPass(), tr.NewPass()
	if err := used.ForwardBranches(text(20, 31, 1), waysOn(31), []int{19, 30}); err != nil {
		t.Fatal(err)
	}
	tokens := text(60, 31, 2)
	if a, b := loss(t, fresh, tokens, []int{3, 59}, nil, nil), loss(t, used, tokens, []int{3, 59}, nil, nil); a != b {
		t.Errorf("loss %v, before %v", b, a)
	}
}

func TestBranchesThatCannotBeRead(t *testing.T) {
	m := small(t, true)
	tr, err := m.TrainAll()
	if err != nil {
		t.Fatal(err)
	}
	p := tr.NewPass()
	if err := p.ForwardBranches(nil, waysOn(31), []int{0}); err == nil {
		t.Error("an empty text goes on")
	}
	if err := p.ForwardBranches(text(390, 31, 1), waysOn(31), []int{0}); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long a continuation: %v", err)
	}
	if err := p.ForwardBranches(text(200, 31, 1), [][]int32{text(150, 31, 2), text(150, 31, 3)}, []int{499}); err != nil {
		t.Errorf("together longer than the context: %v", err)
	}
	if err := p.ForwardBranches(text(20, 31, 1), [][]int32{{31}}, []int{0}); err == nil {
		t.Error("a token that is none is read")
	}
}
