package kernel

import "math"

// Dot is the sum of x[i] y[i]; y is at least as long as x.
func Dot(x, y []float32) float32 {
	var sum float32
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// Axpy adds alpha x[i] to y[i].
func Axpy(y []float32, alpha float32, x []float32) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

// Max is the largest element; -Inf of none.
func Max(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		top = max(top, v)
	}
	return top
}

// ExpSum replaces x[i] by exp(scale (x[i] - top)) and returns their sum. Arguments of exp are at most 0 where top is the
// largest element; below -87 the result is 0.
func ExpSum(x []float32, scale, top float32) float32 {
	var sum float32
	for i, v := range x {
		x[i] = float32(math.Exp(float64(scale * (v - top))))
		sum += x[i]
	}
	return sum
}

// Scale multiplies x[i] by alpha.
func Scale(x []float32, alpha float32) {
	for i := range x {
		x[i] *= alpha
	}
}

// MulScaled computes dst[i] = alpha x[i] w[i], the last step of RMS normalisation.
func MulScaled(dst, x, w []float32, alpha float32) {
	for i, v := range x {
		dst[i] = alpha * v * w[i]
	}
}

// SwiGLU computes dst[i] = silu(gate[i]) up[i], with silu(x) = x / (1 + exp(-x)) (Shazeer 2020, "GLU variants improve
// transformer").
func SwiGLU(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g / (1 + float32(math.Exp(float64(-g)))) * up[i]
	}
}

// SwiGLUGrad turns the gradient d of SwiGLU's result into those of its inputs: dgate[i] = d[i] up[i] silu'(gate[i]) and
// dup[i] = d[i] silu(gate[i]), with silu'(x) = s (1 + x (1 - s)), s = 1 / (1 + exp(-x)). dgate may be gate itself, and
// dup up.
func SwiGLUGrad(dgate, dup, d, gate, up []float32) {
	for i, g := range gate {
		s := 1 / (1 + float32(math.Exp(float64(-g))))
		u := up[i]
		dgate[i] = d[i] * u * s * (1 + g*(1-s))
		dup[i] = d[i] * g * s
	}
}

// SoftmaxGrad turns the gradient d of a softmax's result p into that of its input, times scale, in place:
// d[i] = scale p[i] (d[i] - mean), where mean is the sum of p[j] d[j].
func SoftmaxGrad(d, p []float32, scale, mean float32) {
	for i, v := range p {
		d[i] = scale * v * (d[i] - mean)
	}
}
