package llama_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// oracle is what PyTorch computed in float32 from the same file.
type oracle struct {
	Texts []struct {
		Text   string       `json:"text"`
		Tokens []int32      `json:"tokens"`
		Next   [][2]float64 `json:"next_top20"` // token and log-probability after the text
		Own    []float64    `json:"token_logprobs"`
	} `json:"texts"`
	LoRA struct {
		Rank  int                       `json:"r"`
		Alpha float64                   `json:"alpha"`
		Text  int                       `json:"text"`
		Last  int                       `json:"loss_on_last"`
		Loss  float64                   `json:"loss"`
		Grads map[string]oracleMatrices `json:"grads"` // by layer and Hugging Face's name, as "0.q_proj"
		AdamW struct {
			Rate    float64    `json:"lr"`
			Betas   [2]float64 `json:"betas"`
			Epsilon float64    `json:"eps"`
			Decay   float64    `json:"weight_decay"`
		} `json:"adamw"`
		After float64 `json:"loss_after_one_step"`
	} `json:"lora"`
}

// oracleMatrices are the gradients of A and B: their norms, and the first numbers of A's first row and B's first column.
type oracleMatrices struct {
	NormA float64   `json:"a_norm"`
	NormB float64   `json:"b_norm"`
	RowA  []float64 `json:"a_row0"`
	ColB  []float64 `json:"b_col0"`
}

