package kernel

func fmaLoop(rounds int) (flops float64) {
	switch active {
	case avx512:
		fmaAVX512(rounds)
		return float64(rounds) * 12 * 16 * 2
	case avx2:
		fmaAVX2(rounds)
		return float64(rounds) * 12 * 8 * 2
	}
	return fmaLoopGeneric(rounds)
}
