package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file puts a header before data.
func file(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func TestWrittenTensorsComeBack(t *testing.T) {
	values := []float32{1.5, -2, 0, float32(math.Inf(1)), 1e-40, 3}
	a, err := NewF32("a", []int{2, 3}, values)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewF32("b <&> \"", nil, []float32{7})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Write(&out, map[string]string{"format": "pt"}, []Tensor{a, b}); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(out.Bytes()); n%8 != 0 {
		t.Errorf("the data begin after a header of %d bytes: not aligned", n)
	}
	metadata, tensors, err := Parse(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if metadata["format"] != "pt" || len(tensors) != 2 {
		t.Fatalf("%v, %d tensors", metadata, len(tensors))
	}
	if tensors[0].Name != "a" || tensors[1].Name != b.Name || !cmp.Equal(tensors[0].Shape, []int{2, 3}) || len(tensors[1].Shape) != 0 {
		t.Errorf("%+v", tensors)
	}
	if diff := cmp.Diff(values, tensors[0].Float32()); diff != "" {
		t.Error(diff)
	}
	if got := tensors[1].Float32(); len(got) != 1 || got[0] != 7 {
		t.Error(got)
	}
}

// The bytes are laid out by hand after the format's description.
func TestReadsEachType(t *testing.T) {
	data := file(`{"c":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},`+
		`"b":{"dtype":"F16","shape":[2,1],"data_offsets":[4,8]},"d":{"dtype":"F32","shape":[0,9],"data_offsets":[10,10]}}  `,
		0, 0, 0x80, 0x3f, 0x01, 0x00, 0xff, 0x7b, 0x40, 0xc0)
	_, tensors, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range tensors {
		got = append(got, fmt.Sprintf("%s%v%v", x.Name, x.Shape, x.Float32()))
	}
	want := []string{"a[1][1]", "b[2 1][5.9604645e-08 65504]", "c[1][-3]", "d[0 9][]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostileFiles(t *testing.T) {
	const one = `"dtype":"F32","shape":[1],"data_offsets":[0,4]`
	four := []byte{1, 2, 3, 4}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"too short":         {[]byte("short"), "too few"},
		"huge header":       {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "header of 18446744073709551615 bytes"},
		"truncated header":  {file(`{"a":{` + one + `}}`)[:20], "the file has 12"},
		"no object":         {file(`[1]`), "does not begin with {"},
		"no JSON":           {file(`{"a":`), "header"},
		"after the object":  {file(`{} {}`), "follows its end"},
		"twice":             {file(`{"a":{`+one+`},"a":{`+one+`}}`, four...), `"a" stands twice`},
		"unknown field":     {file(`{"a":{`+one+`,"b":1}}`, four...), "unknown field"},
		"null":              {file(`{"a":null}`), "no begin and end"},
		"three offsets":     {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}`, four...), "no begin and end"},
		"end before begin":  {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, four...), "no begin and end"},
		"negative offset":   {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, four...), "no begin and end"},
		"beyond the end":    {file(`{"a":{`+one+`}}`, 1, 2, 3), "which has 3"},
		"rest":              {file(`{"a":{`+one+`}}`, 1, 2, 3, 4, 5), "1 bytes after the last"},
		"hole":              {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`, 0, 1, 2, 3, 4), "ends at 0"},
		"overlap":           {file(`{"a":{`+one+`},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, 0, 1, 2, 3, 4, 5), "ends at 4"},
		"other shape":       {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, four...), "its shape make 8"},
		"no shape":          {file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, four...), "no shape"},
		"negative shape":    {file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, four...), "dimension 0 is -1"},
		"overflowing shape": {file(`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,4]}}`, four...), "too many values"},
		"fraction":          {file(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, four...), "1.5"},
		"other type":        {file(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, 0, 0, 0, 0, 0, 0, 0, 0), "only F32, F16 and BF16"},
		"metadata":          {file(`{"__metadata__":{"a":1}}`), "__metadata__"},
		"deep":              {file(`{"a":` + strings.Repeat("[", 100_000)), "header"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := Parse(c.data)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+32*len(c.data)); n > limit {
				t.Errorf("%d bytes allocated for a file of %d", n, len(c.data))
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	a, _ := NewF32("a", []int{1}, []float32{1})
	m, _ := NewF32(keyMetadata, []int{1}, []float32{1})
	for name, tensors := range map[string][]Tensor{"twice": {a, a}, "name of the metadata": {m}} {
		if err := Write(new(bytes.Buffer), nil, tensors); err == nil {
			t.Error(name)
		}
	}
	if _, err := NewF32("a", []int{2, 2}, make([]float32, 3)); err == nil {
		t.Error("3 values in 2 x 2")
	}
}

// What parses is written and parsed to the same.
func FuzzParse(f *testing.F) {
	f.Add(file(`{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 1, 2, 3, 4))
	f.Add(file(`{"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1,1],"data_offsets":[2,4]}}`, 1, 2, 3, 4))
	f.Add(file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		metadata, tensors, err := Parse(data)
		if err != nil {
			return
		}
		for _, x := range tensors {
			x.Float32()
		}
		var out bytes.Buffer
		if err := Write(&out, metadata, tensors); err != nil {
			t.Fatal(err)
		}
		_, again, err := Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if again[i].Name != tensors[i].Name || !bytes.Equal(again[i].data, tensors[i].data) {
				t.Fatalf("%q became %q", tensors[i].Name, again[i].Name)
			}
		}
	})
}
