package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/safetensors"
)

// What numpy makes of weights.reshape(heads, 2, rows/heads/2, 1).swapaxes(1, 2).reshape(rows, 1) for the rows 0, 1, 2 …,
// as llama.cpp's converter does.
func TestRowsInTheOrderOfLlamaCpp(t *testing.T) {
	for heads, want := range map[int][]float32{
		1: {0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11},
		2: {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11},
		3: {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11},
		6: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
		0: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
	} {
		for _, rank := range []int{1, 3} {
			hf, ours := make([]float32, 12*rank), make([]float32, 12*rank)
			for row := range 12 {
				for k := range rank {
					hf[row*rank+k] = float32(row) + float32(k)/10
					ours[row*rank+k] = want[row] + float32(k)/10
				}
			}
			got, err := reorder(hf, rank, heads, true)
			if diff := cmp.Diff(ours, got); err != nil || diff != "" {
				t.Errorf("%d heads: %v %s", heads, err, diff)
			}
			back, err := reorder(ours, rank, heads, false)
			if diff := cmp.Diff(hf, back); err != nil || diff != "" {
				t.Errorf("back, %d heads: %v %s", heads, err, diff)
			}
		}
	}
	for _, heads := range []int{-1, 4, 5, 12} {
		if _, err := reorder(make([]float32, 12), 1, heads, true); err == nil || !strings.Contains(err.Error(), "cannot be split") {
			t.Errorf("%d heads: %v", heads, err)
		}
	}
}

func TestPEFTRoundTrip(t *testing.T) {
	bare, past := sample(), sample()
	bare.Manifest, past.Manifest.LearnedEvents = Manifest{}, event.Past{Before: 1436920119000, Digest: digest}
	for name, a := range map[string]*Adapter{"with manifest": sample(), "without": bare, "of past events": past} {
		dir := filepath.Join(t.TempDir(), "adapter")
		if err := WritePEFT(dir, a, heads); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPEFT(dir, heads)
		if err != nil {
			t.Fatal(err)
		}
		byTarget := func(a, b Pair) int { return strings.Compare(a.Target, b.Target) }
		slices.SortFunc(a.Pairs, byTarget)
		slices.SortFunc(got.Pairs, byTarget)
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err := WritePEFT(dir, a, heads); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Error(err)
		}
		if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
			t.Error(entries, err)
		}
	}
}

