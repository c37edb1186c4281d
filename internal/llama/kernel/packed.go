package kernel

import "fmt"

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
	if w.Rows != p.n || w.Cols != p.k {
		panic(fmt.Sprintf("kernel: %d x %d packed again as %d x %d", p.n, p.k, w.Rows, w.Cols))
	}
	for j := 0; j < p.n; j += panelCols {
		n := min(panelCols, p.n-j)
		Transpose(Matrix{Data: p.data[j*p.k:], Rows: p.k, Cols: n, Stride: paddedCols(p.n - j)}, w.Slice(j, j+n))
	}
}

// paddedCols is the width of the panel that starts n columns before the end.
func paddedCols(n int) int {
	return min(panelCols, (n+panelCols/2-1)/(panelCols/2)*(panelCols/2))
}

// Transpose stores the transposed matrix: dst is n x m where src is m x n. They share no memory.
func Transpose(dst, src Matrix) {
	if dst.Rows != src.Cols || dst.Cols != src.Rows {
		panic(fmt.Sprintf("kernel: %d x %d transposed into %d x %d", src.Rows, src.Cols, dst.Rows, dst.Cols))
	}
	// A cache line of dst is written at once: lines written in turns would drive each other out where dst's stride is a
	// power of two.
	const block = 16
	for i := 0; i < src.Rows; i += block {
		rows := min(block, src.Rows-i)
		for j := range src.Cols {
			to, from := first(dst.Data[j*dst.Stride+i:], rows), src.Data[i*src.Stride+j:]
			for r := range to {
				to[r] = from[r*src.Stride]
			}
		}
	}
}
