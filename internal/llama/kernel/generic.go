package kernel

import "math"

// What the exported functions compute, in plain Go.

// panelGeneric is panel in plain Go.
func panelGeneric(m, n, k int, a []float32, rs, cs int, b []float32, ldb int, c []float32, ldc int, add bool) {
	for i := range m {
		row := c[i*ldc:][:n]
		if !add {
			clear(row)
		}
		for p := range k {
			x := a[i*rs+p*cs]
			for j, y := range b[p*ldb:][:n] {
				row[j] += x * y
			}
		}
	}
}

func dotGeneric(x, y []float32) float32 {
	var sum float32
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

func axpyGeneric(y []float32, alpha float32, x []float32) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

func largestGeneric(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		top = max(top, v)
	}
	return top
}

// expLow is the logarithm of the smallest normal number.
const expLow = -87.33654

func exp(x float32) float32 {
	if x < expLow {
		return 0
	}
	return float32(math.Exp(float64(x)))
}

func expSumGeneric(x []float32, scale, top float32) float32 {
	var sum float32
	for i, v := range x {
		x[i] = exp(scale * (v - top))
		sum += x[i]
	}
	return sum
}

func scaleByGeneric(x []float32, alpha float32) {
	for i := range x {
		x[i] *= alpha
	}
}

func mulScaledGeneric(dst, x, w []float32, alpha float32) {
	for i, v := range x {
		dst[i] = alpha * v * w[i]
	}
}

func swiGLUGeneric(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g / (1 + exp(-g)) * up[i]
	}
}

func swiGLUGradGeneric(dgate, dup, d, gate, up []float32) {
	for i, g := range gate {
		s := 1 / (1 + exp(-g))
		u := up[i]
		dgate[i] = d[i] * u * s * (1 + g*(1-s))
		dup[i] = d[i] * g * s
	}
}

func softmaxGradGeneric(d, p []float32, scale, mean float32) {
	for i, v := range p {
		d[i] = scale * v * (d[i] - mean)
	}
}
