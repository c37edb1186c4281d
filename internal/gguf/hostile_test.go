package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"
)

// raw builds files that the Writer would refuse: numbers as they are, strings with their length.
func raw(parts ...any) []byte {
	b := []byte(magic)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = appendString(b, p)
		case []byte:
			b = append(b, p...)
		default:
			var err error
			if b, err = binary.Append(b, binary.LittleEndian, p); err != nil {
				panic(err)
			}
		}
	}
	return b
}

const (
	v3   = uint32(version)
	none = uint64(0)
	one  = uint64(1)
	two  = uint64(2)
	huge = uint64(math.MaxUint64)
	dim  = uint32(1)
	f32  = uint32(F32)
)

var zeros = make([]byte, 1024)

func TestHostileFiles(t *testing.T) {
	tensor := func(name string, shape []uint64, kind uint32, offset uint64) []byte {
		return raw(name, uint32(len(shape)), shape, kind, offset)[len(magic):]
	}
	scalar := []uint64{1}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":            {nil, "magic: 4 bytes at byte 0 go beyond the end of the file (0 bytes)"},
		"magic":            {[]byte("GGML and more"), `starts with "GGML"`},
		"no version":       {raw(), "version: 4 bytes at byte 4"},
		"version 1":        {raw(uint32(1), one, one), "version 1: only"},
		"version 4":        {raw(uint32(4), one, one), "version 4: only"},
		"big endian":       {raw([]byte{0, 0, 0, 3}, one, one), "big endian"},
		"no counts":        {raw(v3, one), "number of metadata keys"},
		"many keys":        {raw(v3, none, huge), "18446744073709551615 metadata keys"},
		"many tensors":     {raw(v3, huge/2, none, zeros), "9223372036854775807 tensors"},
		"long key":         {raw(v3, none, one, huge, zeros), "metadata key 0: 18446744073709551615 bytes at byte 32"},
		"long string":      {raw(v3, none, one, "k", uint32(typeString), uint64(1<<40), zeros), `metadata key "k": 1099511627776 bytes at byte 45`},
		"cut key":          {raw(v3, none, one, "a key that is cut", zeros)[:40], "metadata key 0"},
		"twice":            {raw(v3, none, two, "k", uint32(typeUint8), uint8(1), "k", uint32(typeUint8), uint8(1), zeros), `"k" stands twice`},
		"bool":             {raw(v3, none, one, "k", uint32(typeBool), uint8(2), zeros), "bool at byte 37 is 2"},
		"unknown value":    {raw(v3, none, one, "k", uint32(13), zeros), "unknown value type 13"},
		"unknown element":  {raw(v3, none, one, "k", uint32(typeArray), uint32(13), one, zeros), "unknown type 13 of array"},
		"many numbers":     {raw(v3, none, one, "k", uint32(typeArray), uint32(typeUint64), huge/8+1, zeros), "uint64 values of at least 8"},
		"a few too many":   {raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), uint64(200), zeros), "200 strings of at least 8"},
		"many strings":     {raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), huge/8+1, zeros), "strings of at least 8"},
		"many bools":       {raw(v3, none, one, "k", uint32(typeArray), uint32(typeBool), huge, zeros), "18446744073709551615 bytes"},
		"string in array":  {raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), two, "a", huge, zeros), "string 1: 18446744073709551615 bytes"},
		"array in array":   {raw(v3, none, one, "k", uint32(typeArray), uint32(typeArray), one, uint32(typeUint8), one, zeros), "arrays in arrays"},
		"alignment 0":      {raw(v3, none, one, keyAlignment, uint32(typeUint32), uint32(0), zeros), `"general.alignment": 0`},
		"alignment 24":     {raw(v3, none, one, keyAlignment, uint32(typeUint32), uint32(24), zeros), `"general.alignment": 24`},
		"huge alignment":   {raw(v3, none, one, keyAlignment, uint32(typeUint64), uint64(1<<63), zeros), "want a power of two"},
		"alignment 'a'":    {raw(v3, none, one, keyAlignment, uint32(typeString), "a", zeros), "is no integer"},
		"long name":        {raw(v3, one, none, uint64(1<<50), zeros), `tensor 0 "": name: 1125899906842624 bytes`},
		"no dimension":     {raw(v3, one, none, tensor("t", nil, f32, 0), zeros), `tensor 0 "t": 0 dimensions`},
		"many dimensions":  {raw(v3, one, none, "t", uint32(math.MaxUint32), zeros), "4294967295 dimensions"},
		"empty dimension":  {raw(v3, one, none, tensor("t", []uint64{4, 0}, f32, 0), zeros), "dimension 1 is not positive"},
		"huge dimension":   {raw(v3, one, none, tensor("t", []uint64{huge}, f32, 0), zeros), "18446744073709551615 is too large"},
		"product is 0":     {raw(v3, one, none, tensor("t", []uint64{1 << 32, 1 << 32}, f32, 0), zeros), "too many values"},
		"bytes overflow":   {raw(v3, one, none, tensor("t", []uint64{1 << 31, 1 << 30, 1 << 1}, f32, 0), zeros), "too many values"},
		"unknown type":     {raw(v3, one, none, tensor("t", scalar, 5, 0), zeros), "unknown type 5"},
		"half a block":     {raw(v3, one, none, tensor("t", []uint64{33}, uint32(Q8_0), 0), zeros), "multiple of 32"},
		"unaligned":        {raw(v3, one, none, tensor("t", scalar, f32, 4), zeros), "offset 4 is no multiple of the alignment 32"},
		"out of range":     {raw(v3, one, none, tensor("t", []uint64{1 << 20}, f32, 0), zeros), "its 4194304 bytes at offset 0 go beyond"},
		"offset too large": {raw(v3, one, none, tensor("t", scalar, f32, huge&^31), zeros), "at offset 18446744073709551584 go beyond"},
		"no data":          {raw(v3, one, none, tensor("t", scalar, f32, 0)), "go beyond the 0 bytes of tensor data"},
		"same name":        {raw(v3, two, none, tensor("t", scalar, f32, 0), tensor("t", scalar, f32, 32), zeros), `tensors 0 and 1 have the same name "t"`},
		"same place":       {raw(v3, two, none, tensor("t", scalar, f32, 0), tensor("u", scalar, f32, 0), zeros), "overlap"},
		"overlap":          {raw(v3, two, none, tensor("t", scalar, f32, 32), tensor("u", []uint64{9}, f32, 0), zeros), `"u" and "t" overlap`},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse(c.data)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<17 {
				t.Errorf("%d bytes allocated for a file of %d", n, len(c.data))
			}
		})
	}
}

