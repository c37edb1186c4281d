package llama

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
)

// saved is a model as a GGUF file in memory.
func saved(t testing.TB, m *Model, as gguf.Type, extra *gguf.Metadata) *gguf.File {
	t.Helper()
	var b bytes.Buffer
	if err := m.Save(&b, as, extra); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t testing.TB, f *gguf.File, keep bool) *Model {
	t.Helper()
	m, err := Load(f, keep)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// logits are all of a text, for a few positions.
func logits(t testing.TB, m *Model) []float32 {
	t.Helper()
	h, err := session(t, m, m.Context, 1).Read(context.Background(), text(70, m.Vocabulary, 1), 0, 3, 69)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(h.Logits(0), h.Logits(1), h.Logits(2))
}

// away is the largest difference.
func away(a, b []float32) float64 {
	most := 0.
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

func stretched(t testing.TB) *Model {
	t.Helper()
	m, err := New(Config{Vocabulary: 40, Dim: 32, Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 32, FeedForward: 32, Context: 100, Epsilon: 1e-6, Tied: true,
		Rope: Rope{Base: 500_000, Dims: 32, Scale: 4, Factors: []float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8}}}, .5, 7)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAModelIsWhatItWasBeforeItWasSaved(t *testing.T) {
	for name, m := range map[string]*Model{"tied": small(t, true), "own output": small(t, false), "stretched positions": stretched(t), "qwen2": smallQwen2(t)} {
		want := logits(t, m)
		for _, keep := range []bool{false, true} {
			for as, most := range map[gguf.Type]float64{gguf.F32: 0, gguf.F16: .02, gguf.BF16: .15} {
				got := load(t, saved(t, m, as, nil), keep)
				if fmt.Sprint(got.Config) != fmt.Sprint(m.Config) {
					t.Errorf("%s as %v: the shape is %+v, was %+v", name, as, got.Config, m.Config)
				}
				if d := away(logits(t, got), want); d > most || (d == 0) != (most == 0) {
					t.Errorf("%s as %v, kept %v: logits differ by up to %v, want at most %v", name, as, keep, d, most)
				}
			}
		}
	}
}

func TestAFileKeepsWhatItIsGiven(t *testing.T) {
	extra := new(gguf.Metadata)
	gguf.Set(extra, "general.name", "small")
	f := saved(t, small(t, true), gguf.F16, extra)
	if name, err := f.Metadata.String("general.name"); name != "small" || err != nil {
		t.Errorf("general.name is %q, %v", name, err)
	}
	if extra.Len() != 1 {
		t.Errorf("the caller's metadata have %d keys now, had 1", extra.Len())
	}
	for _, tensor := range f.Tensors() {
		want := gguf.F16
		if strings.Contains(tensor.Name, "norm") {
			want = gguf.F32
		}
		if tensor.Type != want {
			t.Errorf("%s is %v, want %v", tensor.Name, tensor.Type, want)
		}
	}
}

func TestWhatCannotBeSaved(t *testing.T) {
	m := small(t, true)
	read := load(t, saved(t, m, gguf.F32, nil), false)
	if err := read.Save(new(bytes.Buffer), gguf.F32, nil); err == nil || !strings.Contains(err.Error(), "blk.0.attn_q was loaded for reading only") {
		t.Errorf("without weights: %v", err)
	}
	if _, err := read.TrainAll(); err == nil {
		t.Error("a model without weights can be trained")
	}
	if err := m.Save(new(bytes.Buffer), gguf.Q4_0, nil); err == nil || !strings.Contains(err.Error(), "Q4_0") {
		t.Errorf("as Q4_0: %v", err)
	}
	tr, err := m.TrainChanges(lowRank(t, m, 2, "blk.1.attn_q"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Save(new(bytes.Buffer), gguf.F32, nil); err == nil || !strings.Contains(err.Error(), "blk.1.attn_q has a change") {
		t.Errorf("with a change: %v", err)
	}
	m.layers[1].up.w.Data[3] = float32(math.Inf(1))
	if err := m.Save(new(bytes.Buffer), gguf.F32, nil); err == nil || !strings.Contains(err.Error(), "blk.1.ffn_up.weight") {
		t.Errorf("an infinite weight: %v", err)
	}
}

// draft is a file that can still be changed.
type draft struct {
	meta    *gguf.Metadata
	tensors []gguf.Tensor
	values  map[string][]float32
}

func (d *draft) add(name string, values []float32, shape ...int) {
	d.tensors = append(d.tensors, gguf.Tensor{Name: name, Type: gguf.F32, Shape: shape})
	d.values[name] = values
}

func (d *draft) at(name string) int {
	return slices.IndexFunc(d.tensors, func(t gguf.Tensor) bool { return t.Name == name })
}

func (d *draft) remove(name string) { d.tensors = slices.Delete(d.tensors, d.at(name), d.at(name)+1) }

func (d *draft) file(t testing.TB) *gguf.File {
	t.Helper()
	var b bytes.Buffer
	w, err := gguf.NewWriter(&b, d.meta, d.tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range d.tensors {
		values := d.values[tensor.Name]
		raw := make([]byte, 0, 4*len(values)) // as they are, NaN included
		for _, v := range values {
			u := math.Float32bits(v)
			raw = append(raw, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
		if err := w.WriteBytes(tensor.Name, raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func drafted(t testing.TB, m *Model) *draft {
	t.Helper()
	f := saved(t, m, gguf.F32, nil)
	d := &draft{meta: f.Metadata.Clone(), values: map[string][]float32{}}
	for _, tensor := range f.Tensors() {
		values, err := tensor.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		d.add(tensor.Name, values, tensor.Shape...)
	}
	return d
}

func set[V gguf.Value](key string, value V) func(*draft) {
	return func(d *draft) { gguf.Set(d.meta, key, value) }
}

func without(key string) func(*draft) { return func(d *draft) { d.meta.Delete(key) } }

func TestFilesThatAreNoModel(t *testing.T) {
	m := small(t, false)
	if _, err := Load(drafted(t, m).file(t), true); err != nil {
		t.Fatal(err)
	}
	reshaped := func(name string, shape ...int) func(*draft) {
		return func(d *draft) { d.tensors[d.at(name)].Shape = shape }
	}
	value := func(name string, v float32) func(*draft) { return func(d *draft) { d.values[name][2] = v } }
	for name, c := range map[string]struct {
		change func(*draft)
		want   string
	}{
		"no architecture":      {without("general.architecture"), `"general.architecture": missing`},
		"another architecture": {set("general.architecture", "gpt2"), `general.architecture is "gpt2"`},
		"architecture no text": {set("general.architecture", uint32(1)), "general.architecture"},
		"no width":             {without("llama.embedding_length"), `"llama.embedding_length": missing`},
		"no layers":            {without("llama.block_count"), `"llama.block_count": missing`},
		"no heads":             {without("llama.attention.head_count"), `"llama.attention.head_count": missing`},
		"no units":             {without("llama.feed_forward_length"), `"llama.feed_forward_length": missing`},
		"no context":           {without("llama.context_length"), `"llama.context_length": missing`},
		"no epsilon":           {without("llama.attention.layer_norm_rms_epsilon"), `"llama.attention.layer_norm_rms_epsilon": missing`},
		"width 0":              {set("llama.embedding_length", uint32(0)), "llama.embedding_length is 0, must be positive"},
		"no layer":             {set("llama.block_count", uint32(0)), "llama.block_count is 0"},
		"heads 0":              {set("llama.attention.head_count", uint32(0)), "llama.attention.head_count is 0"},
		"key heads 0":          {set("llama.attention.head_count_kv", uint32(0)), "llama.attention.head_count_kv is 0"},
		"head width 0":         {set("llama.attention.key_length", uint32(0)), "llama.attention.key_length is 0"},
		"rotated 0":            {set("llama.rope.dimension_count", uint32(0)), "llama.rope.dimension_count is 0"},
		"width negative":       {set("llama.embedding_length", int32(-24)), "llama.embedding_length"},
		"width a text":         {set("llama.embedding_length", "24"), "llama.embedding_length"},
		"width huge":           {set("llama.embedding_length", uint64(1<<63)), "llama.embedding_length is 9223372036854775808"},
		"layers many":          {set("llama.block_count", uint32(1<<20)), "layers is 1048576, must be 1 to 1024"},
		"layers more":          {set("llama.block_count", uint32(4)), "no tensor blk.3.attn_norm.weight"},
		"layers fewer":         {set("llama.block_count", uint32(2)), "tensors that are not computed here: blk.2."},
		"units many":           {set("llama.feed_forward_length", uint32(1<<20)), "tensor blk.0.ffn_gate.weight has the shape [24 20], must be [24 1048576]"},
		"context huge":         {set("llama.context_length", uint32(1<<31)), "context is 2147483648"},
		"heads apart":          {set("llama.attention.head_count_kv", uint32(3)), "4 heads cannot share 3"},
		"heads per layer":      {set("llama.attention.head_count", []uint32{4, 4, 2}), "llama.attention.head_count"},
		"values narrower":      {set("llama.attention.value_length", uint32(4)), "llama.attention.value_length is 4 and key_length 8"},
		"epsilon 0":            {set("llama.attention.layer_norm_rms_epsilon", float32(0)), "epsilon of the normalisation is 0"},
		"epsilon NaN":          {set("llama.attention.layer_norm_rms_epsilon", float32(math.NaN())), "epsilon of the normalisation is NaN"},
		"base negative":        {set("llama.rope.freq_base", float32(-1)), "base of the rotary positions is -1"},
		"base infinite":        {set("llama.rope.freq_base", math.Inf(1)), "base of the rotary positions is +Inf"},
		"rotated too many":     {set("llama.rope.dimension_count", uint32(10)), "turn 10 dimensions of a head's 8"},
		"rotated odd":          {set("llama.rope.dimension_count", uint32(5)), "turn 5 dimensions"},
		"yarn":                 {set("llama.rope.scaling.type", "yarn"), `llama.rope.scaling.type is "yarn"`},
		"scale negative":       {set("llama.rope.scaling.factor", float32(-2)), "scale of the rotary positions is -2"},
		"experts":              {set("llama.expert_count", uint32(8)), "llama.expert_count is 8"},
		"experts as text":      {set("llama.expert_count", "many"), "llama.expert_count"},

		"no embedding":     {func(d *draft) { d.remove("token_embd.weight") }, "no tensor token_embd.weight"},
		"no normalisation": {func(d *draft) { d.remove("output_norm.weight") }, "no tensor output_norm.weight"},
		"no layer's norm":  {func(d *draft) { d.remove("blk.1.ffn_norm.weight") }, "no tensor blk.1.ffn_norm.weight"},
		"no layer's keys":  {func(d *draft) { d.remove("blk.2.attn_k.weight") }, "no tensor blk.2.attn_k.weight"},
		"a bias":           {func(d *draft) { d.add("blk.0.attn_q.bias", make([]float32, 32), 32) }, "not computed here: blk.0.attn_q.bias"},
		"an expert":        {func(d *draft) { d.add("blk.0.ffn_gate_exps.weight", make([]float32, 4), 4) }, "blk.0.ffn_gate_exps.weight"},
		"turned":           {reshaped("blk.0.attn_k.weight", 16, 24), "tensor blk.0.attn_k.weight has the shape [16 24], must be [24 16]"},
		"flat":             {reshaped("blk.0.attn_k.weight", 384), "tensor blk.0.attn_k.weight has the shape [384]"},
		"output turned":    {reshaped("output.weight", 31, 24), "tensor output.weight has the shape [31 24], must be [24 31]"},
		"embedding turned": {reshaped("token_embd.weight", 31, 24), "tensor token_embd.weight has the shape [31 24]"},
		"norm as a column": {reshaped("output_norm.weight", 1, 24), "tensor output_norm.weight has the shape [1 24]"},
		"factors":          {func(d *draft) { d.add("rope_freqs.weight", []float32{1, 1}, 2) }, "2 factors of the rotary positions for 3 pairs"},
		"factor 0":         {func(d *draft) { d.add("rope_freqs.weight", []float32{1, 0, 1}, 3) }, "factor of the rotary positions is 0"},
		"factor NaN":       {func(d *draft) { d.add("rope_freqs.weight", []float32{1, 1, float32(math.NaN())}, 3) }, "factor of the rotary positions is NaN"},
		"weight NaN":       {value("blk.1.ffn_up.weight", float32(math.NaN())), "tensor blk.1.ffn_up.weight: value 2 is NaN"},
		"weight infinite":  {value("blk.1.attn_norm.weight", float32(math.Inf(-1))), "tensor blk.1.attn_norm.weight: value 2 is -Inf"},
		"embedding NaN":    {value("token_embd.weight", float32(math.NaN())), "tensor token_embd.weight: value 2 is NaN"},
	} {
		d := drafted(t, m)
		c.change(d)
		for _, keep := range []bool{false, true} {
			_, err := Load(d.file(t), keep)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "load model: ") {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			if numbers := strings.Contains(c.want, "value 2 is"); numbers != errors.Is(err, ErrNotFinite) {
				t.Errorf("%s: %v must wrap ErrNotFinite: %v", name, err, numbers)
			}
		}
	}
}

// What llama.cpp takes for granted where a file does not say it.
func TestDefaultsOfFiles(t *testing.T) {
	m, err := New(Config{Vocabulary: 31, Dim: 24, Layers: 1, Heads: 3, KVHeads: 3, HeadDim: 8, FeedForward: 20, Context: 100, Epsilon: 1e-5, Tied: true,
		Rope: Rope{Base: 10_000, Dims: 8}}, .5, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := logits(t, m)
	d := drafted(t, m)
	for _, key := range []string{"attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base", "vocab_size"} {
		if !d.meta.Has("llama." + key) {
			t.Fatalf("no key llama.%s", key)
		}
		d.meta.Delete("llama." + key)
	}
	if away(logits(t, load(t, d.file(t), false)), want) != 0 {
		t.Error("the defaults give other logits")
	}
	stretched := func(change func(*draft)) []float32 {
		d := drafted(t, m)
		change(d)
		return logits(t, load(t, d.file(t), false))
	}
	linear := stretched(func(d *draft) {
		gguf.Set(d.meta, "llama.rope.scaling.type", "linear")
		gguf.Set(d.meta, "llama.rope.scaling.factor", float32(4))
	})
	if away(linear, want) == 0 {
		t.Error("linear scaling changes nothing")
	}
	for name, change := range map[string]func(*draft){
		"without a type": set("llama.rope.scaling.factor", float32(4)), "by the old key": set("llama.rope.scale_linear", float32(4)),
	} {
		if away(stretched(change), linear) != 0 {
			t.Errorf("a factor %s is not that of linear scaling", name)
		}
	}
	none := stretched(func(d *draft) {
		gguf.Set(d.meta, "llama.rope.scaling.type", "none")
		gguf.Set(d.meta, "llama.rope.scaling.factor", float32(4))
	})
	if away(none, want) != 0 {
		t.Error("a factor without scaling changes logits")
	}
}

// Whatever a file holds, it is refused, or is a model that reads.
func FuzzLoad(f *testing.F) {
	m, err := New(Config{Vocabulary: 2, Dim: 2, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 2, FeedForward: 1, Context: 8, Epsilon: 1e-5,
		Rope: Rope{Base: 10_000, Dims: 2}}, .5, 7)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := m.Save(&b, gguf.F32, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse(data)
		if err != nil {
			return
		}
		m, err := Load(file, false)
		if err != nil {
			return
		}
		for _, err := range session(t, m, min(3, m.Context), 2).Generate(t.Context(), []int32{0}, GenerateOptions{}) {
			if err != nil && !errors.Is(err, ErrNotFinite) {
				t.Error(err)
			}
		}
	})
}
