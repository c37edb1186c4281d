// Package safetensors reads and writes the safetensors format of Hugging Face: a JSON header, then the tensors' bytes,
// little endian, as https://github.com/huggingface/safetensors describes it.
//
// It promises that data from anywhere are safe to parse: what is truncated, overlapping, contradictory or has holes gets
// an error that names the tensor, and parsing allocates no more than a small multiple of the header. Tensors of type F32,
// F16 and BF16 are read, F32 is written; a file with any other type is refused.
//
// What the names mean is left to the caller.
package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/r2rec/r2rec/internal/gguf"
)

const (
	lengthBytes = 8
	maxHeader   = 100_000_000 // the format's own limit
	keyMetadata = "__metadata__"
)

// DType is the number format of a tensor.
type DType string

// The types that can be read.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// size is that of one value in bytes, 0 for an unknown type.
func (d DType) size() int {
	switch d {
	case F32:
		return 4
	case F16, BF16:
		return 2
	}
	return 0
}

// Tensor is a named array of numbers.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // the last dimension is the length of a row, whose values lie side by side; none for a single number

	data []byte
}

// Float32 returns a copy of all values, row-major.
func (t Tensor) Float32() []float32 {
	values := make([]float32, len(t.data)/t.DType.size())
	for i := range values {
		switch t.DType {
		case F32:
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.data[4*i:]))
		case F16:
			values[i] = gguf.FromF16(binary.LittleEndian.Uint16(t.data[2*i:]))
		case BF16:
			values[i] = gguf.FromBF16(binary.LittleEndian.Uint16(t.data[2*i:]))
		}
	}
	return values
}

// NewF32 makes a tensor from its values, row-major. It takes no copy of the shape.
func NewF32(name string, shape []int, values []float32) (Tensor, error) {
	t := Tensor{Name: name, DType: F32, Shape: shape, data: make([]byte, 0, 4*len(values))}
	size, err := t.sizeOfShape()
	if err == nil && size != 4*len(values) {
		err = fmt.Errorf("shape %v does not hold %d values", shape, len(values))
	}
	if err != nil {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	for _, v := range values {
		t.data = binary.LittleEndian.AppendUint32(t.data, math.Float32bits(v))
	}
	return t, nil
}

// sizeOfShape is the length of the data that shape and type ask for, in bytes.
func (t Tensor) sizeOfShape() (int, error) {
	size := uint64(t.DType.size())
	if size == 0 {
		return 0, fmt.Errorf("dtype %.100q: only F32, F16 and BF16 can be read", t.DType)
	}
	empty := slices.Contains(t.Shape, 0)
	for i, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d is %d", i, d)
		}
		if empty {
			continue
		}
		high, low := bits.Mul64(size, uint64(d))
		if high != 0 || low > math.MaxInt {
			return 0, fmt.Errorf("its %d dimensions hold too many values", len(t.Shape))
		}
		size = low
	}
	if empty {
		return 0, nil
	}
	return int(size), nil
}

// Parse reads a file that is in memory: its free metadata, nil without any, and its tensors in the order of their bytes.
// The tensors share data, which must not change.
func Parse(data []byte) (metadata map[string]string, tensors []Tensor, err error) {
	if len(data) < lengthBytes {
		return nil, nil, fmt.Errorf("%d bytes are too few for a safetensors file", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-lengthBytes) {
		return nil, nil, fmt.Errorf("header of %d bytes: the file has %d after its length, and %d is the most", n, len(data)-lengthBytes, maxHeader)
	}
	header, buffer := data[lengthBytes:][:n], data[lengthBytes+int(n):]
	metadata, entries, err := parseHeader(header)
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	tensors, err = place(entries, buffer)
	return metadata, tensors, err
}

// entry is the description of a tensor.
type entry struct {
	name    string
	DType   DType   `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"` // begin and end in the buffer
}

// parseHeader reads the JSON object token by token, for a second entry of the same name must not hide the first.
func parseHeader(header []byte) (metadata map[string]string, entries []entry, err error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("it does not begin with {")
	}
	d := json.NewDecoder(bytes.NewReader(header))
	d.DisallowUnknownFields()
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	names := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		name, isString := token.(string)
		if !isString || names[name] {
			return nil, nil, fmt.Errorf("%.100q stands twice", name)
		}
		names[name] = true
		if name == keyMetadata {
			err = d.Decode(&metadata)
		} else {
			e := entry{name: name}
			err = d.Decode(&e)
			entries = append(entries, e)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%.100q: %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if rest := bytes.TrimLeft(header[d.InputOffset():], " "); len(rest) > 0 {
		return nil, nil, fmt.Errorf("%.20q follows its end", rest)
	}
	return metadata, entries, nil
}

// place finds the bytes of each tensor. Together they must be the buffer, without holes.
func place(entries []entry, buffer []byte) ([]Tensor, error) {
	for _, e := range entries {
		if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[0] > e.Offsets[1] {
			return nil, fmt.Errorf("tensor %.100q: its data_offsets are no begin and end", e.name)
		}
		if e.Shape == nil {
			return nil, fmt.Errorf("tensor %.100q: it has no shape", e.name)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Offsets[0], b.Offsets[0]), cmp.Compare(a.Offsets[1], b.Offsets[1]), cmp.Compare(a.name, b.name))
	})
	tensors := make([]Tensor, len(entries))
	var end int64
	for i, e := range entries {
		t := Tensor{Name: e.name, DType: e.DType, Shape: e.Shape}
		size, err := t.sizeOfShape()
		switch begin := e.Offsets[0]; {
		case err != nil:
			return nil, fmt.Errorf("tensor %.100q: %w", e.name, err)
		case begin != end:
			return nil, fmt.Errorf("tensor %.100q begins at byte %d of the data, where the one before ends at %d", e.name, begin, end)
		case e.Offsets[1]-begin != int64(size):
			return nil, fmt.Errorf("tensor %.100q: %d bytes, where %v and its shape make %d", e.name, e.Offsets[1]-begin, e.DType, size)
		case e.Offsets[1] > int64(len(buffer)):
			return nil, fmt.Errorf("tensor %.100q ends at byte %d of the data, which has %d", e.name, e.Offsets[1], len(buffer))
		}
		end = e.Offsets[1]
		t.data = buffer[e.Offsets[0]:end:end]
		tensors[i] = t
	}
	if end != int64(len(buffer)) {
		return nil, fmt.Errorf("%d bytes after the last tensor belong to none", int64(len(buffer))-end)
	}
	return tensors, nil
}

// Write writes tensors, in their order, and free metadata, if any.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor) error {
	header, err := formatHeader(metadata, tensors)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.data); err != nil {
			return err
		}
	}
	return nil
}

func formatHeader(metadata map[string]string, tensors []Tensor) ([]byte, error) {
	object := map[string]any{}
	if len(metadata) > 0 {
		object[keyMetadata] = metadata
	}
	var end int64
	for _, t := range tensors {
		if _, twice := object[t.Name]; twice || t.Name == keyMetadata {
			return nil, fmt.Errorf("tensor %q stands twice or has the name of the metadata", t.Name)
		}
		begin := end
		end += int64(len(t.data))
		shape := t.Shape
		if shape == nil {
			shape = []int{} // the format has no null
		}
		object[t.Name] = entry{DType: t.DType, Shape: shape, Offsets: []int64{begin, end}}
	}
	header, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	const align = 8 // of the data, so that they can be mapped
	header = append(header, bytes.Repeat([]byte(" "), -len(header)&(align-1))...)
	if len(header) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes: %d is the most", len(header), maxHeader)
	}
	return header, nil
}
