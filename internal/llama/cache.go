package llama

import (
	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// cache holds the keys and values of the positions that were read, for all layers. Keys stand transposed, because the
// product with the queries reads them so.
type cache struct {
	c        Config
	capacity int
	keys     []float32 // layer, kv head, dimension, position
	values   []float32 // layer, position, kv head, dimension
}

func newCache(c Config, capacity int) *cache {
	n := c.Layers * c.KV() * capacity
	return &cache{c: c, capacity: capacity, keys: make([]float32, n), values: make([]float32, n)}
}

// keysOf are the keys of one head of a layer: head dim x capacity.
func (k *cache) keysOf(layer, head int) kernel.Matrix {
	d := k.c.HeadDim
	at := (layer*k.c.KVHeads + head) * d * k.capacity
	return kernel.View(k.keys[at:at+d*k.capacity], d, k.capacity)
}

// valuesOf are all values of a layer: capacity x kv.
func (k *cache) valuesOf(layer int) kernel.Matrix {
	n := k.capacity * k.c.KV()
	return kernel.View(k.values[layer*n:(layer+1)*n], k.capacity, k.c.KV())
}

// store keeps the keys, rows x kv, of the positions from past on.
func (k *cache) store(layer, past int, keys kernel.Matrix) {
	for h := range k.c.KVHeads {
		to := k.keysOf(layer, h).Columns(past, past+keys.Rows)
		kernel.Transpose(to, keys.Columns(h*k.c.HeadDim, (h+1)*k.c.HeadDim))
	}
}
