// Package gguf reads and writes GGUF, the model file of llama.cpp and Ollama: typed metadata and named tensors in one
// file, little endian, as ggml's docs/gguf.md describes it.
//
// It promises that a file from anywhere is safe to open: what is truncated, too large, overlapping or contradictory gets
// an error that says what and at which byte, and opening allocates no more than a small multiple of the file's metadata.
// Tensor data stays where it is, in the mapped file, until its numbers are asked for. A tensor that is copied keeps its
// bytes; one that is written is rounded to nearest, ties to even.
//
// Versions 2 and 3 are read (they share one layout), version 3 is written. Tensors of type F32, F16, BF16, Q8_0, Q4_0,
// Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, IQ4_NL and IQ4_XS can be read as numbers, and the first four written from numbers; all
// other types are known by name and size, so that such a file opens and can be copied.
//
// What the keys and tensors mean is left to the caller.
package gguf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/edsrzf/mmap-go"
)

const (
	magic            = "GGUF"
	version          = 3
	defaultAlignment = 32
	keyAlignment     = "general.alignment"
	maxDims          = 4 // GGML_MAX_DIMS
)

// File is an open GGUF file. It may be read by any number of goroutines at once.
type File struct {
	Metadata *Metadata

	data    []byte
	tensors []Tensor
	byName  map[string]int
	mapped  mmap.MMap // nil for what Parse was given
}

// Open maps a file into memory and parses it. The file must not shrink while it is open: the operating system ends a
// process that reads a mapped page beyond the end. Replacing it by a rename, as WriteFile does, is safe.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open GGUF file %s: %w", path, err)
	}
	return f, nil
}

func open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the mapping outlives it
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() == 0 {
		return nil, errors.New("the file is empty")
	}
	mapped, err := mmap.Map(file, mmap.RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	f, err := Parse(mapped)
	if err != nil {
		return nil, errors.Join(err, mapped.Unmap())
	}
	f.mapped = mapped
	return f, nil
}

// Parse reads a GGUF file that is in memory. The tensors of the result share data, which must not change.
func Parse(data []byte) (*File, error) {
	r := &reader{data: data}
	counts, err := r.header()
	if err != nil {
		return nil, err
	}
	f := &File{data: data}
	if f.Metadata, err = r.metadata(counts.metadata); err != nil {
		return nil, err
	}
	align, err := alignment(f.Metadata)
	if err != nil {
		return nil, err
	}
	if f.tensors, f.byName, err = r.tensors(counts.tensors, align); err != nil {
		return nil, err
	}
	return f, nil
}

// Close unmaps the file. No tensor of it may be read afterwards.
func (f *File) Close() error {
	if f.mapped == nil {
		return nil
	}
	return f.mapped.Unmap()
}

// Tensors lists the tensors in the order of the file.
func (f *File) Tensors() []Tensor { return slices.Clone(f.tensors) }

// Tensor finds a tensor by its name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Digest is the SHA-256 of the whole file in lower-case hexadecimal. It reads every byte.
func (f *File) Digest() string {
	sum := sha256.Sum256(f.data)
	return hex.EncodeToString(sum[:])
}
