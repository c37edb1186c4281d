package kernel

// panel is C (+)= A B for at most panelCols columns.
func panel(m, n, k int, a []float32, rs, cs int, b []float32, ldb int, c []float32, ldc int, add bool) {
	switch active {
	case avx512:
		if n > 16 {
			productAVX512x32Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, n-16)
		} else {
			productAVX512x16Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, n)
		}
	case avx2:
		for ; n > 0; n -= 16 {
			switch {
			case n >= 16:
				productAVX2x16(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add)
			case n > 8:
				productAVX2x16Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, n-8)
			default:
				productAVX2x8Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, n)
			}
			if n > 16 {
				b, c = b[16:], c[16:]
			}
		}
	default:
		panelGeneric(m, n, k, a, rs, cs, b, ldb, c, ldc, add)
	}
}
