package kernel

import "math"

func dot(x, y []float32) float32 {
	switch active {
	case avx512:
		return dotAVX512(x, y)
	case avx2:
		return dotAVX2(x, y)
	default:
		return dotGeneric(x, y)
	}
}

func axpy(y []float32, alpha float32, x []float32) {
	switch active {
	case avx512:
		axpyAVX512(y, alpha, x)
	case avx2:
		axpyAVX2(y, alpha, x)
	default:
		axpyGeneric(y, alpha, x)
	}
}

func expSum(x []float32, scale, top float32) float32 {
	switch active {
	case avx512:
		return expSumAVX512(x, scale, top)
	case avx2:
		return expSumAVX2(x, scale, top)
	default:
		return expSumGeneric(x, scale, top)
	}
}

func scaleBy(x []float32, alpha float32) {
	switch active {
	case avx512:
		scaleByAVX512(x, alpha)
	case avx2:
		scaleByAVX2(x, alpha)
	default:
		scaleByGeneric(x, alpha)
	}
}

func mulScaled(dst, x, w []float32, alpha float32) {
	switch active {
	case avx512:
		mulScaledAVX512(dst, x, w, alpha)
	case avx2:
		mulScaledAVX2(dst, x, w, alpha)
	default:
		mulScaledGeneric(dst, x, w, alpha)
	}
}

func swiGLU(dst, gate, up []float32) {
	switch active {
	case avx512:
		swiGLUAVX512(dst, gate, up)
	case avx2:
		swiGLUAVX2(dst, gate, up)
	default:
		swiGLUGeneric(dst, gate, up)
	}
}

func swiGLUGrad(dgate, dup, d, gate, up []float32) {
	switch active {
	case avx512:
		swiGLUGradAVX512(dgate, dup, d, gate, up)
	case avx2:
		swiGLUGradAVX2(dgate, dup, d, gate, up)
	default:
		swiGLUGradGeneric(dgate, dup, d, gate, up)
	}
}

func softmaxGrad(d, p []float32, scale, mean float32) {
	switch active {
	case avx512:
		softmaxGradAVX512(d, p, scale, mean)
	case avx2:
		softmaxGradAVX2(d, p, scale, mean)
	default:
		softmaxGradGeneric(d, p, scale, mean)
	}
}

func largest(x []float32) float32 {
	var top float32
	var twice uint32
	switch {
	case active == avx512 && len(x) >= 16:
		top, twice = largestAVX512(x)
	case active == avx2 && len(x) >= 8:
		top, twice = largestAVX2(x)
	default:
		return largestGeneric(x)
	}
	if twice > 0xff<<24 { // twice the bits of infinity
		return float32(math.NaN())
	}
	return top
}
