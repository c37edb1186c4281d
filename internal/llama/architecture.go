package llama

import "fmt"

// The architectures that are computed here, by general.architecture.
const (
	archLlama = "llama"
	archQwen2 = "qwen2"
)

// checkArchitecture names what can be had instead of an architecture that is not computed here.
func checkArchitecture(name string) error {
	if name != archLlama && name != archQwen2 {
		return fmt.Errorf("general.architecture is %q; only %s and %s models are computed here", name, archLlama, archQwen2)
	}
	return nil
}

// biased tells whether queries, keys and values have biases.
func (c Config) biased() bool { return c.Architecture == archQwen2 }

// halves tells which numbers of a head turn together: the pair i is 2i and 2i+1 (llama.cpp's "norm"), or, with halves, i
// and i + Dims/2 ("neox").
func (c Config) halves() bool { return c.Architecture == archQwen2 }