// Wherever a file is cut, it is refused.
func TestTruncated(t *testing.T) {
	whole := openPeer(t).data
	for n := range len(whole) - 32 { // the padding of the last tensor may be missing
		if _, err := Parse(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as a whole file", n, len(whole))
		}
	}
}

// Opening a file full of the smallest metadata takes a small multiple of its size.
func TestMemoryIsBoundedByTheFile(t *testing.T) {
	const n = 1 << 16
	keys := []byte{}
	for i := range uint32(n) {
		keys = append(binary.LittleEndian.AppendUint64(keys, 4), byte(i), byte(i>>8), byte(i>>16), 'k')
		keys = append(binary.LittleEndian.AppendUint32(keys, uint32(typeUint8)), 1)
	}
	for name, data := range map[string][]byte{
		"keys":    raw(v3, none, uint64(n), keys),
		"strings": raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), uint64(n), make([]byte, 8*n)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(data)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32*uint64(len(data)) {
			t.Errorf("%s: %d bytes allocated for a file of %d", name, n, len(data))
		}
	}
}

// What a header counts takes no memory before it is read: a file may have room for it that is all tensor data.
func TestMemoryIsNotBoundByWhatAHeaderCounts(t *testing.T) {
	data := bytes.Repeat([]byte{0xff}, 16<<20)
	for name, begins := range map[string][]byte{
		"tensors": raw(v3, uint64(len(data)/64), none),
		"strings": raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), uint64(len(data)/16)),
	} {
		copy(data, begins)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(data)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 1<<20 {
			t.Errorf("%s: %d bytes allocated for a file of %d whose first one is none: %v", name, n, len(data), err)
		}
	}
}

// No file crashes the reader; what it reads can be written, and is read again as the same.
func FuzzParse(f *testing.F) {
	peer := openPeer(f).data
	f.Add(peer)
	f.Add(peer[:1000])
	f.Add(raw(v3, one, one, keyAlignment, uint32(typeUint32), uint32(64), "t", dim, one, f32, none, zeros))
	f.Add(raw(v3, none, one, "k", uint32(typeArray), uint32(typeString), two, "a", "b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		for _, x := range file.Tensors() {
			if values, err := x.Float32(nil); err == nil && len(values) != x.Len() {
				t.Fatalf("%q: %d values instead of %d", x.Name, len(values), x.Len())
			}
		}
		var out bytes.Buffer
		if err := rewrite(file, &out); err != nil {
			return // what ggml allows and llama.cpp does not: long or empty names
		}
		again, err := Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		var second bytes.Buffer
		if err := rewrite(again, &second); err != nil || !bytes.Equal(out.Bytes(), second.Bytes()) {
			t.Fatalf("written twice, it differs: %v", err)
		}
	})
}
