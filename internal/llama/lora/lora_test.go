package lora

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
)

const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

var manifest = Manifest{
	BaseDigest: digest, Readout: "letters", PromptVersion: 3, TokenizerDigest: strings.Repeat("0f", 32),
	Seed: math.MaxUint64, Steps: 120, Note: "likes of April",
}

// numbers returns n different numbers, some with many digits.
func numbers(n int, first float32) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = (first + float32(i)) / 7
	}
	return values
}

// sample is an adapter of rank 2 on layers of the model that sampleBase makes.
func sample() *Adapter {
	return &Adapter{Architecture: "llama", Rank: 2, Alpha: 3, Manifest: manifest, Pairs: []Pair{
		{Target: "blk.0.attn_q", In: 32, Out: 24, A: numbers(64, 1), B: numbers(48, -9)},
		{Target: "blk.0.attn_k", In: 32, Out: 12, A: numbers(64, 2), B: numbers(24, 3)},
		{Target: "blk.1.ffn_down", In: 64, Out: 32, A: numbers(128, 4), B: numbers(64, 5)},
		{Target: "output", In: 32, Out: 2100, A: numbers(64, 6), B: numbers(4200, 7)},
	}}
}

var heads = Heads{Query: 4, KV: 2, Architecture: "llama"}

// The file has what llama-adapter.cpp asks for, under the names and in the shapes that it expects.
func TestGGUFIsWhatLlamaCppExpects(t *testing.T) {
	a := sample()
	var file bytes.Buffer
	if err := WriteGGUF(&file, a); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for key, value := range f.Metadata.All() {
		got[key] = value
	}
	want := map[string]any{
		"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": float32(3),
		"r2rec.base_digest": digest, "r2rec.readout": "letters", "r2rec.prompt_version": int64(3),
		"r2rec.tokenizer_digest": strings.Repeat("0f", 32), "r2rec.seed": uint64(math.MaxUint64), "r2rec.steps": int64(120),
		"r2rec.note": "likes of April",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(f.Tensors()); n != 8 {
		t.Errorf("%d tensors", n)
	}
	for name, want := range map[string]struct {
		shape  []int
		values []float32
	}{
		"blk.1.ffn_down.weight.lora_a": {[]int{64, 2}, a.Pairs[2].A},
		"blk.1.ffn_down.weight.lora_b": {[]int{2, 32}, a.Pairs[2].B},
		"output.weight.lora_b":         {[]int{2, 2100}, a.Pairs[3].B},
	} {
		tensor, ok := f.Tensor(name)
		if !ok || tensor.Type != gguf.F32 || !cmp.Equal(tensor.Shape, want.shape) {
			t.Errorf("%s: %+v", name, tensor)
			continue
		}
		if values, err := tensor.Float32(nil); err != nil || !cmp.Equal(values, want.values) {
			t.Errorf("%s: other values, %v", name, err)
		}
	}
}

func TestGGUFRoundTrip(t *testing.T) {
	bare, grown, past := sample(), sample(), sample()
	bare.Manifest, grown.Manifest.Parent = Manifest{}, strings.Repeat("a1", 32)
	past.Manifest.LearnedEvents = event.Past{Before: 1436920119000, Digest: digest}
	for name, a := range map[string]*Adapter{"with manifest": sample(), "without": bare, "with a parent": grown, "of past events": past} {
		path := filepath.Join(t.TempDir(), "adapter.gguf")
		if err := Write(path, a); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// flaws are changes of a sound adapter that make it unsound.
var flaws = map[string]struct {
	make func(*Adapter)
	want string
}{
	"rank 0":         {func(a *Adapter) { a.Rank = 0 }, "rank 0"},
	"other rank":     {func(a *Adapter) { a.Rank = 4 }, `"blk.0.attn_q": in 32, out 24, rank 4: A has 64 and B has 48 values`},
	"alpha 0":        {func(a *Adapter) { a.Alpha = 0 }, "alpha 0"},
	"alpha NaN":      {func(a *Adapter) { a.Alpha = math.NaN() }, "alpha NaN"},
	"alpha too big":  {func(a *Adapter) { a.Alpha = 1e40 }, "alpha 1e+40"},
	"alpha too tiny": {func(a *Adapter) { a.Alpha = 1e-60 }, "alpha 1e-60"},
	"no pairs":       {func(a *Adapter) { a.Pairs = nil }, "changes no layer"},
	"twice":          {func(a *Adapter) { a.Pairs[1] = a.Pairs[0] }, `target "blk.0.attn_q" stands twice`},
	"norm":           {func(a *Adapter) { a.Pairs[0].Target = "blk.0.attn_norm" }, `target "blk.0.attn_norm" is no linear layer`},
	"embedding":      {func(a *Adapter) { a.Pairs[0].Target = "token_embd" }, `target "token_embd" is no linear layer`},
	"block 00":       {func(a *Adapter) { a.Pairs[0].Target = "blk.00.attn_q" }, `target "blk.00.attn_q" is no linear layer`},
	"weight":         {func(a *Adapter) { a.Pairs[0].Target = "blk.0.attn_q.weight" }, "is no linear layer"},
	"short A":        {func(a *Adapter) { a.Pairs[0].A = a.Pairs[0].A[1:] }, "A has 63"},
	"short B":        {func(a *Adapter) { a.Pairs[0].B = a.Pairs[0].B[1:] }, "B has 47"},
	"in 0":           {func(a *Adapter) { a.Pairs[0].In = 0 }, "in 0"},
	"NaN in A":       {func(a *Adapter) { a.Pairs[0].A[33] = float32(math.NaN()) }, `target "blk.0.attn_q": A[1][1] is NaN`},
	"infinite in B":  {func(a *Adapter) { a.Pairs[1].B[5] = float32(math.Inf(-1)) }, `target "blk.0.attn_k": B[2][1] is -Inf`},
	"base digest":    {func(a *Adapter) { a.Manifest.BaseDigest = strings.ToUpper(digest) }, "base_digest"},
	"tokenizer":      {func(a *Adapter) { a.Manifest.TokenizerDigest = "" }, "tokenizer_digest"},
	"readout":        {func(a *Adapter) { a.Manifest.Readout = "" }, "readout"},
	"prompt":         {func(a *Adapter) { a.Manifest.PromptVersion = -1 }, "prompt_version -1"},
	"steps":          {func(a *Adapter) { a.Manifest.Steps = -1 }, "steps -1"},
	"events before":  {func(a *Adapter) { a.Manifest.LearnedEvents = event.Past{Before: 5, Digest: digest} }, "manifest: learned_events: before is 5 ms"},
	"events digest":  {func(a *Adapter) { a.Manifest.LearnedEvents.Before = event.Earliest }, "manifest: learned_events: digest is"},
	"parent":         {func(a *Adapter) { a.Manifest.Parent = "the one before" }, "parent \"the one before\""},
}

func TestUnsoundAdaptersAreNotWritten(t *testing.T) {
	if err := sample().Check(); err != nil {
		t.Fatal(err)
	}
	for name, flaw := range flaws {
		t.Run(name, func(t *testing.T) {
			a := sample()
			flaw.make(a)
			for form, err := range map[string]error{
				"Check":     a.Check(),
				"GGUF":      WriteGGUF(new(bytes.Buffer), a),
				"GGUF file": Write(filepath.Join(t.TempDir(), "a"), a),
				"PEFT":      WritePEFT(filepath.Join(t.TempDir(), "a"), a, heads),
			} {
				if err == nil || !strings.Contains(err.Error(), flaw.want) {
					t.Errorf("%s: got %v, want %q", form, err, flaw.want)
				}
			}
		})
	}
}

// adapterFile writes any metadata and tensors, all of whose values are v.
func adapterFile(t *testing.T, change func(*gguf.Metadata), v float32, tensors ...gguf.Tensor) *gguf.File {
	t.Helper()
	m := new(gguf.Metadata)
	gguf.Set(m, keyType, "adapter")
	gguf.Set(m, keyArchitecture, "llama")
	gguf.Set(m, keyAdapterType, "lora")
	gguf.Set(m, keyAlpha, float32(16))
	if change != nil {
		change(m)
	}
	var file bytes.Buffer
	w, err := gguf.NewWriter(&file, m, tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range tensors {
		block, size := tensor.Type.Block()
		data := make([]byte, tensor.Len()/block*size)
		if tensor.Type == gguf.F16 {
			for i := 0; i < len(data); i += 2 {
				h := gguf.ToF16(v)
				data[i], data[i+1] = byte(h), byte(h>>8)
			}
		}
		if err := w.WriteBytes(tensor.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func matrices(target string, in, rank, out int) []gguf.Tensor {
	return []gguf.Tensor{
		{Name: target + ".weight.lora_a", Type: gguf.F16, Shape: []int{in, rank}},
		{Name: target + ".weight.lora_b", Type: gguf.F16, Shape: []int{rank, out}},
	}
}

func TestFromGGUFRefuses(t *testing.T) {
	good := matrices("blk.0.attn_q", 8, 2, 4)
	set := func(key, value string) func(*gguf.Metadata) {
		return func(m *gguf.Metadata) { gguf.Set(m, key, value) }
	}
	if a, err := FromGGUF(adapterFile(t, nil, 2, good...)); err != nil || a.Rank != 2 || a.Pairs[0].B[7] != 2 || a.Manifest != (Manifest{}) {
		t.Fatal(a, err)
	}
	for name, c := range map[string]struct {
		change  func(*gguf.Metadata)
		value   float32
		tensors []gguf.Tensor
		want    string
	}{
		"a model":        {set("general.type", "model"), 1, good, `"general.type" is "model": want "adapter"`},
		"control vector": {set("adapter.type", "control_vector"), 1, good, `want "lora"`},
		"mamba":          {set("general.architecture", "mamba"), 1, good, `"general.architecture" is "mamba": adapters are for "llama" and "qwen2"`},
		"no alpha":       {func(m *gguf.Metadata) { m.Delete(keyAlpha) }, 1, good, `"adapter.lora.alpha": missing`},
		"alpha 0":        {func(m *gguf.Metadata) { gguf.Set(m, keyAlpha, float32(0)) }, 1, good, "alpha 0"},
		"alpha as text":  {set("adapter.lora.alpha", "16"), 1, good, "is no floating-point number"},
		"activated":      {func(m *gguf.Metadata) { gguf.Set(m, keyActivated, []uint32{1}) }, 1, good, "alora"},
		"half a past": {func(m *gguf.Metadata) {
			manifest.set(m)
			gguf.Set(m, "r2rec.learned_events.before", int64(1436920119000))
		}, 1, good, `"r2rec.learned_events.digest": missing`},
		"half a manifest": {set("r2rec.base_digest", digest), 1, good, `"r2rec.readout": missing`},
		"no tensors":      {nil, 1, nil, "changes no layer"},
		"no B":            {nil, 1, good[:1], `target "blk.0.attn_q": has a lora_a but no lora_b`},
		"no A":            {nil, 1, good[1:], `target "blk.0.attn_q" has a lora_b but no lora_a`},
		"norm":            {nil, 1, append(good[:2:2], gguf.Tensor{Name: "blk.0.attn_norm.weight", Shape: []int{8}}), "is no part of a LoRA pair"},
		"transposed":      {nil, 1, []gguf.Tensor{good[0], {Name: good[1].Name, Shape: []int{4, 2}}}, "lora_a has shape [8 2], lora_b [4 2]"},
		"one dimension":   {nil, 1, []gguf.Tensor{good[0], {Name: good[1].Name, Shape: []int{2}}}, "lora_b [2]"},
		"mixed ranks":     {nil, 1, append(good[:2:2], matrices("blk.0.attn_v", 8, 3, 4)...), `"blk.0.attn_v" has rank 3, "blk.0.attn_q" has 2`},
		"unknown":         {nil, 1, matrices("blk.0.ssm_in", 8, 2, 4), `"blk.0.ssm_in" is no linear layer`},
		"NaN":             {nil, float32(math.NaN()), good, "A[0][0] is NaN"},
		"IQ2_XS": {nil, 1, []gguf.Tensor{{Name: good[0].Name, Type: 17, Shape: []int{256, 2}}, good[1]},
			"numbers of type IQ2_XS cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := FromGGUF(adapterFile(t, c.change, c.value, c.tensors...)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Read("lora.go"); err == nil || !strings.Contains(err.Error(), "lora.go") {
		t.Error(err)
	}
}

func TestManifestNamesTheFieldThatDiffers(t *testing.T) {
	server := manifest
	server.Seed, server.Steps, server.Note = 0, 0, ""
	if err := manifest.Check(server); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*Manifest){
		"base_digest":      func(m *Manifest) { m.BaseDigest = "other" },
		"tokenizer_digest": func(m *Manifest) { m.TokenizerDigest = "other" },
		"readout":          func(m *Manifest) { m.Readout = "lines" },
		"prompt_version":   func(m *Manifest) { m.PromptVersion = 4 },
	} {
		other := server
		change(&other)
		err := manifest.Check(other)
		mismatch, ok := err.(*MismatchError)
		if !ok || mismatch.Field != field || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (Manifest{}).Check(server); err == nil || !strings.Contains(err.Error(), "no manifest") {
		t.Error(err)
	}
}
