package kernel

// vectorCodes adds the product of a row and a panel of codes to the panelCols elements of c.
func vectorCodes(x []float32, bits, block int, codes []byte, scales []float32, c []float32) {
	_, _, _ = codes[len(x)*panelCols*bits/8-1], scales[len(x)/block*2*panelCols-1], c[panelCols-1]
	if bits == 4 {
		vectorCodes4xAVX2(len(x), &x[0], &codes[0], &scales[0], block, &c[0])
	} else {
		vectorCodes8xAVX2(len(x), &x[0], &codes[0], &scales[0], block, &c[0])
	}
}

// expandPanel writes the numbers of k rows of a panel.
func expandPanel(k, bits, block int, codes []byte, scales []float32, dst []float32) {
	_, _, _ = codes[k*panelCols*bits/8-1], scales[k/block*2*panelCols-1], dst[k*panelCols-1]
	switch {
	case active == generic:
		expandPanelGeneric(k, bits, block, codes, scales, dst)
	case bits == 4:
		expandPanel4xAVX2(k, &codes[0], &scales[0], block, &dst[0])
	default:
		expandPanel8xAVX2(k, &codes[0], &scales[0], block, &dst[0])
	}
}

// expandRow writes the numbers of a row of a Table.
func expandRow(bits, block int, codes []byte, scales []float32, dst []float32) {
	n := len(dst)
	_, _ = codes[n*bits/8-1], scales[n/block*2-1]
	switch {
	case active == generic:
		expandRowGeneric(bits, block, codes, scales, dst)
	case bits == 4:
		expandRow4xAVX2(n/block, &codes[0], &scales[0], block/groupCols, &dst[0])
	default:
		expandRow8xAVX2(n/block, &codes[0], &scales[0], block/groupCols, &dst[0])
	}
}

// dotCodes is the product of a row of a Table with x; ok is false where no kernel sums up in the order of dot.
func dotCodes(bits, block int, codes []byte, scales []float32, x []float32) (sum float32, ok bool) {
	n := len(x)
	if active != avx2 || n%(2*groupCols) != 0 {
		return 0, false
	}
	_, _ = codes[n*bits/8-1], scales[n/block*2-1]
	second := 0
	if block == groupCols {
		second = 8
	}
	if bits == 4 {
		return dotCodes4xAVX2(n/(2*groupCols), &codes[0], &scales[0], second, &x[0]), true
	}
	return dotCodes8xAVX2(n/(2*groupCols), &codes[0], &scales[0], second, &x[0]), true
}
