package kernel

import "golang.org/x/sys/cpu"

//go:generate go run ./gen -out kernel_amd64.s -stubs kernel_amd64.go -pkg kernel

// fastest asks the processor; package cpu also checks that the operating system saves the wide registers.
func fastest() version {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA:
		return generic
	case !x.HasAVX512F || !x.HasAVX512DQ || !x.HasAVX512BW || !x.HasAVX512VL:
		return avx2
	}
	return avx512
}

// lanes holds AVX2's masks: the one for the first n of 8 lanes starts at 8-n.
var lanes = [16]int32{-1, -1, -1, -1, -1, -1, -1, -1}

// panel is C (+)= A B for at most panelCols columns.
func panel(m, n, k int, a []float32, rs, cs int, b []float32, ldb int, c []float32, ldc int, add bool) {
	switch active {
	case avx512:
		if n > 16 {
			productAVX512x32Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, 1<<(n-16)-1)
		} else {
			productAVX512x16Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, 1<<n-1)
		}
	case avx2:
		for ; n > 0; n -= 16 {
			switch {
			case n >= 16:
				productAVX2x16(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add)
			case n > 8:
				productAVX2x16Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, &lanes[16-n])
			default:
				productAVX2x8Masked(m, k, &a[0], rs, cs, &b[0], ldb, &c[0], ldc, add, &lanes[8-n])
			}
			if n > 16 {
				b, c = b[16:], c[16:]
			}
		}
	default:
		panelGeneric(m, n, k, a, rs, cs, b, ldb, c, ldc, add)
	}
}
