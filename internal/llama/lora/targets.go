package lora

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
)

// target is a linear layer that an adapter can change.
type target struct {
	block  int    // -1 for the output layer
	module string // GGUF name within the block, such as "attn_q", or "output"
}

// modules pairs the names of a block's linear layers in GGUF with those in Hugging Face's llama and qwen2.
var modules = []struct{ gguf, peft string }{
	{"attn_q", "self_attn.q_proj"},
	{"attn_k", "self_attn.k_proj"},
	{"attn_v", "self_attn.v_proj"},
	{"attn_output", "self_attn.o_proj"},
	{"ffn_gate", "mlp.gate_proj"},
	{"ffn_up", "mlp.up_proj"},
	{"ffn_down", "mlp.down_proj"},
}

const (
	output   = "output"
	lmHead   = "lm_head"
	ofBlock  = "blk."
	ofLayers = "model.layers."
)

var decimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,4})$`)

// parseTarget reads the GGUF name of a layer without ".weight".
func parseTarget(name string) (target, error) {
	if name == output {
		return target{-1, output}, nil
	}
	if rest, ok := strings.CutPrefix(name, ofBlock); ok {
		block, module, _ := strings.Cut(rest, ".")
		for _, m := range modules {
			if m.gguf == module && decimal.MatchString(block) {
				n, err := strconv.Atoi(block)
				return target{n, module}, err
			}
		}
	}
	return target{}, fmt.Errorf("target %.100q is no linear layer of a llama or qwen2 model, such as blk.0.attn_q", name)
}

// parsePEFT reads the Hugging Face name of a layer.
func parsePEFT(name string) (target, error) {
	if name == lmHead {
		return target{-1, output}, nil
	}
	if rest, ok := strings.CutPrefix(name, ofLayers); ok {
		layer, module, _ := strings.Cut(rest, ".")
		for _, m := range modules {
			if m.peft == module && decimal.MatchString(layer) {
				n, err := strconv.Atoi(layer)
				return target{n, m.gguf}, err
			}
		}
	}
	return target{}, fmt.Errorf("target %.100q is no linear layer of a llama or qwen2 model, such as model.layers.0.self_attn.q_proj", name)
}

// String is the GGUF name of the layer without ".weight".
func (t target) String() string {
	if t.block < 0 {
		return t.module
	}
	return ofBlock + strconv.Itoa(t.block) + "." + t.module
}

// peft is the Hugging Face name of the layer.
func (t target) peft() string {
	for _, m := range modules {
		if m.gguf == t.module {
			return ofLayers + strconv.Itoa(t.block) + "." + m.peft
		}
	}
	return lmHead
}

// Heads are the numbers of attention heads of a model, and its architecture. They decide the order of the rows of q and k:
// Hugging Face has the two halves of a head's rotary pairs one after the other, and so has GGUF for qwen2; for llama it
// has the pairs side by side.
type Heads struct {
	Query, KV    int
	Architecture string // as in Adapter
}

// HeadsOf reads them from a model's metadata.
func HeadsOf(base *gguf.File) (Heads, error) {
	const maxHeads = 1 << 16
	name, err := base.Metadata.String(keyArchitecture)
	if err != nil {
		return Heads{}, err
	}
	if err := adapts(name); err != nil {
		return Heads{}, fmt.Errorf("base model: its architecture is %w", err)
	}
	query, err := base.Metadata.Uint(name + ".attention.head_count")
	if err != nil {
		return Heads{}, err
	}
	kv := query
	if key := name + ".attention.head_count_kv"; base.Metadata.Has(key) {
		if kv, err = base.Metadata.Uint(key); err != nil {
			return Heads{}, err
		}
	}
	if query < 1 || query > maxHeads || kv < 1 || kv > maxHeads {
		return Heads{}, fmt.Errorf("the model has %d query and %d key heads: want 1 to %d of each", query, kv, maxHeads)
	}
	return Heads{int(query), int(kv), name}, nil
}

// of is the number of heads that the rows of a layer are permuted in, 0 for none.
func (h Heads) of(t target) int {
	switch {
	case h.Architecture == archQwen2:
	case t.module == "attn_q":
		return h.Query
	case t.module == "attn_k":
		return h.KV
	}
	return 0
}

// reorder returns the rows of B, of length rank, in GGUF's order or back in Hugging Face's. With the rows of a head
// numbered (half, i) in Hugging Face's order, they are (i, half) in GGUF's; see permute in llama.cpp's converter.
func reorder(b []float32, rank, heads int, toGGUF bool) ([]float32, error) {
	if heads == 0 {
		return b, nil
	}
	out := len(b) / rank
	if heads < 0 || out%(2*heads) != 0 {
		return nil, fmt.Errorf("%d rows cannot be split into %d heads of an even number of rows", out, heads)
	}
	pairs := out / heads / 2
	to := make([]float32, len(b))
	for h := range heads {
		for half := range 2 {
			for i := range pairs {
				hf, ours := (2*h+half)*pairs+i, 2*(h*pairs+i)+half
				if toGGUF {
					copy(to[ours*rank:][:rank], b[hf*rank:])
				} else {
					copy(to[hf*rank:][:rank], b[ours*rank:])
				}
			}
		}
	}
	return to, nil
}