// The folder has the files, names and shapes that PEFT saves itself.
func TestPEFTIsWhatPEFTExpects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := WritePEFT(dir, sample(), heads); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "peft_type": "LORA",
  "task_type": "CAUSAL_LM",
  "r": 2,
  "lora_alpha": 3,
  "target_modules": [
    "lm_head",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.mlp.down_proj"
  ],
  "lora_dropout": 0,
  "bias": "none",
  "inference_mode": true
}
`
	if diff := cmp.Diff(want, string(config)); diff != "" {
		t.Error(diff)
	}
	data, err := os.ReadFile(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	metadata, tensors, err := safetensors.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if metadata["format"] != "pt" {
		t.Error(metadata)
	}
	var got []string
	for _, x := range tensors {
		got = append(got, fmt.Sprint(x.Name, " ", x.Shape))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		"base_model.model.lm_head.lora_A.weight [2 32]", "base_model.model.lm_head.lora_B.weight [2100 2]",
		"base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight [2 32]", "base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight [12 2]",
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight [2 32]", "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight [24 2]",
		"base_model.model.model.layers.1.mlp.down_proj.lora_A.weight [2 64]", "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight [32 2]",
	}, got); diff != "" {
		t.Error(diff)
	}
	checkRows(t, tensors)
	var m map[string]any
	if data, err = os.ReadFile(filepath.Join(dir, "r2rec.json")); err != nil || json.Unmarshal(data, &m) != nil || m["base_digest"] != digest {
		t.Error(m, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != fs.FileMode(0o755) {
		t.Error("others cannot read the folder:", err)
	}
}

// checkRows looks at the rows of B: of each head of 6, those of q and k stand as 0, 2, 4, 1, 3, 5 in Hugging Face's order.
func checkRows(t *testing.T, tensors []safetensors.Tensor) {
	t.Helper()
	written := map[string][]float32{}
	for _, x := range tensors {
		written[x.Name] = x.Float32()
	}
	pairs := sample().Pairs
	for name, ours := range map[string][]float32{
		"model.layers.0.self_attn.q_proj": pairs[0].B, "model.layers.0.self_attn.k_proj": pairs[1].B,
	} {
		var want []float32
		for head := 0; head < len(ours); head += 6 * 2 {
			for _, row := range []int{0, 2, 4, 1, 3, 5} {
				want = append(want, ours[head+2*row:][:2]...)
			}
		}
		if diff := cmp.Diff(want, written[peftPrefix+name+peftB]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if diff := cmp.Diff(pairs[2].B, written[peftPrefix+"model.layers.1.mlp.down_proj"+peftB]); diff != "" {
		t.Error(diff)
	}
}

func TestEveryLayerHasBothNames(t *testing.T) {
	for ours, theirs := range map[string]string{
		"blk.0.attn_q": "model.layers.0.self_attn.q_proj", "blk.1.attn_k": "model.layers.1.self_attn.k_proj",
		"blk.20.attn_v": "model.layers.20.self_attn.v_proj", "blk.3.attn_output": "model.layers.3.self_attn.o_proj",
		"blk.4.ffn_gate": "model.layers.4.mlp.gate_proj", "blk.5.ffn_up": "model.layers.5.mlp.up_proj",
		"blk.6.ffn_down": "model.layers.6.mlp.down_proj", "output": "lm_head",
	} {
		a, err := parseTarget(ours)
		if err != nil || a.peft() != theirs {
			t.Errorf("%s: %s, %v", ours, a.peft(), err)
		}
		b, err := parsePEFT(theirs)
		if err != nil || b != a || b.String() != ours {
			t.Errorf("%s: %v, %v", theirs, b, err)
		}
	}
	for _, name := range []string{"", "model.embed_tokens", "model.layers.0.mlp", "model.layers.-1.mlp.up_proj", "model.layers.01.mlp.up_proj",
		"model.layers.999999.mlp.up_proj", "layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj.base_layer"} {
		if got, err := parsePEFT(name); err == nil {
			t.Errorf("%q became %v", name, got)
		}
	}
}

func TestReadPEFTRefuses(t *testing.T) {
	const q = "base_model.model.model.layers.0.self_attn.q_proj"
	f32 := func(name string, rows, columns int) safetensors.Tensor {
		x, err := safetensors.NewF32(name, []int{rows, columns}, numbers(rows*columns, 1))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	flat, err := safetensors.NewF32(q+peftB, []int{16}, numbers(16, 1))
	if err != nil {
		t.Fatal(err)
	}
	nan, err := safetensors.NewF32(q+peftB, []int{8, 2}, append(numbers(15, 1), float32(math.NaN())))
	if err != nil {
		t.Fatal(err)
	}
	goodA, goodB := f32(q+peftA, 2, 32), f32(q+peftB, 8, 2)
	good := []safetensors.Tensor{goodA, goodB}
	for name, c := range map[string]struct {
		setting, value string
		tensors        []safetensors.Tensor
		want           string
	}{
		"rslora":           {"use_rslora", "true", good, "adapter_config.json: use_rslora is true, which is not supported"},
		"dora":             {"use_dora", "true", good, "use_dora"},
		"bias":             {"bias", `"lora_only"`, good, `bias is "lora_only"`},
		"modules_to_save":  {"modules_to_save", `["lm_head"]`, good, "modules_to_save"},
		"rank_pattern":     {"rank_pattern", `{"q_proj":4}`, good, "rank_pattern"},
		"alpha_pattern":    {"alpha_pattern", `{"q_proj":4}`, good, "alpha_pattern"},
		"pissa":            {"init_lora_weights", `"pissa"`, good, "init_lora_weights"},
		"IA3":              {"peft_type", `"IA3"`, good, "peft_type"},
		"r as text":        {"r", `"2"`, good, `adapter_config.json: r is "2"`},
		"r of a fraction":  {"r", "2.5", good, "r is 2.5"},
		"r 0":              {"r", "0", good, "r is 0: want 1 or more"},
		"r 0, empty":       {"r", "0", []safetensors.Tensor{f32(q+peftA, 0, 32), f32(q+peftB, 8, 0)}, "r is 0: want 1 or more"},
		"no alpha":         {"lora_alpha", "", good, "lora_alpha is missing"},
		"alpha 0":          {"lora_alpha", "0", good, "alpha 0"},
		"no tensors":       {"", "", nil, "changes no layer"},
		"no B":             {"", "", good[:1], "has no .lora_B.weight beside it"},
		"no A":             {"", "", good[1:], "has no .lora_A.weight beside it"},
		"magnitude":        {"", "", append(good[:2:2], f32(q+".lora_magnitude_vector", 1, 8)), "is no LoRA matrix"},
		"prefix":           {"", "", []safetensors.Tensor{f32("x"+peftA, 2, 4), f32("x"+peftB, 4, 2)}, "does not begin with base_model.model."},
		"unknown":          {"", "", []safetensors.Tensor{f32(peftPrefix+"model.embed_tokens"+peftA, 2, 4), f32(peftPrefix+"model.embed_tokens"+peftB, 4, 2)}, `"model.embed_tokens" is no linear layer`},
		"other rank":       {"", "", []safetensors.Tensor{f32(q+peftA, 3, 32), f32(q+peftB, 8, 3)}, "A is [3 32] and B [8 3], where r is 2"},
		"transposed":       {"", "", []safetensors.Tensor{f32(q+peftA, 32, 2), goodB}, "A is [32 2]"},
		"flat":             {"", "", []safetensors.Tensor{goodA, flat}, "B 1 dimensions"},
		"not in heads":     {"", "", []safetensors.Tensor{goodA, f32(q+peftB, 12, 2)}, "12 rows cannot be split into 4 heads"},
		"NaN":              {"", "", []safetensors.Tensor{goodA, nan}, "is NaN"},
		"the smallest one": {"", "", good, ""},
	} {
		t.Run(name, func(t *testing.T) {
			settings := map[string]json.RawMessage{
				"peft_type": []byte(`"LORA"`), "r": []byte("2"), "lora_alpha": []byte("16"), "bias": []byte(`"none"`), "target_modules": []byte(`".*q_proj"`),
				"modules_to_save": []byte("null"), "rank_pattern": []byte("{}"), "use_dora": []byte("false"), "init_lora_weights": []byte("true"),
			}
			if c.setting != "" {
				settings[c.setting] = json.RawMessage(c.value)
			}
			if c.setting != "" && c.value == "" {
				delete(settings, c.setting)
			}
			config, err := json.Marshal(settings)
			if err != nil {
				t.Fatal(err)
			}
			var weights bytes.Buffer
			if err := safetensors.Write(&weights, nil, c.tensors); err != nil {
				t.Fatal(err)
			}
			_, err = ReadPEFT(folder(t, map[string]string{configFile: string(config), weightsFile: weights.String()}), heads)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestReadPEFTRefusesBrokenFiles(t *testing.T) {
	const config = `{"peft_type":"LORA","r":1,"lora_alpha":1}`
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no config":  {map[string]string{weightsFile: ""}, configFile},
		"no weights": {map[string]string{configFile: config}, weightsFile},
		"no JSON":    {map[string]string{configFile: "{", weightsFile: ""}, configFile + ": unexpected end"},
		"huge":       {map[string]string{configFile: strings.Repeat(" ", 1<<20) + config, weightsFile: ""}, configFile + ": more than 1048576 bytes"},
		"weights":    {map[string]string{configFile: config, weightsFile: "garbage"}, weightsFile + ": 7 bytes are too few"},
		"manifest":   {map[string]string{configFile: config, manifestFile: `{"seed":-1}`}, manifestFile},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadPEFT(folder(t, c.files), heads); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