// What PyTorch says of SmolLM2: log-probabilities, the gradients of an adapter, and the loss after a step along them.
func TestSmolLM2AgreesWithPyTorch(t *testing.T) {
	var want oracle
	data, err := os.ReadFile("testdata/smollm2-135m-q4_1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	file := open(t, embeddedtest.RealModel(t))
	model, err := llama.Load(file, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("log-probabilities", func(t *testing.T) { want.checkLogProbabilities(t, model) })
	t.Run("adapter", func(t *testing.T) { want.checkAdapter(t, file, model) })
}

func open(t testing.TB, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (o oracle) checkLogProbabilities(t *testing.T, m *llama.Model) {
	session, err := m.NewSession(64, 2)
	if err != nil {
		t.Fatal(err)
	}
	const most = 2e-3
	var off worst
	for _, text := range o.Texts {
		everywhere := make([]int, len(text.Tokens))
		for i := range everywhere {
			everywhere[i] = i
		}
		hidden, err := session.Read(t.Context(), text.Tokens, everywhere...)
		if err != nil {
			t.Fatal(err)
		}
		for i, lp := range text.Own {
			got := logSoftmax(hidden.Logits(i))[text.Tokens[i+1]]
			if !off.within(got-lp, most) {
				t.Errorf("%q: token %d has the log-probability %.5f, want %.5f", text.Text, i+1, got, lp)
			}
		}
		next := logSoftmax(hidden.Logits(len(text.Tokens) - 1))
		for _, top := range text.Next {
			if got := next[int(top[0])]; !off.within(got-top[1], most) {
				t.Errorf("%q: token %v as the next has the log-probability %.5f, want %.5f", text.Text, top[0], got, top[1])
			}
		}
	}
	t.Logf("log-probabilities: %v", &off)
}

// checkAdapter goes through PEFT's files, so that these are held against PyTorch as well.
func (o oracle) checkAdapter(t *testing.T, file *gguf.File, m *llama.Model) {
	heads, err := lora.HeadsOf(file)
	if err != nil {
		t.Fatal(err)
	}
	adapter := reordered(t, o.adapter(m.Config), lora.Heads{}, heads)
	trainable, err := m.TrainChanges(changes(adapter))
	if err != nil {
		t.Fatal(err)
	}
	e := o.example()
	const most = 1e-3

	pass, grads := trainable.NewPass(), trainable.NewGradients()
	if err := pass.Forward(e.Tokens, e.Want); err != nil {
		t.Fatal(err)
	}
	logits := pass.Logits(nil)
	loss, err := e.Loss(logits)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(loss/o.LoRA.Loss-1) > most {
		t.Errorf("the loss is %.6f, want %.6f", loss, o.LoRA.Loss)
	}
	pass.Backward(logits, nil, grads)
	o.checkGradients(t, reordered(t, asAdapter(trainable, adapter, grads), heads, lora.Heads{}), most)

	by := o.LoRA.AdamW
	trainer, err := learn.New(trainable, learn.Options{
		Optimiser: learn.AdamW{Rate: by.Rate, Beta1: by.Betas[0], Beta2: by.Betas[1], Epsilon: by.Epsilon, Decay: by.Decay},
		Clip:      -1, Workers: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trainer.Step(t.Context(), []learn.Example{e}); err != nil {
		t.Fatal(err)
	}
	after, err := trainer.Loss(e)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(after/o.LoRA.After-1) > most {
		t.Errorf("the loss after one step is %.6f, want %.6f", after, o.LoRA.After)
	}
	t.Logf("the loss is %.6f and after one step %.6f, PyTorch's %.6f and %.6f", loss, after, o.LoRA.Loss, o.LoRA.After)
}

// adapter is the one that the file describes, its rows in Hugging Face's order.
func (o oracle) adapter(c llama.Config) *lora.Adapter {
	a := &lora.Adapter{Rank: o.LoRA.Rank, Alpha: o.LoRA.Alpha}
	for layer := range c.Layers {
		for p, target := range []lora.Pair{{Target: "attn_q", In: c.Dim, Out: c.Queries()}, {Target: "attn_v", In: c.Dim, Out: c.KV()}} {
			pair := lora.Pair{Target: fmt.Sprintf("blk.%d.%s", layer, target.Target), In: target.In, Out: target.Out}
			phase := float64(layer + p)
			for i := range a.Rank {
				for j := range pair.In {
					pair.A = append(pair.A, float32(.02*math.Sin(.37*float64(i)+.11*float64(j)+phase)))
				}
			}
			for i := range pair.Out {
				for j := range a.Rank {
					pair.B = append(pair.B, float32(.02*math.Cos(.23*float64(i)+.19*float64(j)+phase)))
				}
			}
			a.Pairs = append(a.Pairs, pair)
		}
	}
	return a
}

// example asks for the last tokens of the text that the adapter learns.
func (o oracle) example() learn.Example {
	tokens := o.Texts[o.LoRA.Text].Tokens
	e := learn.Example{Tokens: tokens}
	for i := len(tokens) - o.LoRA.Last; i < len(tokens); i++ {
		e.Want = append(e.Want, i-1)
	}
	e.Loss = learn.NextToken(tokens[len(tokens)-o.LoRA.Last:])
	return e
}

func (o oracle) checkGradients(t *testing.T, got *lora.Adapter, most float64) {
	names := map[string]string{"attn_q": "q_proj", "attn_v": "v_proj"}
	var off worst
	seen := 0
	for _, p := range got.Pairs {
		var layer int
		var name string
		if _, err := fmt.Sscanf(p.Target, "blk.%d.%s", &layer, &name); err != nil {
			t.Fatal(err)
		}
		want, ok := o.LoRA.Grads[fmt.Sprintf("%d.%s", layer, names[name])]
		if !ok {
			continue
		}
		seen++
		colB := make([]float32, p.Out)
		for i := range colB {
			colB[i] = p.B[i*got.Rank]
		}
		if a, b := norm(p.A)/want.NormA-1, norm(p.B)/want.NormB-1; !off.within(a, most) || !off.within(b, most) {
			t.Errorf("%s: the norms of the gradients are %.6g and %.6g, want %.6g and %.6g", p.Target, norm(p.A), norm(p.B), want.NormA, want.NormB)
		}
		if a, b := distance(p.A, want.RowA), distance(colB, want.ColB); !off.within(a, most) || !off.within(b, most) {
			t.Errorf("%s: the first row of A's gradient and the first column of B's are off by %.2g and %.2g of their norms:\n%v, want %v\n%v, want %v",
				p.Target, a, b, p.A[:len(want.RowA)], want.RowA, colB[:len(want.ColB)], want.ColB)
		}
	}
	if seen != len(o.LoRA.Grads) {
		t.Errorf("%d of the %d layers were found", seen, len(o.LoRA.Grads))
	}
	t.Logf("gradients, relative: %v", &off)
}

// reordered writes an adapter as PEFT does for a model with these heads, and reads it for one with others. Without heads
// the rows stay where they are.
func reordered(t *testing.T, a *lora.Adapter, write, read lora.Heads) *lora.Adapter {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := lora.WritePEFT(dir, a, write); err != nil {
		t.Fatal(err)
	}
	a, err := lora.ReadPEFT(dir, read)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// changes are an adapter's pairs as a model takes them; they share their numbers.
func changes(a *lora.Adapter) []llama.LowRank {
	var out []llama.LowRank
	for _, p := range a.Pairs {
		out = append(out, llama.LowRank{Target: p.Target, Rank: a.Rank, Scale: a.Scale(), A: p.A, B: p.B})
	}
	return out
}

// asAdapter puts gradients in the place of the numbers of an adapter's matrices.
func asAdapter(t *llama.Trainable, a *lora.Adapter, g llama.Gradients) *lora.Adapter {
	byName := map[string][]float32{}
	for i, p := range t.Parameters() {
		byName[p.Name] = g[i]
	}
	out := &lora.Adapter{Rank: a.Rank, Alpha: a.Alpha}
	for _, p := range a.Pairs {
		p.A, p.B = byName[p.Target+".weight.lora_a"], byName[p.Target+".weight.lora_b"]
		out.Pairs = append(out.Pairs, p)
	}
	return out
}

// worst keeps the largest and the mean of some differences.
type worst struct {
	n, beyond int // in all, and those that were too large
	most, sum float64
}

func (w *worst) within(difference, most float64) bool {
	d := math.Abs(difference)
	w.n++
	w.sum += d
	w.most = max(w.most, d)
	if d <= most {
		return true
	}
	w.beyond++
	return false
}

func (w *worst) mean() float64 { return w.sum / float64(w.n) }

func (w *worst) String() string {
	return fmt.Sprintf("%d differences of at most %.2g, %.2g in the mean, %d too large", w.n, w.most, w.mean(), w.beyond)
}

func logSoftmax(logits []float32) []float64 {
	top, sum := math.Inf(-1), 0.
	for _, z := range logits {
		top = max(top, float64(z))
	}
	for _, z := range logits {
		sum += math.Exp(float64(z) - top)
	}
	out := make([]float64, len(logits))
	for i, z := range logits {
		out[i] = float64(z) - top - math.Log(sum)
	}
	return out
}

func norm(x []float32) float64 {
	sum := 0.
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// distance from the first numbers of x to want, in units of want's norm.
func distance(x []float32, want []float64) float64 {
	sum, size := 0., 0.
	for i, v := range want {
		sum += (float64(x[i]) - v) * (float64(x[i]) - v)
		size += v * v
	}
	return math.Sqrt(sum / size)
}
