package kernel

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
