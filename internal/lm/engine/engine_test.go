package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/llama/token"
)

func digest(t *testing.T, data []byte, err error) string {
	t.Helper()
	must(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	return digest(t, data, err)
}

// Who answers is named by the digests of the very files.
func TestIdentity(t *testing.T) {
	model := toyModel(t, toyOptions(t, 1))
	adapter := toyAdapter(t, model)
	for _, tc := range []struct {
		o    Options
		want event.Model
	}{
		{Options{}, event.Model{Name: BaseName, Digest: digest(t, base, nil), Readout: "lines", PromptVersion: iot.FullFigures}},
		{Options{Path: model}, event.Model{Name: "toy", Digest: fileDigest(t, model), Readout: "lines", PromptVersion: iot.FullFigures}},
		{Options{Path: model, Adapter: adapter}, event.Model{Name: "toy", Digest: fileDigest(t, model), Adapter: fileDigest(t, adapter), Readout: "lines", PromptVersion: iot.FullFigures}},
		{Options{Path: model, Readout: Lines, PromptVersion: iot.FullFigures}, event.Model{Name: "toy", Digest: fileDigest(t, model), Readout: "lines", PromptVersion: iot.FullFigures}},
	} {
		got, err := open1(t, tc.o).Identity(t.Context())
		if err != nil || got != tc.want {
			t.Errorf("%+v: %+v, %v; want %+v", tc.o, got, err, tc.want)
		}
	}
}

// silent is a model file that does not say how it wants to be read.
func silent(t *testing.T, model string) string {
	return rewritten(t, model, func(m *gguf.Metadata) {
		m.Delete(lora.KeyReadout)
		m.Delete(lora.KeyPromptVersion)
	}, nil)
}

// A model that does not say how it is read is read as the options say, or else as its adapter was learned.
func TestReadoutOfAModelThatDoesNotSay(t *testing.T) {
	model := silent(t, toyModel(t, toyOptions(t, 1)))
	lettered := open1(t, Options{Path: model, Readout: Letters, PromptVersion: iot.FullFigures, Trainable: true})
	l, err := lettered.NewAdapter(AdapterOptions{})
	must(t, err)
	adapter := writeFile(t, "letters.gguf", l.Write)
	for _, tc := range []struct {
		o       Options
		readout Readout
		prompt  int
	}{
		{Options{}, Lines, iot.Words},
		{Options{Readout: Letters}, Letters, iot.Words},
		{Options{PromptVersion: iot.FullFigures}, Lines, iot.FullFigures},
		{Options{Adapter: adapter}, Letters, iot.FullFigures},
		{Options{Adapter: adapter, Readout: Letters, PromptVersion: iot.FullFigures}, Letters, iot.FullFigures},
	} {
		tc.o.Path = model
		m := open1(t, tc.o)
		if m.identity.Readout != string(tc.readout) || m.identity.PromptVersion != tc.prompt || m.reader.readout != tc.readout {
			t.Errorf("%+v is read by %s, prompt %d; want %s, %d", tc.o, m.identity.Readout, m.identity.PromptVersion, tc.readout, tc.prompt)
		}
	}
	for want, o := range map[string]Options{
		"the adapter is for readout letters, the server has lines":                      {Path: model, Adapter: adapter, Readout: Lines},
		"the adapter is for prompt_version 4, the server has 1":                         {Path: model, Adapter: adapter, PromptVersion: iot.Words},
		"prompts have version 1 (words), 2 (figures), 3 (thoughts) or 4 (full figures)": {Path: model, PromptVersion: 9},
		`readout "aloud": must be lines, verdicts, letters or pointwise`:                {Path: model, Readout: "aloud"},
	} {
		wantRefused(t, o, want)
	}
}

func wantRefused(t *testing.T, o Options, want ...string) {
	t.Helper()
	m, err := Open(o)
	if err == nil {
		t.Errorf("%+v was opened, want an error that says %q", o, want)
		must(t, m.Close())
		return
	}
	for _, w := range append(want, o.Path) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%+v: %v; want %q", o, err, w)
		}
	}
}

