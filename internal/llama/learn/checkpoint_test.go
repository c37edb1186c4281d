package learn_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

// options of every run here; skipped steps are counted on over a checkpoint.
func options() learn.Options {
	return learn.Options{Optimiser: learn.AdamW{Rate: 5e-3, Decay: .05}, Schedule: learn.Trapezoid(12, 3, .5, .1), Workers: 2, Run: "digits, seed 1"}
}

// save writes a checkpoint and returns its bytes.
func save(t testing.TB, tr *learn.Trainer, path string) []byte {
	t.Helper()
	if err := tr.Save(path); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestACheckpointGoesOnBitForBit(t *testing.T) {
	examples := lessons(1, 40, 4)
	bad := []learn.Example{poisoned(examples[0], 1, float32(math.NaN()))}
	for name, what := range ways {
		path := filepath.Join(t.TempDir(), "checkpoint")
		whole := what(t)
		tr := trainer(t, whole, options())
		run(t, tr, examples, 4)
		if _, err := tr.Step(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
		middle := save(t, tr, path)
		run(t, tr, examples, 12)
		end := save(t, tr, filepath.Join(t.TempDir(), "end"))

		rest := what(t)
		tr = trainer(t, rest, options())
		run(t, tr, examples, 2) // what was learned before is forgotten
		if err := tr.Resume(path); err != nil {
			t.Fatal(err)
		}
		if tr.Steps() != 5 || tr.Skipped() != 1 {
			t.Errorf("%s: %d of %d steps skipped, want 1 of 5", name, tr.Skipped(), tr.Steps())
		}
		if again := save(t, tr, filepath.Join(t.TempDir(), "again")); !bytes.Equal(again, middle) {
			t.Errorf("%s: what was resumed is saved in other bytes", name)
		}
		run(t, tr, examples, 12)
		if values(rest) != values(whole) {
			t.Errorf("%s: the parameters differ from those of a run without a break", name)
		}
		if !bytes.Equal(save(t, tr, path), end) {
			t.Errorf("%s: the checkpoint differs from that of a run without a break", name)
		}
	}
}

// A run that was about to end is not given more rope by a checkpoint.
func TestSkippedStepsInARowAreCountedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	bad := []learn.Example{poisoned(lessons(1, 1, 4)[0], 1, float32(math.NaN()))}
	tr := trainer(t, all(t), options())
	for range 4 {
		if _, err := tr.Step(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
	}
	save(t, tr, path)
	tr = trainer(t, all(t), options())
	if err := tr.Resume(path); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Step(t.Context(), bad); !errors.Is(err, learn.ErrDiverged) {
		t.Errorf("the fifth bad step in a row: %v", err)
	}
}

// refused tells whether a trainer refuses a file with an error, and is as it was.
func refused(t *testing.T, name string, tr *learn.Trainer, what *llama.Trainable, path, want string) {
	t.Helper()
	before := values(what)
	steps := tr.Steps()
	err := tr.Resume(path)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "learn: resume from checkpoint "+path) {
		t.Errorf("%s: %v, want %s", name, err, want)
	}
	var unusable interface{ Unusable() bool }
	if unread := want == "" || want == "directory"; errors.As(err, &unusable) == unread {
		t.Errorf("%s: %v is told as unusable: %t", name, err, unread)
	}
	if values(what) != before || tr.Steps() != steps {
		t.Errorf("%s: the trainer has changed", name)
	}
}

func TestCheckpointsOfOtherRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	tr := trainer(t, all(t), options())
	run(t, tr, lessons(1, 16, 4), 2)
	save(t, tr, path)
	for name, c := range map[string]struct {
		change func(*learn.Options)
		want   string
	}{
		"other examples": {func(o *learn.Options) { o.Run = "digits, seed 2" }, `it belongs to the run "digits, seed 1", this one is "digits, seed 2"`},
		"rate":           {func(o *learn.Options) { o.Optimiser.Rate = 1 }, "learn.rate was 0.005, and is 1 in this run"},
		"beta1":          {func(o *learn.Options) { o.Optimiser.Beta1 = .5 }, "learn.beta1 was 0.9, and is 0.5"},
		"beta2":          {func(o *learn.Options) { o.Optimiser.Beta2 = .5 }, "learn.beta2 was 0.98, and is 0.5"},
		"epsilon":        {func(o *learn.Options) { o.Optimiser.Epsilon = .5 }, "learn.epsilon was 1e-08, and is 0.5"},
		"decay":          {func(o *learn.Options) { o.Optimiser.Decay = 0 }, "learn.decay was 0.05, and is 0"},
		"clip":           {func(o *learn.Options) { o.Clip = -1 }, "learn.clip was 1, and is -1"},
		"workers":        {func(o *learn.Options) { o.Workers = 3 }, "learn.workers was 2, and is 3"},
		"more steps":     {func(o *learn.Options) { o.Schedule = learn.Trapezoid(13, 3, .5, .1) }, "learn.schedule: its rate at step 8 was"},
		"longer warm-up": {func(o *learn.Options) { o.Schedule = learn.Trapezoid(12, 4, .5, .1) }, "learn.schedule: its rate at step 0 was 0.3333333333333333, and is 0.25"},
	} {
		o, what := options(), all(t)
		c.change(&o)
		refused(t, name, trainer(t, what, o), what, path, c.want)
	}

	what := changes(t)
	refused(t, "another trainable", trainer(t, what, options()), what, path, "it has 60 tensors, a checkpoint of this run 84")

	m, err := llama.New(llama.Config{Vocabulary: words, Dim: 16, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8, FeedForward: 25, Context: 64,
		Epsilon: 1e-5, Tied: true, Rope: llama.Rope{Base: 10_000, Dims: 8}}, .5, 3)
	if err != nil {
		t.Fatal(err)
	}
	if what, err = m.TrainAll(); err != nil {
		t.Fatal(err)
	}
	refused(t, "another shape", trainer(t, what, options()), what, path, "tensor value.blk.0.ffn_gate.weight is F32 [16 24], must be F32 [16 25]")

	o := options()
	o.MaxSkipped = 50
	if err := trainer(t, all(t), o).Resume(path); err != nil {
		t.Errorf("more skipped steps allowed: %v", err)
	}
}

