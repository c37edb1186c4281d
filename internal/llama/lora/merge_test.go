package lora

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/gguf"
)

// sampleBase is a model with the layers that sample changes, and others; weights gives the type of the linear layers.
func sampleBase(t *testing.T, weights gguf.Type, change func(*gguf.Metadata)) *gguf.File {
	t.Helper()
	m := new(gguf.Metadata)
	gguf.Set(m, "general.architecture", "llama")
	gguf.Set(m, "general.name", "Sample")
	gguf.Set(m, "general.file_type", map[gguf.Type]uint32{gguf.F32: 0, gguf.Q8_0: 7, gguf.F16: 1}[weights])
	gguf.Set(m, "general.alignment", uint32(64))
	gguf.Set(m, "llama.attention.head_count", uint32(4))
	gguf.Set(m, "llama.attention.head_count_kv", uint32(2))
	if change != nil {
		change(m)
	}
	tensors := []gguf.Tensor{
		{Name: "token_embd.weight", Type: weights, Shape: []int{32, 200}},
		{Name: "blk.0.attn_norm.weight", Type: gguf.F32, Shape: []int{32}},
		{Name: "blk.0.attn_q.weight", Type: weights, Shape: []int{32, 24}},
		{Name: "blk.0.attn_k.weight", Type: weights, Shape: []int{32, 12}},
		{Name: "blk.0.attn_v.weight", Type: weights, Shape: []int{32, 12}},
		{Name: "blk.1.ffn_down.weight", Type: weights, Shape: []int{64, 32}},
		{Name: "output.weight", Type: weights, Shape: []int{32, 2100}},
	}
	random := rand.New(rand.NewPCG(1, 2))
	var file bytes.Buffer
	w, err := gguf.NewWriter(&file, m, tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range tensors {
		values := make([]float32, tensor.Len())
		for i := range values {
			values[i] = float32(random.NormFloat64())
		}
		if err := w.WriteFloat32(tensor.Name, values); err != nil {
			t.Fatal(err)
		}
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Each changed weight is W + alpha/rank B A, rounded once; everything else keeps its bytes.
func TestMerge(t *testing.T) {
	for _, kind := range []gguf.Type{gguf.F32, gguf.Q8_0, gguf.F16} {
		base, a := sampleBase(t, kind, nil), sample()
		var file bytes.Buffer
		if err := Merge(base, a, &file); err != nil {
			t.Fatal(err)
		}
		merged, err := gguf.Parse(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		changed := map[string]Pair{}
		for _, p := range a.Pairs {
			changed[p.Target+".weight"] = p
		}
		var order []string
		for _, before := range base.Tensors() {
			after, _ := merged.Tensor(before.Name)
			p, isChanged := changed[before.Name]
			if !isChanged {
				if after.Type != before.Type || !cmp.Equal(after.Shape, before.Shape) || !bytes.Equal(after.Bytes(), before.Bytes()) {
					t.Errorf("%v: %s was not copied as it is", kind, before.Name)
				}
				continue
			}
			order = append(order, before.Name)
			if after.Type != gguf.F16 {
				t.Errorf("%s is %v", after.Name, after.Type)
			}
			checkMerged(t, before, after, p, a)
		}
		if len(order) != len(a.Pairs) {
			t.Error(order)
		}
		fileType, err := merged.Metadata.Uint("general.file_type")
		if err != nil || fileType != 1 {
			t.Errorf("%v: file type %d, %v", kind, fileType, err)
		}
	}
}

func checkMerged(t *testing.T, before, after gguf.Tensor, p Pair, a *Adapter) {
	t.Helper()
	w, err := before.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := after.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	for o := range p.Out {
		for i := range p.In {
			sum := 0.
			for k := range a.Rank {
				sum += float64(p.B[o*a.Rank+k]) * float64(p.A[k*p.In+i])
			}
			want := float64(w[o*p.In+i]) + 3./2*sum
			// Half of the last of F16's 11 bits, and a little for float32.
			if d := math.Abs(float64(got[o*p.In+i]) - want); d > math.Abs(want)*(0x1p-11+0x1p-18)+1e-4 {
				t.Fatalf("%s[%d][%d] is %v, want %v", p.Target, o, i, got[o*p.In+i], want)
			}
		}
	}
}

func TestMergedMetadata(t *testing.T) {
	base := sampleBase(t, gguf.Q8_0, func(m *gguf.Metadata) { gguf.Set(m, "r2rec.readout", "lines") })
	all := sample()
	all.Pairs = all.Pairs[:1]
	path := filepath.Join(t.TempDir(), "merged.gguf")
	if err := MergeFile(base, all, path); err != nil {
		t.Fatal(err)
	}
	merged, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	got := ""
	for key, value := range merged.Metadata.All() {
		got += fmt.Sprintln(key, value)
	}
	want := `general.architecture llama
general.name Sample (LoRA merged)
general.file_type 7
general.alignment 64
llama.attention.head_count 4
llama.attention.head_count_kv 2
r2rec.readout letters
r2rec.base_digest ` + digest + `
r2rec.prompt_version 3
r2rec.tokenizer_digest ` + strings.Repeat("0f", 32) + `
r2rec.seed 18446744073709551615
r2rec.steps 120
r2rec.note likes of April
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A model of which most is merged is an F16 model.
func TestFileTypeFollowsTheWeights(t *testing.T) {
	base := sampleBase(t, gguf.Q8_0, nil)
	tensors := base.Tensors()
	for i := range tensors {
		tensors[i].Type = gguf.F16
	}
	m, err := mergedMetadata(base, sample(), tensors)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Uint("general.file_type"); err != nil || got != 1 {
		t.Error(got, err)
	}
}

func TestAdapterThatDoesNotFit(t *testing.T) {
	otherArchitecture := func(m *gguf.Metadata) { gguf.Set(m, "general.architecture", "qwen2") }
	noArchitecture := func(m *gguf.Metadata) { m.Delete("general.architecture") }
	for name, c := range map[string]struct {
		base   func(*gguf.Metadata)
		change func(*Adapter)
		want   string
	}{
		"architecture": {otherArchitecture, func(*Adapter) {}, `architecture is "qwen2", and the adapter is for "llama"`},
		"none":         {noArchitecture, func(*Adapter) {}, `"general.architecture": missing`},
		"block":        {nil, func(a *Adapter) { a.Pairs[1].Target = "blk.7.attn_k" }, `the base model has no tensor "blk.7.attn_k.weight"`},
		"in and out": {nil, func(a *Adapter) { a.Pairs[1].In, a.Pairs[1].A = 8, numbers(16, 1) },
			`target "blk.0.attn_k": the adapter changes a layer of in 8, out 12, the base model has shape [32 12]`},
		"out":     {nil, func(a *Adapter) { a.Pairs[0].Target = "blk.0.attn_v" }, "in 32, out 24, the base model has shape [32 12]"},
		"unsound": {nil, func(a *Adapter) { a.Alpha = 0 }, "alpha 0"},
	} {
		t.Run(name, func(t *testing.T) {
			a, base := sample(), sampleBase(t, gguf.F16, c.base)
			c.change(a)
			path := filepath.Join(t.TempDir(), "merged")
			for _, err := range []error{a.Fits(base), MergeFile(base, a, path)} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Error("a file was left")
			}
		})
	}
	if err := sample().Fits(sampleBase(t, gguf.F16, nil)); err != nil {
		t.Error(err)
	}
}

// A change that F16 cannot hold is an error, not an infinite weight.
func TestMergeOverflow(t *testing.T) {
	a := sample()
	a.Pairs[2].B[9] = 1e9
	err := Merge(sampleBase(t, gguf.F32, nil), a, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), `"blk.1.ffn_down.weight"`) || !strings.Contains(err.Error(), "F16 cannot hold") {
		t.Error(err)
	}
}

func TestHeadsOf(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gguf.Metadata)
		want   string
	}{
		"both":       {nil, "{4 2 llama} <nil>"},
		"no kv":      {func(m *gguf.Metadata) { m.Delete("llama.attention.head_count_kv") }, "{4 4 llama} <nil>"},
		"none":       {func(m *gguf.Metadata) { m.Delete("llama.attention.head_count") }, `{0 0 } metadata key "llama.attention.head_count": missing`},
		"0":          {func(m *gguf.Metadata) { gguf.Set(m, "llama.attention.head_count", uint32(0)) }, "{0 0 } the model has 0 query and 2 key heads: want 1 to 65536 of each"},
		"each layer": {func(m *gguf.Metadata) { gguf.Set(m, "llama.attention.head_count_kv", []uint32{2, 2}) }, `{0 0 } metadata key "llama.attention.head_count_kv": []uint32 is no integer of 0 or more`},
	} {
		h, err := HeadsOf(sampleBase(t, gguf.F16, c.change))
		if got := fmt.Sprint(h, err); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// Adapters of qwen2 models say so, and have their rows where Hugging Face has them.
func TestAdaptersOfQwen2(t *testing.T) {
	a := sample()
	a.Architecture = "qwen2"
	var file bytes.Buffer
	if err := WriteGGUF(&file, a); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromGGUF(f)
	if diff := cmp.Diff(a, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	base := sampleBase(t, gguf.F16, func(m *gguf.Metadata) {
		gguf.Set(m, "general.architecture", "qwen2")
		gguf.Set(m, "qwen2.attention.head_count", uint32(4))
	})
	if err := a.Fits(base); err != nil {
		t.Error(err)
	}
	if err := sample().Fits(base); err == nil || !strings.Contains(err.Error(), `architecture is "qwen2", and the adapter is for "llama"`) {
		t.Error("an adapter of a llama model:", err)
	}
	heads, err := HeadsOf(base)
	if err != nil || heads != (Heads{4, 4, "qwen2"}) {
		t.Error(heads, err)
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := WritePEFT(dir, a, heads); err != nil {
		t.Fatal(err)
	}
	turned, err := ReadPEFT(dir, Heads{4, 2, "llama"})
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadPEFT(dir, heads)
	if err != nil {
		t.Fatal(err)
	}
	if back.Architecture != "qwen2" {
		t.Errorf("the adapter is for %q", back.Architecture)
	}
	for i, p := range a.Pairs {
		same := func(a *Adapter) bool {
			at := slices.IndexFunc(a.Pairs, func(q Pair) bool { return q.Target == p.Target })
			return cmp.Equal(a.Pairs[at].B, p.B)
		}
		if !same(back) || same(turned) != (i >= 2) { // the first two are q and k
			t.Errorf("%s: the rows are where they were: %v; taken for a llama model's: %v", p.Target, same(back), same(turned))
		}
	}
	a.Architecture = "mamba"
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), `architecture "mamba": adapters are for`) {
		t.Error(err)
	}
}
