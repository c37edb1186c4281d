package kernel

// Wherever an operation takes several slices, one names how many elements there are: x, gate or p. The others are at
// least as long, and may be the same memory but must not overlap otherwise.
//
// exp is right to 1e-7 of its value in every version. It is 0 below -87.3, where the result would be no normal number,
// infinite above 88.7, and NaN of NaN.

// Dot is the sum of x[i] y[i].
func Dot(x, y []float32) float32 {
	return dot(x, first(y, len(x)))
}

// Axpy adds alpha x[i] to y[i].
func Axpy(y []float32, alpha float32, x []float32) {
	axpy(first(y, len(x)), alpha, x)
}

// Max is the largest element: -Inf of none, NaN where one is NaN.
func Max(x []float32) float32 {
	return largest(x)
}

// ExpSum replaces x[i] by exp(scale (x[i] - top)) and returns their sum. Where top is the largest
// element, that is a softmax but for the division by the sum.
func ExpSum(x []float32, scale, top float32) float32 {
	return expSum(x, scale, top)
}

// Scale multiplies x[i] by alpha.
func Scale(x []float32, alpha float32) {
	scaleBy(x, alpha)
}

// MulScaled computes dst[i] = alpha x[i] w[i], the last step of RMS normalisation.
func MulScaled(dst, x, w []float32, alpha float32) {
	mulScaled(first(dst, len(x)), x, first(w, len(x)), alpha)
}

// SwiGLU computes dst[i] = silu(gate[i]) up[i], with silu(x) = x / (1 + exp(-x)) (Shazeer 2020, "GLU variants improve
// transformer").
func SwiGLU(dst, gate, up []float32) {
	n := len(gate)
	swiGLU(first(dst, n), gate, first(up, n))
}

// SwiGLUGrad turns the gradient d of SwiGLU's result into those of its inputs: dgate[i] = d[i] up[i] silu'(gate[i]) and
// dup[i] = d[i] silu(gate[i]), with silu'(x) = s (1 + x (1 - s)), s = 1 / (1 + exp(-x)). dgate may be gate itself, and
// dup up.
func SwiGLUGrad(dgate, dup, d, gate, up []float32) {
	n := len(gate)
	swiGLUGrad(first(dgate, n), first(dup, n), first(d, n), gate, first(up, n))
}

// SoftmaxGrad turns the gradient d of a softmax's result p into that of its input, times scale, in place:
// d[i] = scale p[i] (d[i] - mean), where mean is the sum of p[j] d[j].
func SoftmaxGrad(d, p []float32, scale, mean float32) {
	softmaxGrad(first(d, len(p)), p, scale, mean)
}

// first is the first n elements of x, and panics where there are fewer, which the kernels would not notice.
func first(x []float32, n int) []float32 { return x[:len(x):len(x)][:n] }
