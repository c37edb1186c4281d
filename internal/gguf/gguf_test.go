package gguf

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openPeer(t testing.TB) *File {
	t.Helper()
	f, err := Open("testdata/gguf-py.gguf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func numbersOf(t testing.TB, f *File, name string) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	values, err := x.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// llama.cpp's own package and this one read the same numbers from the same bytes, and write the same bytes for the same
// numbers.
func TestAgreesWithLlamaCpp(t *testing.T) {
	f := openPeer(t)
	source := numbersOf(t, f, "source")
	for _, kind := range []Type{F16, BF16, Q8_0, Q4_0, Q4_1} {
		x, _ := f.Tensor(kind.String())
		if x.Type != kind || !cmp.Equal(x.Shape, []int{64, 3}) {
			t.Fatalf("%+v", x)
		}
		if diff := cmp.Diff(numbersOf(t, f, kind.String()+".numbers"), numbersOf(t, f, kind.String())); diff != "" {
			t.Errorf("%v: %s", kind, diff)
		}
		if encode := encoders[kind]; encode != nil && !bytes.Equal(encode(nil, source), x.Bytes()) {
			t.Errorf("%v: other bytes than llama.cpp writes", kind)
		}
	}
}

// Of these types llama.cpp's package reads blocks of random bits.
func TestReadsTypesAsLlamaCpp(t *testing.T) {
	f := openPeer(t)
	for _, kind := range []Type{Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS} {
		x, _ := f.Tensor(kind.String())
		if x.Type != kind || !cmp.Equal(x.Shape, []int{256, 2}) {
			t.Fatalf("%+v", x)
		}
		want := numbersOf(t, f, kind.String()+".numbers")
		if diff := cmp.Diff(want, numbersOf(t, f, kind.String())); diff != "" {
			t.Errorf("%v: %s", kind, diff)
		}
		second, err := x.RowsFloat32(nil, 1, 1)
		if err != nil || !cmp.Equal(second, want[256:]) {
			t.Errorf("%v: the second row is another one when it is read alone: %v", kind, err)
		}
	}
}

func TestReadsEachTypeOfMetadata(t *testing.T) {
	m := openPeer(t).Metadata
	var got []string
	for key, value := range m.All() {
		got = append(got, fmt.Sprintf("%s %T %v", key, value, value))
	}
	want := []string{
		"general.architecture string llama",
		"of.uint8 uint8 200", "of.int8 int8 -100", "of.uint16 uint16 60000", "of.int16 int16 -30000",
		"of.uint32 uint32 4000000000", "of.int32 int32 -2000000000",
		"of.uint64 uint64 18446744073709551615", "of.int64 int64 -9223372036854775808",
		"of.float32 float32 1.5", "of.float64 float64 0.1", "of.bool bool true", "of.string string Amélie",
		"of.strings []string [ a Ġthe]", "of.ints []int32 [1 -2 3]", "of.floats []float32 [0.5 -1e+10]", "of.bools []bool [true false]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTypedGetters(t *testing.T) {
	m := openPeer(t).Metadata
	Set(m, "ints", []uint64{1, math.MaxUint64})
	Set(m, "small", []int8{-1, 2})
	for _, c := range []struct {
		get  func() (any, error)
		want string
	}{
		{func() (any, error) { return m.Uint("of.uint64") }, "18446744073709551615"},
		{func() (any, error) { return m.Uint("of.uint8") }, "200"},
		{func() (any, error) { return m.Uint("of.int8") }, `metadata key "of.int8": int8 -100 is no integer of 0 or more`},
		{func() (any, error) { return m.Int("of.int64") }, "-9223372036854775808"},
		{func() (any, error) { return m.Int("of.uint64") }, `metadata key "of.uint64": uint64 18446744073709551615 is no 64-bit integer`},
		{func() (any, error) { return m.Int("of.float32") }, `metadata key "of.float32": float32 1.5 is no 64-bit integer`},
		{func() (any, error) { return m.Float("of.float32") }, "1.5"},
		{func() (any, error) { return m.Float("of.float64") }, "0.1"},
		{func() (any, error) { return m.Float("of.uint8") }, `metadata key "of.uint8": uint8 200 is no floating-point number`},
		{func() (any, error) { return m.Bool("of.bool") }, "true"},
		{func() (any, error) { return m.String("of.string") }, "Amélie"},
		{func() (any, error) { return m.String("of.strings") }, `metadata key "of.strings": []string is no string`},
		{func() (any, error) { return m.Strings("of.strings") }, "[ a Ġthe]"},
		{func() (any, error) { return m.Floats("of.floats") }, "[0.5 -1e+10]"},
		{func() (any, error) { return m.Ints("of.ints") }, "[1 -2 3]"},
		{func() (any, error) { return m.Ints("small") }, "[-1 2]"},
		{func() (any, error) { return m.Ints("ints") }, `metadata key "ints": []uint64 is no array of 64-bit integers`},
		{func() (any, error) { return m.Uint("nothing") }, `metadata key "nothing": missing`},
	} {
		value, err := c.get()
		got := fmt.Sprint(value)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if errors.Is(err, ErrMissing) != strings.HasSuffix(c.want, "missing") {
			t.Errorf("%v: ErrMissing or not?", err)
		}
	}
}

func TestMetadataKeepTheirOrder(t *testing.T) {
	m := new(Metadata)
	m.Delete("nothing")
	for _, key := range []string{"c", "a", "b", "a"} {
		Set(m, key, "value")
	}
	clone := m.Clone()
	Set(clone, "a", true)
	clone.Delete("c")
	Set(clone, "d", uint8(1))
	keys := func(m *Metadata) (keys []string) {
		for key := range m.All() {
			keys = append(keys, key)
		}
		return keys
	}
	if diff := cmp.Diff([]string{"c", "a", "b"}, keys(m)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "d"}, keys(clone)); diff != "" {
		t.Error(diff)
	}
	if value, err := m.String("a"); value != "value" {
		t.Error("the clone's change reached the original:", value, err)
	}
}

func TestACopyIsTheSameFile(t *testing.T) {
	f := openPeer(t)
	path := filepath.Join(t.TempDir(), "copy.gguf")
	if err := WriteFile(path, func(w io.Writer) error { return rewrite(f, w) }); err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile("testdata/gguf-py.gguf")
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, original) {
		t.Error("the copy differs")
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(original)); f.Digest() != want {
		t.Errorf("digest %s, want %s", f.Digest(), want)
	}
}

// rewrite writes a file again from what was read.
func rewrite(f *File, w io.Writer) error {
	out, err := NewWriter(w, f.Metadata, f.Tensors())
	if err != nil {
		return err
	}
	for _, x := range f.Tensors() {
		if err := out.WriteBytes(x.Name, x.Bytes()); err != nil {
			return err
		}
	}
	return out.Close()
}

func TestRows(t *testing.T) {
	f := openPeer(t)
	for _, kind := range []Type{F32, F16, BF16, Q8_0, Q4_0, Q4_1} {
		name := kind.String()
		if kind == F32 {
			name = "source"
		}
		x, _ := f.Tensor(name)
		all := numbersOf(t, f, name)
		if x.Rows() != 3 || x.Len() != 192 {
			t.Errorf("%s: %d rows, %d values", name, x.Rows(), x.Len())
		}
		buffer := make([]float32, 0, 128)
		rows, err := x.RowsFloat32(buffer, 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all[64:], rows); diff != "" {
			t.Error(diff)
		}
		if &rows[0] != &buffer[:1][0] {
			t.Errorf("%s: the buffer was not used", name)
		}
		for _, r := range [][2]int{{-1, 1}, {0, 4}, {3, 1}, {0, -1}, {math.MaxInt, 1}, {1, math.MaxInt}} {
			if _, err := x.RowsFloat32(nil, r[0], r[1]); err == nil || !strings.Contains(err.Error(), "do not exist") {
				t.Errorf("%s: rows %v: %v", name, r, err)
			}
		}
	}
}

func TestNumbersOfOtherTypesAreRefused(t *testing.T) {
	x, ok := openPeer(t).Tensor("IQ2_XS")
	if !ok || !cmp.Equal(x.Shape, []int{256, 2}) || len(x.Bytes()) != 148 {
		t.Fatalf("%+v", x)
	}
	if _, err := x.Float32(nil); err == nil || !strings.Contains(err.Error(), `tensor "IQ2_XS": numbers of type IQ2_XS cannot be read`) {
		t.Error(err)
	}
	if _, err := (Tensor{Name: "x", Shape: []int{1}}).Float32(nil); err == nil || !strings.Contains(err.Error(), "no data") {
		t.Error(err)
	}
}

// Version 2 has the same layout.
func TestReadsVersion2(t *testing.T) {
	f, err := Parse(raw(uint32(2), none, one, "k", uint32(typeString), "v"))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := f.Metadata.String("k"); v != "v" {
		t.Error(v, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "not a regular file", empty: "is empty", filepath.Join(dir, "nothing"): "no such file", "gguf.go": "not a GGUF file",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
