package lora

import (
	"bytes"
	"testing"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/safetensors"
)

// small is an adapter whose files are short enough to fuzz.
func small() *Adapter {
	return &Adapter{Rank: 1, Alpha: 2, Manifest: manifest, Pairs: []Pair{
		{Target: "blk.0.attn_q", In: 2, Out: 8, A: numbers(2, 1), B: numbers(8, 2)},
		{Target: "output", In: 2, Out: 3, A: numbers(2, 3), B: numbers(3, 4)},
	}}
}

// No GGUF file crashes the reader, and what it reads can be written again.
func FuzzFromGGUF(f *testing.F) {
	var seed bytes.Buffer
	if err := WriteGGUF(&seed, small()); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse(data)
		if err != nil {
			return
		}
		a, err := FromGGUF(file)
		if err != nil {
			return
		}
		if err := WriteGGUF(new(bytes.Buffer), a); err != nil {
			t.Fatal(err)
		}
	})
}

// No safetensors file crashes the reader, and the shapes of what it reads are those that it states.
func FuzzPairsFromPEFT(f *testing.F) {
	tensors, _, err := peftTensors(small(), heads)
	if err != nil {
		f.Fatal(err)
	}
	var seed bytes.Buffer
	if err := safetensors.Write(&seed, nil, tensors); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes(), 1)
	f.Fuzz(func(t *testing.T, data []byte, rank int) {
		pairs, err := pairsFromPEFT(data, rank, heads)
		if err != nil {
			return
		}
		for _, p := range pairs {
			if len(p.A) != rank*p.In || len(p.B) != p.Out*rank {
				t.Fatalf("%q: in %d, out %d, rank %d: A has %d and B has %d values", p.Target, p.In, p.Out, rank, len(p.A), len(p.B))
			}
		}
	})
}
