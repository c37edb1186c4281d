// Package lora keeps LoRA adapters as data and as files: low-rank changes of the linear layers of a llama or qwen2 model
// (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021), in the GGUF form that llama.cpp and Ollama load
// and in the PEFT form of Hugging Face, or merged into a whole model.
//
// It promises that an adapter that was read is sound: known layers, one rank, matching shapes, finite numbers. Fits holds
// it against the base model, Manifest.Check against what a server does with it.
//
// Applying an adapter in a forward pass and learning one are left to internal/llama.
package lora

import (
	"cmp"
	"errors"
	"fmt"
	"math"
)

// Adapter is a low-rank change of some of a model's linear layers: W + Alpha/Rank * B A.
type Adapter struct {
	Architecture string // of the base model: "llama", which empty counts as, or "qwen2"
	Rank         int
	Alpha        float64 // positive, and a float32 in files
	Pairs        []Pair
	Manifest     Manifest
}

// Pair is the change of one layer.
type Pair struct {
	Target  string // GGUF name of the layer without ".weight", such as "blk.0.attn_q"
	In, Out int
	A       []float32 // Rank x In, row-major
	B       []float32 // Out x Rank, row-major, rows in the order of the GGUF file
}

// Scale is the factor of B A: Alpha/Rank.
func (a *Adapter) Scale() float64 { return a.Alpha / float64(a.Rank) }

const (
	archLlama = "llama"
	archQwen2 = "qwen2"
)

func (a *Adapter) architecture() string { return cmp.Or(a.Architecture, archLlama) }

// adapts refuses an architecture that no adapter here is for.
func adapts(name string) error {
	if name != archLlama && name != archQwen2 {
		return fmt.Errorf("%.100q: adapters are for %q and %q", name, archLlama, archQwen2)
	}
	return nil
}

// Check tells whether the adapter is sound in itself. An error names the target and what is wrong with it.
func (a *Adapter) Check() error {
	if err := adapts(a.architecture()); err != nil {
		return fmt.Errorf("architecture %w", err)
	}
	if len(a.Pairs) == 0 {
		return errors.New("the adapter changes no layer")
	}
	if a.Rank < 1 {
		return fmt.Errorf("rank %d: want 1 or more", a.Rank)
	}
	// llama.cpp takes 0 to mean that the change is not scaled at all.
	if alpha := float32(a.Alpha); !(alpha > 0) || math.IsInf(float64(alpha), 0) {
		return fmt.Errorf("alpha %v: want a positive number within float32", a.Alpha)
	}
	if err := a.Manifest.check(); err != nil {
		return err
	}
	seen := make(map[string]bool, len(a.Pairs))
	for _, p := range a.Pairs {
		if _, err := parseTarget(p.Target); err != nil {
			return err
		}
		if seen[p.Target] {
			return fmt.Errorf("target %q stands twice", p.Target)
		}
		seen[p.Target] = true
		if err := p.check(a.Rank); err != nil {
			return fmt.Errorf("target %q: %w", p.Target, err)
		}
	}
	return nil
}

func (p Pair) check(rank int) error {
	if p.In < 1 || p.Out < 1 || len(p.A)/p.In != rank || len(p.A)%p.In != 0 || len(p.B)/p.Out != rank || len(p.B)%p.Out != 0 {
		return fmt.Errorf("in %d, out %d, rank %d: A has %d and B has %d values", p.In, p.Out, rank, len(p.A), len(p.B))
	}
	if i := notFinite(p.A); i >= 0 {
		return fmt.Errorf("A[%d][%d] is %v", i/p.In, i%p.In, p.A[i])
	}
	if i := notFinite(p.B); i >= 0 {
		return fmt.Errorf("B[%d][%d] is %v", i/rank, i%rank, p.B[i])
	}
	return nil
}

// notFinite is the index of the first NaN or infinity, or -1.
func notFinite(values []float32) int {
	for i, v := range values {
		if v-v != 0 {
			return i
		}
	}
	return -1
}
