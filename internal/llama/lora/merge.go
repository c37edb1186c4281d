package lora

import (
	"errors"
	"fmt"
	"io"

	"github.com/r2rec/r2rec/internal/gguf"
)

const weight = ".weight"

// Fits tells whether the adapter is sound and every layer that it changes exists in the base model with the same shape.
// Which base model the adapter was learned on is left to Manifest.Check.
func (a *Adapter) Fits(base *gguf.File) error {
	if err := a.Check(); err != nil {
		return err
	}
	name, err := base.Metadata.String(keyArchitecture)
	if err != nil {
		return fmt.Errorf("base model: %w", err)
	}
	if name != a.architecture() {
		return fmt.Errorf("base model: its architecture is %.100q, and the adapter is for %q", name, a.architecture())
	}
	for _, p := range a.Pairs {
		t, ok := base.Tensor(p.Target + weight)
		if !ok {
			return fmt.Errorf("target %q: the base model has no tensor %q", p.Target, p.Target+weight)
		}
		if len(t.Shape) != 2 || t.Shape[0] != p.In || t.Shape[1] != p.Out {
			return fmt.Errorf("target %q: the adapter changes a layer of in %d, out %d, the base model has shape %v [in, out]", p.Target, p.In, p.Out, t.Shape)
		}
	}
	return nil
}

// MergeFile writes the merged model to a file, replacing path at once. See Merge.
func MergeFile(base *gguf.File, a *Adapter, path string) error {
	err := gguf.WriteFile(path, func(w io.Writer) error { return Merge(base, a, w) })
	if err != nil {
		return fmt.Errorf("write merged model %s: %w", path, err)
	}
	return nil
}

// Merge writes the base model with the adapter's change added to its weights, as GGUF. The changed tensors become F16:
// rounded back to a few bits, most of a small change would be lost. All others are copied byte for byte. Memory for a
// few rows is all it takes.
//
// The metadata stay, but for general.name, which says that it is merged, general.file_type, and the adapter's manifest,
// which is added.
func Merge(base *gguf.File, a *Adapter, w io.Writer) error {
	return merge(base, a, w, func(t gguf.Type) gguf.Type { return t })
}

// MergeF16 is Merge for servers that compute with quantized numbers where the weights are quantized, which hides small
// changes: those tensors that are not changed become F16, too, where they are quantized. Without an adapter, nil, that is
// all it does.
func MergeF16(base *gguf.File, a *Adapter, w io.Writer) error {
	return merge(base, a, w, func(t gguf.Type) gguf.Type {
		if Quantized(t) {
			return gguf.F16
		}
		return t
	})
}

// Quantized tells whether a tensor of this type holds fewer bits of each value than F16.
func Quantized(t gguf.Type) bool {
	values, _ := t.Block()
	return values > 1
}

// merge writes the tensors that the adapter changes as F16, and the others in the type that unchanged has for theirs.
func merge(base *gguf.File, a *Adapter, w io.Writer, unchanged func(gguf.Type) gguf.Type) error {
	changes := make(map[string]Pair)
	rank, scale := 0, float32(0)
	if a != nil {
		if err := a.Fits(base); err != nil {
			return err
		}
		for _, p := range a.Pairs {
			changes[p.Target+weight] = p
		}
		rank, scale = a.Rank, float32(a.Scale())
	}
	tensors := base.Tensors()
	for i, t := range tensors {
		if _, changed := changes[t.Name]; changed {
			tensors[i].Type = gguf.F16
		} else {
			tensors[i].Type = unchanged(t.Type)
		}
	}
	m, err := mergedMetadata(base, a, tensors)
	if err != nil {
		return err
	}
	out, err := gguf.NewWriter(w, m, tensors)
	if err != nil {
		return err
	}
	for i, t := range base.Tensors() {
		p, changed := changes[t.Name]
		if changed || tensors[i].Type != t.Type {
			err = mergeTensor(out, t, p, rank, scale)
		} else {
			err = out.WriteBytes(t.Name, t.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// mergeTensor writes W + scale * B A, some rows at a time; of a pair of rank 0, W.
func mergeTensor(out *gguf.Writer, t gguf.Tensor, p Pair, rank int, scale float32) error {
	if len(p.A) == 0 {
		rank = 0
	}
	in, all := t.Shape[0], t.Rows()
	const values = 1 << 16
	step := max(1, values/in)
	var rows []float32
	for first := 0; first < all; first += step {
		n := min(step, all-first)
		var err error
		if rows, err = t.RowsFloat32(rows, first, n); err != nil {
			return err
		}
		for i := range n {
			row := rows[i*in:][:in]
			for k := range rank {
				factor := scale * p.B[(first+i)*rank+k]
				for j, v := range p.A[k*in:][:in] {
					row[j] += float32(factor * v) // not fused: the same file on every processor
				}
			}
		}
		if err := out.WriteFloat32(t.Name, rows); err != nil {
			return err
		}
	}
	return nil
}

// mergedMetadata are those of the base, with what no longer holds changed.
func mergedMetadata(base *gguf.File, a *Adapter, merged []gguf.Tensor) (*gguf.Metadata, error) {
	const (
		keyName     = "general.name"
		keyFileType = "general.file_type"
		allF32      = 0 // llama.cpp's LLAMA_FTYPE_ALL_F32
		mostlyF16   = 1 // LLAMA_FTYPE_MOSTLY_F16
	)
	m := base.Metadata.Clone()
	switch name, err := m.String(keyName); {
	case err == nil && a != nil:
		gguf.Set(m, keyName, name+" (LoRA merged)")
	case err == nil:
	case !errors.Is(err, gguf.ErrMissing):
		return nil, err
	}
	switch before, err := m.Uint(keyFileType); {
	case err == nil:
		total, halves := 0, 0
		for _, t := range merged {
			total += t.Len()
			if t.Type == gguf.F16 {
				halves += t.Len()
			}
		}
		if before == allF32 || 2*halves > total {
			gguf.Set(m, keyFileType, uint32(mostlyF16))
		}
	case !errors.Is(err, gguf.ErrMissing):
		return nil, err
	}
	if a != nil {
		a.Manifest.set(m)
	}
	return m, nil
}
