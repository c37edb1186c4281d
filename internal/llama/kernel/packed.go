package kernel

import "fmt"

// Packed is the right-hand side of many products, k x n, stored in the order in which the kernels read it: panels of
// panelCols columns, each dense and row by row. The last panel is filled with zeros up to half or all of that width.
// The numbers may be kept as codes (see PackCodes).
type Packed struct {
	k, n  int
	data  []float32
	coded *coded // instead of data
	first int    // column of coded that counts as column 0
}

// Pack stores Wᵀ for products with it: W is n x k, as a linear layer keeps its weights (out x in).
func Pack(w Matrix) *Packed {
	full := w.Rows / panelCols * panelCols
	p := &Packed{k: w.Cols, n: w.Rows, data: make([]float32, w.Cols*(full+paddedCols(w.Rows-full)))}
	p.Repack(w)
	return p
}

// Coded says whether the numbers are kept as codes, which do not change.
func (p *Packed) Coded() bool { return p.coded != nil }

// Columns is the view of the columns of the right-hand side from j0 up to j1, both multiples of 32 but for the last end.
func (p *Packed) Columns(j0, j1 int) Packed {
	if j0 < 0 || j0 > j1 || j1 > p.n || j0%panelCols != 0 || j1%panelCols != 0 && j1 != p.n {
		panic(fmt.Sprintf("kernel: columns %d to %d of %d, packed in panels of %d", j0, j1, p.n, panelCols))
	}
	view := Packed{k: p.k, n: j1 - j0}
	if p.coded == nil {
		view.data = p.data[min(p.k*j0, len(p.data)):]
		return view
	}
	view.coded = p.coded
	view.first = p.first + j0
	return view
}

// Repack stores Wᵀ again after W has changed; its shape must be the same. What is kept as codes cannot be stored again.
func (p *Packed) Repack(w Matrix) {
	if p.coded != nil {
		panic("kernel: codes packed again")
	}
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
