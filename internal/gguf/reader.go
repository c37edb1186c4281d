package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// reader is a cursor over a file. Every length it is given comes from the file and is checked against what is left
// before anything is allocated for it.
type reader struct {
	data []byte
	pos  int
}

func (r *reader) left() uint64 { return uint64(len(r.data) - r.pos) }

// take returns the next n bytes.
func (r *reader) take(n uint64) ([]byte, error) {
	if n > r.left() {
		return nil, fmt.Errorf("%d bytes at byte %d go beyond the end of the file (%d bytes)", n, r.pos, len(r.data))
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

func (r *reader) uint32() (uint32, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *reader) uint64() (uint64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (r *reader) string() (string, error) {
	n, err := r.uint64()
	if err != nil {
		return "", err
	}
	b, err := r.take(n)
	return string(b), err
}

// count checks a number of things that each take at least size bytes.
func (r *reader) count(n, size uint64, of string) error {
	if n > r.left()/size {
		return fmt.Errorf("%d %s of at least %d bytes each cannot fit into the %d bytes after byte %d", n, of, size, r.left(), r.pos)
	}
	return nil
}

type counts struct{ tensors, metadata uint64 }

func (r *reader) header() (counts, error) {
	var c counts
	m, err := r.take(uint64(len(magic)))
	if err != nil {
		return c, fmt.Errorf("magic: %w", err)
	}
	if !bytes.Equal(m, []byte(magic)) {
		return c, fmt.Errorf("not a GGUF file: it starts with %q instead of %q", m, magic)
	}
	v, err := r.uint32()
	switch {
	case err != nil:
		return c, fmt.Errorf("version: %w", err)
	case v != 0 && v&0xffff == 0:
		return c, fmt.Errorf("version %#x: the file is big endian: convert it to little endian first", v)
	case v != 2 && v != version:
		return c, fmt.Errorf("version %d: only versions 2 and %d can be read: convert the file with a current llama.cpp", v, version)
	}
	if c.tensors, err = r.uint64(); err != nil {
		return c, fmt.Errorf("number of tensors: %w", err)
	}
	if c.metadata, err = r.uint64(); err != nil {
		return c, fmt.Errorf("number of metadata keys: %w", err)
	}
	const minMetadata, minTensor = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8
	if err = r.count(c.metadata, minMetadata, "metadata keys"); err == nil {
		err = r.count(c.tensors, minTensor, "tensors")
	}
	return c, err
}

// atFirst is the most elements that room is made for before any of them is read: a header may count as many as the file has
// bytes for, which tensor data have the most of.
const atFirst = 1024

// tensors reads the descriptions of n tensors and finds the data of each.
func (r *reader) tensors(n uint64, align uint64) ([]Tensor, map[string]int, error) {
	room := min(n, atFirst)
	tensors, offsets, byName := make([]Tensor, 0, room), make([]uint64, 0, room), make(map[string]int, room)
	for i := range int(n) {
		t, offset, err := r.tensor()
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %d %q: %w", i, t.Name, err)
		}
		if offset%align != 0 {
			return nil, nil, fmt.Errorf("tensor %d %q: offset %d is no multiple of the alignment %d", i, t.Name, offset, align)
		}
		if j, twice := byName[t.Name]; twice {
			return nil, nil, fmt.Errorf("tensors %d and %d have the same name %q", j, i, t.Name)
		}
		tensors, offsets, byName[t.Name] = append(tensors, t), append(offsets, offset), i
	}
	var section []byte // of tensor data
	if start := padded(uint64(r.pos), align); start < uint64(len(r.data)) {
		section = r.data[start:]
	}
	for i := range tensors {
		t := &tensors[i]
		size := uint64(t.size())
		if offsets[i] > uint64(len(section)) || size > uint64(len(section))-offsets[i] {
			return nil, nil, fmt.Errorf("tensor %q: its %d bytes at offset %d go beyond the %d bytes of tensor data", t.Name, size, offsets[i], len(section))
		}
		t.data = section[offsets[i]:][:size:size]
	}
	return tensors, byName, overlap(tensors, offsets)
}

// overlap finds two tensors that share bytes.
func overlap(tensors []Tensor, offsets []uint64) error {
	order := make([]int, len(tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(offsets[i], offsets[j]) })
	for k := 1; k < len(order); k++ {
		i, j := order[k-1], order[k]
		if offsets[i]+uint64(len(tensors[i].data)) > offsets[j] {
			return fmt.Errorf("tensors %q and %q overlap: %d bytes at offset %d, and offset %d",
				tensors[i].Name, tensors[j].Name, len(tensors[i].data), offsets[i], offsets[j])
		}
	}
	return nil
}

// tensor reads the description of one tensor and its offset in the tensor data. With an error, the tensor has as much
// of its name as is known.
func (r *reader) tensor() (t Tensor, offset uint64, err error) {
	if t.Name, err = r.string(); err != nil {
		return t, 0, fmt.Errorf("name: %w", err)
	}
	dims, err := r.uint32()
	if err != nil {
		return t, 0, fmt.Errorf("number of dimensions: %w", err)
	}
	if dims < 1 || dims > maxDims {
		return t, 0, fmt.Errorf("%d dimensions: want 1 to %d", dims, maxDims)
	}
	t.Shape = make([]int, dims)
	for i := range t.Shape {
		n, err := r.uint64()
		if err != nil {
			return t, 0, fmt.Errorf("dimension %d: %w", i, err)
		}
		if n > math.MaxInt {
			return t, 0, fmt.Errorf("dimension %d: %d is too large", i, n)
		}
		t.Shape[i] = int(n)
	}
	kind, err := r.uint32()
	if err != nil {
		return t, 0, fmt.Errorf("type: %w", err)
	}
	t.Type = Type(kind)
	if err := t.check(); err != nil {
		return t, 0, err
	}
	if offset, err = r.uint64(); err != nil {
		return t, 0, fmt.Errorf("offset: %w", err)
	}
	return t, offset, nil
}

// padded rounds n up to a multiple of align, a power of two.
func padded(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
