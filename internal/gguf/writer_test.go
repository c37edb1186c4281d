package gguf

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Tensors written in pieces come back whole, each at its place.
func TestWrittenInPieces(t *testing.T) {
	for _, align := range []uint32{8, 32, 256} {
		m := new(Metadata)
		Set(m, keyAlignment, align)
		values := make([]float32, 96)
		for i := range values {
			values[i] = float32(i) - 48
		}
		tensors := []Tensor{
			{Name: "q", Type: Q8_0, Shape: []int{32, 3}},
			{Name: "f", Type: F32, Shape: []int{3}},
			{Name: "h", Type: F16, Shape: []int{1, 1, 96, 1}},
		}
		var file bytes.Buffer
		w, err := NewWriter(&file, m, tensors)
		if err != nil {
			t.Fatal(err)
		}
		for _, write := range []func() error{
			func() error { return w.WriteFloat32("q", values[:32]) },
			func() error { return w.WriteFloat32("q", values[32:]) },
			func() error { return w.WriteFloat32("f", values[:1]) },
			func() error { return w.WriteFloat32("f", nil) },
			func() error { return w.WriteFloat32("f", values[1:3]) },
			func() error { return w.WriteFloat32("h", values) },
			w.Close,
		} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Parse(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values[:3], numbersOf(t, f, "f")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(values, numbersOf(t, f, "h")); diff != "" {
			t.Error(diff)
		}
		for i, v := range numbersOf(t, f, "q") {
			if d := math.Abs(float64(v - values[i])); d > 48./127/2*1.01 {
				t.Errorf("q[%d] is %v, want %v", i, v, values[i])
			}
		}
	}
}

func TestNewWriterRefuses(t *testing.T) {
	alignment3 := new(Metadata)
	Set(alignment3, keyAlignment, uint32(3))
	longKey := new(Metadata)
	Set(longKey, strings.Repeat("k", 1<<16), true)
	one := []int{1}
	for name, c := range map[string]struct {
		m       *Metadata
		tensors []Tensor
		want    string
	}{
		"alignment":      {alignment3, nil, `"general.alignment": 3`},
		"long key":       {longKey, nil, "want 1 to 65535 bytes"},
		"no name":        {new(Metadata), []Tensor{{Shape: one}}, "no name"},
		"long name":      {new(Metadata), []Tensor{{Name: strings.Repeat("n", 64), Shape: one}}, "at most 63"},
		"same name":      {new(Metadata), []Tensor{{Name: "a", Shape: one}, {Name: "a", Shape: one}}, "stands twice"},
		"no shape":       {new(Metadata), []Tensor{{Name: "a"}}, "0 dimensions"},
		"five":           {new(Metadata), []Tensor{{Name: "a", Shape: []int{1, 1, 1, 1, 1}}}, "5 dimensions"},
		"empty":          {new(Metadata), []Tensor{{Name: "a", Shape: []int{4, 0}}}, "dimension 1 is not positive"},
		"half a block":   {new(Metadata), []Tensor{{Name: "a", Shape: []int{16, 2}, Type: Q8_0}}, "multiple of 32"},
		"unknown type":   {new(Metadata), []Tensor{{Name: "a", Shape: one, Type: 4}}, "unknown type 4"},
		"too many bytes": {new(Metadata), []Tensor{{Name: "a", Shape: []int{math.MaxInt / 2, 2}}}, "too many values"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if _, err := NewWriter(&out, c.m, c.tensors); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if out.Len() > 0 {
				t.Error("something was written")
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct {
		kind  Type
		write func(*Writer) error
		want  string
	}{
		"other tensor":    {F32, func(w *Writer) error { return w.WriteFloat32("b", nil) }, `"a" lacks 256 bytes`},
		"too much":        {F32, func(w *Writer) error { return w.WriteFloat32("a", make([]float32, 65)) }, "260 bytes are more than the 256"},
		"too many bytes":  {F16, func(w *Writer) error { return w.WriteBytes("a", make([]byte, 129)) }, "129 bytes are more than the 128"},
		"part of a block": {Q8_0, func(w *Writer) error { return w.WriteFloat32("a", make([]float32, 16)) }, "multiples of 32"},
		"Q4_0":            {Q4_0, func(w *Writer) error { return w.WriteFloat32("a", make([]float32, 64)) }, "cannot be written as Q4_0"},
		"NaN":             {F32, func(w *Writer) error { return w.WriteFloat32("a", []float32{0, inf - inf}) }, "value 1 is NaN"},
		"infinite":        {BF16, func(w *Writer) error { return w.WriteFloat32("a", []float32{-inf}) }, "value 0 is -Inf"},
		"beyond F16":      {F16, func(w *Writer) error { return w.WriteFloat32("a", []float32{-65520}) }, "which F16 cannot hold"},
		"beyond BF16":     {BF16, func(w *Writer) error { return w.WriteFloat32("a", []float32{math.MaxFloat32}) }, "which BF16 cannot hold"},
		"beyond Q8_0":     {Q8_0, func(w *Writer) error { return w.WriteFloat32("a", append(make([]float32, 31), 1e7)) }, "which Q8_0 cannot hold"},
		"half a tensor":   {F32, func(w *Writer) error { return w.WriteFloat32("a", make([]float32, 1)) }, `"a" lacks 252 bytes, and 1 more`},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := NewWriter(io.Discard, new(Metadata), []Tensor{{Name: "a", Type: c.kind, Shape: []int{64}}, {Name: "b", Shape: []int{1}}})
			if err != nil {
				t.Fatal(err)
			}
			err = c.write(w)
			if err == nil {
				err = w.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if w.WriteFloat32("a", nil) == nil || w.Close() == nil {
				t.Error("after an error, the writer works on")
			}
		})
	}
	w, err := NewWriter(io.Discard, new(Metadata), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteBytes("a", nil); err == nil || !strings.Contains(err.Error(), "all tensors are written") {
		t.Error(err)
	}
}

// The largest numbers that a type can hold are written, and come back finite.
func TestLimits(t *testing.T) {
	for kind, limit := range limits {
		values := append(make([]float32, 31), -limit)
		if err := fits(values, kind); err != nil {
			t.Error(err)
		}
		if err := fits([]float32{math.Nextafter32(limit, float32(math.Inf(1)))}, kind); err == nil {
			t.Errorf("%v holds more than %v", kind, limit)
		}
		back := make([]float32, 32)
		decoders[kind](back, encoders[kind](nil, values))
		if math.IsInf(float64(back[31]), 0) || math.Abs(float64(back[31]/limit)+1) > .01 {
			t.Errorf("%v: %v became %v", kind, -limit, back[31])
		}
	}
}

// Where F16 has no scale small enough, the values are zeros, and so is every byte.
func TestTinyBlocks(t *testing.T) {
	for _, v := range []float32{1e-45, 1e-37, 1e-30} {
		block := encoders[Q8_0](nil, append(make([]float32, 31), v))
		if !bytes.Equal(block, make([]byte, 34)) {
			t.Errorf("%v: %v", v, block)
		}
	}
}

func TestWriteFileReplacesAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write := func(text string, err error) error {
		return WriteFile(path, func(w io.Writer) error {
			_, wrote := io.WriteString(w, text)
			return errors.Join(wrote, err)
		})
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		text string
		err  error
		want string
	}{{"one", nil, "one"}, {"two", broken, "one"}, {"three", nil, "three"}} {
		if err := write(c.text, c.err); !errors.Is(err, c.err) {
			t.Error(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.want {
			t.Errorf("after %q: %q, %v", c.text, got, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
	}
}