func TestOpenRefusesModels(t *testing.T) {
	good := toyModel(t, toyOptions(t, 1))
	text := filepath.Join(t.TempDir(), "text.gguf")
	must(t, os.WriteFile(text, []byte("this is no model, whatever its name says"), 0o600))
	missing := filepath.Join(t.TempDir(), "missing.gguf")
	if _, err := Open(Options{Path: missing}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	whole, err := os.ReadFile(good)
	must(t, err)
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	must(t, os.WriteFile(cut, whole[:len(whole)-100], 0o600))
	set := func(key string, value uint32) string {
		return rewritten(t, good, func(m *gguf.Metadata) { gguf.Set(m, key, value) }, nil)
	}
	read := func(as string) string {
		return rewritten(t, good, func(m *gguf.Metadata) { gguf.Set(m, lora.KeyReadout, as) }, nil)
	}
	oneMore := rewritten(t, good, func(m *gguf.Metadata) { // a token, and no embedding of it
		v, err := token.ReadVocabulary(m)
		must(t, err)
		v.Tokens, v.Types = append(v.Tokens, "<|one more|>"), append(v.Types, token.Control)
		v.SetMetadata(m)
	}, nil)
	o := toyOptions(t, 1)
	o.Tokens, o.Readout = toyVocabulary(t, " yes", " no"), Letters
	speechless := rewritten(t, toyModel(t, o), func(m *gguf.Metadata) { gguf.Set(m, lora.KeyReadout, string(Lines)) }, nil)
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{Path: missing}, "no such file"},
		{Options{Path: text}, "GGUF"},
		{Options{Path: cut}, ""},
		{Options{Path: t.TempDir()}, "not a regular file"},
		{Options{Path: toyAdapter(t, good)}, "it is an adapter: name the model that it belongs to"},
		{Options{Path: speechless}, `readout lines: the vocabulary has no token " yes"`},
		{Options{Path: read("aloud")}, `readout "aloud": must be lines, verdicts, letters or pointwise`},
		{Options{Path: set(lora.KeyPromptVersion, 5)}, "prompt of version 5"},
		{Options{Path: rewritten(t, good, func(m *gguf.Metadata) { m.Delete(lora.KeyPromptVersion) }, nil)}, lora.KeyPromptVersion},
		{Options{Path: set("llama.block_count", 3)}, "blk.2."},
		{Options{Path: oneMore}, "token_embd.weight has the rows of "},
		{Options{Path: good, Readout: Letters}, "the model was taught the readout lines and prompts of version 4; letters and 1 are asked for"},
		{Options{Path: good, PromptVersion: iot.Words}, "the model was taught the readout lines and prompts of version 4"},
		{Options{Path: rewritten(t, good, nil, func(name string, values []float32) {
			if name == "output_norm.weight" {
				values[1] = float32(math.NaN())
			}
		})}, "output_norm.weight"},
	} {
		wantRefused(t, tc.o, tc.want)
	}
}

func TestOpenRefusesAdapters(t *testing.T) {
	model := toyModel(t, toyOptions(t, 1))
	adapter := toyAdapter(t, model)
	changed := func(change func(*lora.Adapter)) string {
		a, err := lora.Read(adapter)
		must(t, err)
		change(a)
		path := filepath.Join(t.TempDir(), "changed.gguf")
		must(t, lora.Write(path, a))
		return path
	}
	other := toyModel(t, toyOptions(t, 2))
	some := strings.Repeat("ab", 32)
	for _, tc := range []struct{ path, want string }{
		{filepath.Join(t.TempDir(), "missing.gguf"), "no such file"},
		{model, "general.type"}, // a model
		{toyAdapter(t, other), "it does not belong to this model: the adapter is for base_digest " + fileDigest(t, other)},
		{changed(func(a *lora.Adapter) { a.Manifest.BaseDigest = some }), "base_digest " + some},
		{changed(func(a *lora.Adapter) { a.Manifest.Readout = "letters" }), "readout letters, the server has lines"},
		{changed(func(a *lora.Adapter) { a.Manifest.PromptVersion = iot.Words }), "prompt_version 1, the server has 4"},
		{changed(func(a *lora.Adapter) { a.Manifest.TokenizerDigest = some }), "tokenizer_digest " + some},
		{changed(func(a *lora.Adapter) { a.Manifest = lora.Manifest{} }), "the adapter has no manifest"},
		{changed(func(a *lora.Adapter) { a.Pairs[0].Target = "blk.7.attn_q" }), `target "blk.7.attn_q": the base model has no tensor`},
		{changed(func(a *lora.Adapter) { a.Pairs[0].In *= 2; a.Pairs[0].A = slices.Concat(a.Pairs[0].A, a.Pairs[0].A) }), `target "blk.0.attn_q"`},
		{rewritten(t, adapter, nil, func(name string, values []float32) {
			if name == "blk.0.attn_q.weight.lora_a" {
				values[3] = float32(math.NaN())
			}
		}), `target "blk.0.attn_q": A[0][3] is NaN`},
	} {
		wantRefused(t, Options{Path: model, Adapter: tc.path}, tc.want, tc.path)
	}
	open1(t, Options{Path: model, Adapter: changed(func(a *lora.Adapter) { a.Manifest.Note, a.Manifest.Steps, a.Manifest.Seed = "", 0, 9 })}) // how it was made is for people
}

// What is refused is let go: no file stays mapped.
func TestOpenLeavesNothingBehind(t *testing.T) {
	model := toyModel(t, toyOptions(t, 1))
	adapter := toyAdapter(t, toyModel(t, toyOptions(t, 2)))
	wantRefused(t, Options{Path: model, Adapter: adapter}, "base_digest")
	wantRefused(t, Options{Path: adapter}, "adapter")
	m, err := Open(Options{Path: model})
	must(t, err)
	must(t, m.Close())
	if runtime.GOOS != "linux" {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	for _, path := range []string{model, adapter} {
		if strings.Contains(string(maps), path) {
			t.Errorf("%s is still mapped", path)
		}
	}
}
