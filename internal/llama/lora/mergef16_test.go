package lora

import (
	"bytes"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
)

// merged16 is a model after MergeF16.
func merged16(t *testing.T, base *gguf.File, a *Adapter) *gguf.File {
	t.Helper()
	var file bytes.Buffer
	if err := MergeF16(base, a, &file); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Nothing stays quantized, what is not keeps its bytes, and the adapter changes the same weights in the same way as where
// the others stay as they are.
func TestMergeF16(t *testing.T) {
	for _, kind := range []gguf.Type{gguf.F32, gguf.Q8_0, gguf.F16} {
		base, a := sampleBase(t, kind, nil), sample()
		var file bytes.Buffer
		if err := Merge(base, a, &file); err != nil {
			t.Fatal(err)
		}
		plain, err := gguf.Parse(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		alone, changed := merged16(t, base, nil), merged16(t, base, a)
		if name, err := alone.Metadata.String("general.name"); err != nil || name != "Sample" || alone.Metadata.Has("r2rec.base_digest") {
			t.Errorf("%v: without an adapter it is called %q, %v", kind, name, err)
		}
		if fileType, err := alone.Metadata.Uint("general.file_type"); err != nil || kind != gguf.F32 && fileType != 1 {
			t.Errorf("%v: file type %d, %v", kind, fileType, err)
		}
		for _, before := range base.Tensors() {
			tensor := func(f *gguf.File) gguf.Tensor { got, _ := f.Tensor(before.Name); return got }
			want := before.Type
			if want == gguf.Q8_0 {
				want = gguf.F16
			}
			if got := tensor(alone); got.Type != want || want == before.Type && !bytes.Equal(got.Bytes(), before.Bytes()) {
				t.Errorf("%v: %s is %v, or has other bytes, want %v", kind, before.Name, got.Type, want)
			}
			values, err := before.Float32(nil)
			if err != nil {
				t.Fatal(err)
			}
			if want == gguf.F16 {
				for i, v := range values {
					values[i] = gguf.FromF16(gguf.ToF16(v))
				}
			}
			if got, err := tensor(alone).Float32(nil); err != nil || !slices.Equal(got, values) {
				t.Errorf("%v: %s has other numbers, %v", kind, before.Name, err)
			}
			isChanged := slices.ContainsFunc(a.Pairs, func(p Pair) bool { return p.Target+weight == before.Name })
			wantBytes := tensor(alone).Bytes()
			if isChanged {
				wantBytes = tensor(plain).Bytes()
			}
			if !bytes.Equal(tensor(changed).Bytes(), wantBytes) {
				t.Errorf("%v: with the adapter, %s has other bytes", kind, before.Name)
			}
		}
	}
}
