package gguf

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Tensor is a named array of numbers in a File, or the description of one that is to be written.
type Tensor struct {
	Name string
	Type Type
	// Shape has 1 to 4 dimensions in ggml's order: Shape[0] is the length of a row, whose values lie side by side. The
	// weight of a linear layer has the shape [in, out].
	Shape []int

	data []byte
}

// Len is the number of values.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Rows is the number of rows, each of Shape[0] values.
func (t Tensor) Rows() int { return t.Len() / t.Shape[0] }

// Bytes returns the data as it lies in the file; it must not be changed. It is nil for a mere description.
func (t Tensor) Bytes() []byte { return t.data }

// Float32 returns all values, in dst if its capacity suffices. A type whose numbers cannot be read is an error.
func (t Tensor) Float32(dst []float32) ([]float32, error) { return t.RowsFloat32(dst, 0, t.Rows()) }

// RowsFloat32 returns the values of n rows from row first on, in dst if its capacity suffices. Rows beyond the last and
// types whose numbers cannot be read are errors.
func (t Tensor) RowsFloat32(dst []float32, first, n int) ([]float32, error) {
	decode := decoders[t.Type]
	switch {
	case t.data == nil:
		return nil, fmt.Errorf("tensor %q: has no data", t.Name)
	case decode == nil:
		return nil, fmt.Errorf("tensor %q: numbers of type %v cannot be read: take the model in another quantization, such as Q8_0, Q6_K or Q4_K_M", t.Name, t.Type)
	case first < 0 || n < 0 || first > t.Rows()-n:
		return nil, fmt.Errorf("tensor %q: rows %d to %d of %d do not exist", t.Name, first, first+n-1, t.Rows())
	}
	dst = slices.Grow(dst[:0], n*t.Shape[0])[:n*t.Shape[0]]
	rowBytes := len(t.data) / t.Rows()
	decode(dst, t.data[first*rowBytes:(first+n)*rowBytes])
	return dst, nil
}

// size is the length of the data in bytes. The tensor must have passed check.
func (t Tensor) size() int {
	values, bytes := t.Type.Block()
	return t.Len() / values * bytes
}

// check tells whether type and shape describe a tensor whose size can be counted.
func (t Tensor) check() error {
	values, size := t.Type.Block()
	if values == 0 {
		return fmt.Errorf("unknown type %d", uint32(t.Type))
	}
	if len(t.Shape) < 1 || len(t.Shape) > maxDims {
		return fmt.Errorf("%d dimensions: want 1 to %d", len(t.Shape), maxDims)
	}
	total := uint64(1)
	for i, d := range t.Shape {
		if d < 1 {
			return fmt.Errorf("shape %v: dimension %d is not positive", t.Shape, i)
		}
		high, low := bits.Mul64(total, uint64(d))
		if high != 0 || low > math.MaxInt/uint64(size) {
			return fmt.Errorf("shape %v: too many values", t.Shape)
		}
		total = low
	}
	if t.Shape[0]%values != 0 {
		return fmt.Errorf("shape %v: rows of type %v need a multiple of %d values", t.Shape, t.Type, values)
	}
	return nil
}

// checkName refuses what llama.cpp refuses: a name has room for 63 bytes there.
func checkName(name string) error {
	const maxName = 63
	if name == "" {
		return errors.New("a tensor has no name")
	}
	if len(name) > maxName {
		return fmt.Errorf("tensor %q: the name has %d bytes, llama.cpp takes at most %d", name, len(name), maxName)
	}
	return nil
}
