// Package kernel holds the loops in which the embedded language model spends its time: float32 matrix products, with
// weights that may be kept as quantized codes, and the element-wise functions of a transformer.
//
// Every function has a version in plain Go, which says what it computes, and where the processor has them one for AVX2
// and one for AVX-512 (codes: AVX2 alone, which AVX-512 shares), written by the program in the folder gen. The fastest one is chosen when the program starts.
//
// What it promises: each version gives the same result for the same input on every run, and a row of a product does not
// depend on which other rows are computed with it, so that work can be split over any number of threads without
// changing a bit. Versions differ from each other by rounding only.
//
// NaN and infinity come through as arithmetic has them, so that a broken model is noticed. Shapes that do not fit panic.
//
// What it leaves to others: threads, and what the matrices mean. Nothing here allocates, but for Pack. Products write
// fastest where rows of C start at a multiple of 16 elements of a cache line, so a stride should be one.
package kernel

// Matrix is a view of a row-major matrix: element (i, j) is Data[i*Stride+j].
type Matrix struct {
	Data       []float32
	Rows, Cols int
	Stride     int
}

// View makes a Matrix of densely stored rows.
func View(data []float32, rows, cols int) Matrix {
	return Matrix{Data: data, Rows: rows, Cols: cols, Stride: cols}
}

// Row is row i.
func (m Matrix) Row(i int) []float32 { return m.Data[i*m.Stride : i*m.Stride+m.Cols] }

// Slice is the view of the rows from r0 up to r1.
func (m Matrix) Slice(r0, r1 int) Matrix {
	return Matrix{Data: m.Data[min(r0*m.Stride, len(m.Data)):], Rows: r1 - r0, Cols: m.Cols, Stride: m.Stride}
}

// Columns is the view of the columns from c0 up to c1.
func (m Matrix) Columns(c0, c1 int) Matrix {
	return Matrix{Data: m.Data[min(c0, len(m.Data)):], Rows: m.Rows, Cols: c1 - c0, Stride: m.Stride}
}
