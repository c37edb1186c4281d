//go:build !amd64

package kernel

func fastest() version { return generic }

func panel(m, n, k int, a []float32, rs, cs int, b []float32, ldb int, c []float32, ldc int, add bool) {
	panelGeneric(m, n, k, a, rs, cs, b, ldb, c, ldc, add)
}

func dot(x, y []float32) float32 { return dotGeneric(x, y) }

func axpy(y []float32, alpha float32, x []float32) { axpyGeneric(y, alpha, x) }

func largest(x []float32) float32 { return largestGeneric(x) }

func expSum(x []float32, scale, top float32) float32 { return expSumGeneric(x, scale, top) }

func scaleBy(x []float32, alpha float32) { scaleByGeneric(x, alpha) }

func mulScaled(dst, x, w []float32, alpha float32) { mulScaledGeneric(dst, x, w, alpha) }

func swiGLU(dst, gate, up []float32) { swiGLUGeneric(dst, gate, up) }

func swiGLUGrad(dgate, dup, d, gate, up []float32) { swiGLUGradGeneric(dgate, dup, d, gate, up) }

func softmaxGrad(d, p []float32, scale, mean float32) { softmaxGradGeneric(d, p, scale, mean) }

func fmaLoop(rounds int) (flops float64) { return fmaLoopGeneric(rounds) }

// vectorCodes is what the generic version does for any number of rows.
func vectorCodes([]float32, int, int, []byte, []float32, []float32) {
	panic("kernel: no version for one row")
}

func expandPanel(k, bits, block int, codes []byte, scales []float32, dst []float32) {
	expandPanelGeneric(k, bits, block, codes, scales, dst)
}

func expandRow(bits, block int, codes []byte, scales []float32, dst []float32) {
	expandRowGeneric(bits, block, codes, scales, dst)
}

func dotCodes(int, int, []byte, []float32, []float32) (sum float32, ok bool) { return 0, false }
