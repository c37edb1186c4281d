package lora

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
)

const (
	suffixA = ".weight.lora_a"
	suffixB = ".weight.lora_b"

	keyType         = "general.type"
	keyArchitecture = "general.architecture"
	keyAdapterType  = "adapter.type"
	keyAlpha        = "adapter.lora.alpha"
	// An activated adapter works only after certain tokens, which none of our readers knows.
	keyActivated = "adapter.alora.invocation_tokens"
)

// Read reads an adapter from a GGUF file.
func Read(path string) (*Adapter, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	a, err := FromGGUF(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read adapter %s: %w", path, err)
	}
	return a, nil
}

// Write writes an adapter as a GGUF file that llama.cpp and Ollama load, replacing path at once.
func Write(path string, a *Adapter) error {
	err := gguf.WriteFile(path, func(w io.Writer) error { return WriteGGUF(w, a) })
	if err != nil {
		return fmt.Errorf("write adapter %s: %w", path, err)
	}
	return nil
}

// FromGGUF reads an adapter from a file with the tensors lora_a, of shape [in, rank], and lora_b, of shape [rank, out],
// of each layer, in any type whose numbers can be read.
func FromGGUF(f *gguf.File) (*Adapter, error) {
	for _, want := range [][2]string{{keyType, "adapter"}, {keyAdapterType, "lora"}} {
		got, err := f.Metadata.String(want[0])
		if err != nil {
			return nil, err
		}
		if got != want[1] {
			return nil, fmt.Errorf("metadata key %q is %.100q: want %q", want[0], got, want[1])
		}
	}
	if f.Metadata.Has(keyActivated) {
		return nil, fmt.Errorf("metadata key %q: adapters that start at a token are not supported", keyActivated)
	}
	a := new(Adapter)
	var err error
	if a.Architecture, err = f.Metadata.String(keyArchitecture); err != nil {
		return nil, err
	}
	if err := adapts(a.Architecture); err != nil {
		return nil, fmt.Errorf("metadata key %q is %w", keyArchitecture, err)
	}
	if a.Alpha, err = f.Metadata.Float(keyAlpha); err != nil {
		return nil, err
	}
	if a.Manifest, err = manifestFrom(f.Metadata); err != nil {
		return nil, err
	}
	for _, t := range f.Tensors() {
		name, isA := strings.CutSuffix(t.Name, suffixA)
		if !isA {
			if err := checkPartner(f, t.Name); err != nil {
				return nil, err
			}
			continue
		}
		p, rank, err := readPair(f, name, t)
		if err != nil {
			return nil, fmt.Errorf("target %.100q: %w", name, err)
		}
		if len(a.Pairs) > 0 && rank != a.Rank {
			return nil, fmt.Errorf("target %.100q has rank %d, %q has %d: mixed ranks are not supported", name, rank, a.Pairs[0].Target, a.Rank)
		}
		a.Rank = rank
		a.Pairs = append(a.Pairs, p)
	}
	return a, a.Check()
}

// checkPartner refuses a tensor that is neither an A nor the B of one.
func checkPartner(f *gguf.File, name string) error {
	target, isB := strings.CutSuffix(name, suffixB)
	if !isB {
		return fmt.Errorf("tensor %.100q is no part of a LoRA pair: want names such as blk.0.attn_q%s", name, suffixA)
	}
	if _, ok := f.Tensor(target + suffixA); !ok {
		return fmt.Errorf("target %.100q has a lora_b but no lora_a", target)
	}
	return nil
}

func readPair(f *gguf.File, name string, ta gguf.Tensor) (Pair, int, error) {
	tb, ok := f.Tensor(name + suffixB)
	if !ok {
		return Pair{}, 0, errors.New("has a lora_a but no lora_b")
	}
	if len(ta.Shape) != 2 || len(tb.Shape) != 2 || ta.Shape[1] != tb.Shape[0] {
		return Pair{}, 0, fmt.Errorf("lora_a has shape %v, lora_b %v: want [in, rank] and [rank, out]", ta.Shape, tb.Shape)
	}
	p := Pair{Target: name, In: ta.Shape[0], Out: tb.Shape[1]}
	var err error
	if p.A, err = ta.Float32(nil); err != nil {
		return p, 0, err
	}
	p.B, err = tb.Float32(nil)
	return p, tb.Shape[0], err
}

// WriteGGUF writes an adapter as a GGUF file that llama.cpp and Ollama load, its tensors in F32.
func WriteGGUF(w io.Writer, a *Adapter) error {
	if err := a.Check(); err != nil {
		return err
	}
	m := new(gguf.Metadata)
	gguf.Set(m, keyType, "adapter")
	gguf.Set(m, keyArchitecture, a.architecture())
	gguf.Set(m, keyAdapterType, "lora")
	gguf.Set(m, keyAlpha, float32(a.Alpha))
	a.Manifest.set(m)
	var tensors []gguf.Tensor
	for _, p := range a.Pairs {
		tensors = append(tensors,
			gguf.Tensor{Name: p.Target + suffixA, Type: gguf.F32, Shape: []int{p.In, a.Rank}},
			gguf.Tensor{Name: p.Target + suffixB, Type: gguf.F32, Shape: []int{a.Rank, p.Out}})
	}
	out, err := gguf.NewWriter(w, m, tensors)
	if err != nil {
		return err
	}
	for _, p := range a.Pairs {
		if err := out.WriteFloat32(p.Target+suffixA, p.A); err != nil {
			return err
		}
		if err := out.WriteFloat32(p.Target+suffixB, p.B); err != nil {
			return err
		}
	}
	return out.Close()
}
