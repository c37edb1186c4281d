package kernel

// Packed is the right-hand side of many products, k x n, stored in the order in which the kernels read it: panels of
// panelCols columns, each dense and row by row. The last panel is filled with zeros up to half or all of that width.
type Packed struct {
	k, n int
	data []float32
}

// Pack stores Wᵀ for products with it: W is n x k, as a linear layer keeps its weights (out x in).
func Pack(w Matrix) *Packed {
	full := w.Rows / panelCols * panelCols
	p := &Packed{k: w.Cols, n: w.Rows, data: make([]float32, w.Cols*(full+paddedCols(w.Rows-full)))}
	p.Repack(w)
	return p
}

// Repack stores Wᵀ again after W has changed; its shape must be the same.
func (p *Packed) Repack(w Matrix) {
	agree(w, p.n, p.k, p.k, p.k)
	for j := 0; j < p.n; j += panelCols {
		width := paddedCols(p.n - j)
		rest := p.data[j*p.k:]
		for c := range min(panelCols, p.n-j) {
			for i, x := range w.Row(j + c) {
				rest[i*width+c] = x
			}
		}
	}
}

// paddedCols is the width of the panel that starts n columns before the end.
func paddedCols(n int) int {
	return min(panelCols, (n+panelCols/2-1)/(panelCols/2)*(panelCols/2))
}
