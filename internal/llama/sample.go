package llama

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// minTemperature is one whose inverse is far from the largest float32.
const minTemperature = 1e-6

// sampler draws tokens.
type sampler struct {
	temperature float64
	topK        int
	topP, minP  float64
	random      *rand.Rand
	allowed     []int32   // ascending, each once
	choices     []choice  // scratch
	weights     []float32 // scratch
}

func newSampler(o GenerateOptions, vocabulary int) (*sampler, error) {
	switch {
	case !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		return nil, fmt.Errorf("temperature is %v, must not be negative", o.Temperature)
	case o.TopK < 0:
		return nil, fmt.Errorf("top k is %d, must be 1 or more, or 0 for all", o.TopK)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return nil, fmt.Errorf("top p is %v, must be 0 to 1", o.TopP)
	case !(o.MinP >= 0 && o.MinP <= 1):
		return nil, fmt.Errorf("min p is %v, must be 0 to 1", o.MinP)
	}
	s := &sampler{temperature: o.Temperature, topK: o.TopK, topP: o.TopP, minP: o.MinP, random: rand.New(rand.NewPCG(o.Seed, 0x67656e6572617465))}
	if o.Allowed == nil {
		s.allowed = make([]int32, vocabulary)
		for id := range s.allowed {
			s.allowed[id] = int32(id)
		}
		return s, nil
	}
	if len(o.Allowed) == 0 {
		return nil, errors.New("no token is allowed: name some, or allow all by leaving Allowed nil")
	}
	s.allowed = slices.Clone(o.Allowed)
	slices.Sort(s.allowed)
	s.allowed = slices.Compact(s.allowed)
	if first, last := s.allowed[0], s.allowed[len(s.allowed)-1]; first < 0 || int(last) >= vocabulary {
		return nil, fmt.Errorf("allowed tokens are %d to %d: the vocabulary has 0 to %d", first, last, vocabulary-1)
	}
	return s, nil
}

// pick draws a token by its logits, which are finite.
func (s *sampler) pick(z []float32) int32 {
	if s.temperature == 0 {
		best := s.allowed[0]
		for _, id := range s.allowed[1:] {
			if z[id] > z[best] {
				best = id
			}
		}
		return best
	}
	if s.topK == 0 && s.minP == 0 && (s.topP == 0 || s.topP == 1) && s.temperature > minTemperature {
		return s.pickOfAll(z)
	}
	c := s.choices[:0]
	for _, id := range s.allowed {
		c = append(c, choice{id, float64(z[id])})
	}
	s.choices = c
	if s.topK > 0 && s.topK < len(c) {
		c = likeliest(s.topK, c)
	}
	top := slices.MinFunc(c, choice.compare).weight
	for i := range c {
		c[i].weight = math.Exp((c[i].weight - top) / s.temperature) // the largest is 1
	}
	if s.topP > 0 && s.topP < 1 {
		c = nucleus(c, s.topP)
	}
	c = slices.DeleteFunc(c, func(x choice) bool { return x.weight == 0 || x.weight < s.minP })
	at := s.random.Float64() * sum(c)
	for _, x := range c[:len(c)-1] {
		if at -= x.weight; at < 0 {
			return x.id
		}
	}
	return c[len(c)-1].id
}

// pickOfAll draws from all that is allowed.
func (s *sampler) pickOfAll(z []float32) int32 {
	w := s.weights[:0]
	for _, id := range s.allowed {
		w = append(w, z[id])
	}
	s.weights = w
	kernel.ExpSum(w, float32(1/s.temperature), kernel.Max(w)) // the largest is 1
	total := 0.
	for _, x := range w {
		total += float64(x)
	}
	at, last := s.random.Float64()*total, 0
	for i, x := range w {
		if x == 0 {
			continue
		}
		if last = i; at < float64(x) {
			break
		}
		at -= float64(x)
	}
	return s.allowed[last]
}

// nucleus is the smallest set of the likeliest tokens whose share of all weight is at least p (Holtzman et al. 2020, "The
// curious case of neural text degeneration", arXiv 1904.09751), from the likeliest on.
func nucleus(c []choice, p float64) []choice {
	total := sum(c)
	// Tokens below this share together have less than 1 - p, so none of them is in the set, and few are left to sort.
	least := (1 - p) * total / float64(len(c))
	c = slices.DeleteFunc(c, func(x choice) bool { return x.weight < least })
	slices.SortFunc(c, choice.compare)
	reached := 0.
	for i, x := range c {
		if reached += x.weight; reached >= p*total {
			return c[:i+1]
		}
	}
	return c
}

// choice is a token that may be drawn.
type choice struct {
	id     int32
	weight float64
}

// compare puts the likelier first, and the smaller id of two alike.
func (a choice) compare(b choice) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
}

func sum(c []choice) float64 {
	total := 0.
	for _, x := range c {
		total += x.weight
	}
	return total
}

// likeliest moves the first n by compare to the front, in order, and returns them.
func likeliest(n int, c []choice) []choice {
	first := c[:n]
	var h heap.Interface = lastOnTop(first)
	heap.Init(h)
	for i := n; i < len(c); i++ {
		if c[i].compare(first[0]) < 0 {
			c[i], first[0] = first[0], c[i]
			heap.Fix(h, 0)
		}
	}
	slices.SortFunc(first, choice.compare)
	return first
}

// lastOnTop is a heap of a fixed size.
type lastOnTop []choice

func (h lastOnTop) Len() int           { return len(h) }
func (h lastOnTop) Less(i, j int) bool { return h[i].compare(h[j]) > 0 }
func (h lastOnTop) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h lastOnTop) Push(any)           { panic("llama: the heap has a fixed size") }
func (h lastOnTop) Pop() any           { panic("llama: the heap has a fixed size") }
