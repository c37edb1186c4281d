//go:build !amd64

package kernel

func fastest() version { return generic }

// panel is C (+)= A B for at most panelCols columns.
func panel(m, n, k int, a []float32, rs, cs int, b []float32, ldb int, c []float32, ldc int, add bool) {
	panelGeneric(m, n, k, a, rs, cs, b, ldb, c, ldc, add)
}