func TestDamagedCheckpoints(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "checkpoint")
	what := all(t)
	tr := trainer(t, what, options())
	run(t, tr, lessons(1, 16, 4), 2)
	good := save(t, tr, path)
	file := func(data []byte) string {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for n := 0; n < len(good); n += 1 + n/7 {
		refused(t, "truncated", tr, what, file(good[:n]), "truncated")
	}
	for at := 0; at < len(good); at += 1 + len(good)/97 {
		flipped := bytes.Clone(good)
		flipped[at] ^= 4
		refused(t, "damaged", tr, what, file(flipped), "its checksum is wrong")
	}
	refused(t, "more bytes", tr, what, file(append(bytes.Clone(good), 0)), "its checksum is wrong")
	refused(t, "far too many bytes", tr, what, file(make([]byte, 1<<22)), "it belongs to another one")
	refused(t, "a folder", tr, what, dir, "directory")
	if _, err := os.Stat("/dev/zero"); err == nil {
		refused(t, "endless", tr, what, "/dev/zero", "it belongs to another one")
	}
	none := filepath.Join(dir, "none")
	refused(t, "no file", tr, what, none, "")
	if err := tr.Resume(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := tr.Resume(file(good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// sealed ends a checkpoint's content with its checksum.
func sealed(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append(bytes.Clone(content), sum[:]...)
}

// Files that only look like a checkpoint, with a right checksum.
func TestForgedCheckpoints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	what := all(t)
	tr := trainer(t, what, options())
	run(t, tr, lessons(1, 16, 4), 2)
	good := save(t, tr, path)
	f, err := gguf.Parse(good[:len(good)-sha256.Size])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*gguf.Metadata, []gguf.Tensor) []gguf.Tensor
		value  float32 // of every number
		want   string
	}{
		"no version": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { m.Delete("learn.checkpoint"); return t }, 0, `"learn.checkpoint": missing`},
		"another version": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor {
			gguf.Set(m, "learn.checkpoint", uint32(2))
			return t
		}, 0,
			"learn.checkpoint is 2; this program reads version 1"},
		"no run":      {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { m.Delete("learn.run"); return t }, 0, `"learn.run": missing`},
		"no rate":     {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { m.Delete("learn.rate"); return t }, 0, `"learn.rate": missing`},
		"no schedule": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { m.Delete("learn.schedule"); return t }, 0, `"learn.schedule": missing`},
		"short schedule": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor {
			gguf.Set(m, "learn.schedule", []float64{1})
			return t
		}, 0, "learn.schedule has 1 rates, must be 22"},
		"a huge step": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor {
			gguf.Set(m, "learn.step", uint64(1<<63))
			return t
		}, 0, "learn.step is 9223372036854775808, must be at most"},
		"more skipped than taken": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor {
			gguf.Set(m, "learn.skipped", uint64(3))
			return t
		}, 0, "learn.skipped is 3, must be at most 2"},
		"more in a row than skipped": {func(m *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor {
			gguf.Set(m, "learn.skipped_in_a_row", uint64(1))
			return t
		}, 0,
			"learn.skipped_in_a_row is 1, must be at most 0"},
		"a tensor less":        {func(_ *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { return t[1:] }, 0, "it has 59 tensors, a checkpoint of this run 60"},
		"a tensor's name":      {func(_ *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { t[59].Name = "other"; return t }, 0, "it has no tensor second.blk.1.ffn_down.weight"},
		"a tensor's type":      {func(_ *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { t[0].Type = gguf.F16; return t }, 0, "tensor value.token_embd.weight is F16 [16 13], must be F32"},
		"a negative deviation": {func(_ *gguf.Metadata, t []gguf.Tensor) []gguf.Tensor { return t }, -1, "tensor second.token_embd.weight: value 0 is -1"},
	} {
		m := f.Metadata.Clone()
		tensors := c.change(m, f.Tensors())
		var content bytes.Buffer
		w, err := gguf.NewWriter(&content, m, tensors)
		if err != nil {
			t.Fatal(err)
		}
		for _, tensor := range tensors {
			numbers := make([]float32, tensor.Len())
			for i := range numbers {
				numbers[i] = c.value
			}
			if err := w.WriteFloat32(tensor.Name, numbers); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, sealed(content.Bytes()), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, name, tr, what, path, c.want)
	}
	infinite := bytes.Clone(good[:len(good)-sha256.Size])
	copy(infinite[len(infinite)-4:], []byte{0, 0, 0x80, 0x7f})
	if err := os.WriteFile(path, sealed(infinite), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "an infinite number", tr, what, path, "value 383 is +Inf: not a finite number")
}

// A checkpoint that cannot be written leaves the last one, and nothing else.
func TestAFailedSaveLeavesTheLastCheckpoint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "checkpoint")
	what := all(t)
	tr := trainer(t, what, options())
	run(t, tr, lessons(1, 16, 4), 2)
	good := save(t, tr, path)
	params := what.Parameters()
	last := params[len(params)-1].Value
	last[0] = float32(math.NaN())
	if err := tr.Save(path); err == nil || !strings.Contains(err.Error(), "of step 2") {
		t.Errorf("NaN was saved: %v", err)
	}
	if !bytes.Equal(read(t, path), good) {
		t.Error("the last checkpoint has changed")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v, want the checkpoint alone", files, err)
	}
	if err := tr.Save(filepath.Join(dir, "none", "checkpoint")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a folder that does not exist: %v", err)
	}
}

// Whatever a file holds, with a right checksum, resuming from it does not crash, and changes nothing where it fails.
func FuzzResume(f *testing.F) {
	path := filepath.Join(f.TempDir(), "checkpoint")
	what := oneLayer(f)
	tr, err := learn.New(what, options())
	if err != nil {
		f.Fatal(err)
	}
	good := save(f, tr, path)
	content := good[:len(good)-sha256.Size]
	f.Add(content)
	f.Add(content[:len(content)/2])
	f.Add([]byte("GGUF"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, sealed(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := values(what)
		if err := tr.Resume(path); err != nil && values(what) != before {
			t.Errorf("changed in spite of %v", err)
		}
	})
}
