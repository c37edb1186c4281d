package learn

import (
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/llama"
)

// AdamW is how a step follows its gradient: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv
// 1711.05101), as PyTorch's torch.optim.AdamW.
type AdamW struct {
	Rate         float64 // of learning. Default 1e-3
	Beta1, Beta2 float64 // decay of the two moments. Defaults .9 and .98
	Epsilon      float64 // added to the root of the second moment. Default 1e-8
	Decay        float64 // of the weights, a step and unit of the rate; those of normalisations do not decay. Default 0
}

func (a *AdamW) fill() error {
	for _, f := range []struct {
		value *float64
		or    float64
	}{{&a.Rate, 1e-3}, {&a.Beta1, .9}, {&a.Beta2, .98}, {&a.Epsilon, 1e-8}} {
		if *f.value == 0 {
			*f.value = f.or
		}
	}
	switch {
	case !(a.Rate > 0) || math.IsInf(a.Rate, 0):
		return fmt.Errorf("learn: rate of learning is %v, must be positive", a.Rate)
	case !(a.Beta1 >= 0 && a.Beta1 < 1) || !(a.Beta2 >= 0 && a.Beta2 < 1):
		return fmt.Errorf("learn: betas of AdamW are %v and %v, must be at least 0 and below 1", a.Beta1, a.Beta2)
	case !(a.Epsilon > 0) || math.IsInf(a.Epsilon, 0):
		return fmt.Errorf("learn: epsilon of AdamW is %v, must be positive", a.Epsilon)
	case !(a.Decay >= 0) || math.IsInf(a.Decay, 0):
		return fmt.Errorf("learn: weight decay of AdamW is %v, must not be negative", a.Decay)
	}
	return nil
}

// moments are AdamW's running means of the gradients and of their squares.
type moments struct {
	updates       int // that were applied
	first, second [][]float32
}

func newMoments(params []llama.Parameter) *moments {
	m := &moments{}
	for _, p := range params {
		m.first = append(m.first, make([]float32, len(p.Value)))
		m.second = append(m.second, make([]float32, len(p.Value)))
	}
	return m
}

// update changes the parameters' values by the gradients times scale.
func (m *moments) update(a AdamW, rate float64, params []llama.Parameter, g llama.Gradients, scale float64) {
	m.updates++
	step := rate / (1 - math.Pow(a.Beta1, float64(m.updates)))
	root := 1 / math.Sqrt(1-math.Pow(a.Beta2, float64(m.updates)))
	for i, p := range params {
		decay := 1.
		if !p.Norm {
			decay = 1 - rate*a.Decay
		}
		first, second := m.first[i], m.second[i]
		for j, x := range g[i] {
			d := float64(x) * scale
			f := a.Beta1*float64(first[j]) + (1-a.Beta1)*d
			s := a.Beta2*float64(second[j]) + (1-a.Beta2)*d*d
			first[j], second[j] = float32(f), float32(s)
			p.Value[j] = float32(float64(p.Value[j])*decay - step*f/(math.Sqrt(s)*root+a.Epsilon))
		}
	}
}
