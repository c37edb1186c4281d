package kernel

import "fmt"

// Mul computes C = A B, or C += A B where add is set. A is m x k, B k x n, C m x n. C shares no memory with A or B.
func Mul(c, a, b Matrix, add bool) {
	agree(c, a.Rows, a.Cols, b.Rows, b.Cols)
	a.check()
	b.check()
	multiply(c, a.Data, a.Stride, 1, right{b.Data, b.Rows, b.Cols, b.Stride}, add)
}

// MulTransA computes C = Aᵀ B, or C += Aᵀ B where add is set. A is k x m, B k x n, C m x n. C shares no memory with A or
// B.
func MulTransA(c, a, b Matrix, add bool) {
	agree(c, a.Cols, a.Rows, b.Rows, b.Cols)
	a.check()
	b.check()
	multiply(c, a.Data, 1, a.Stride, right{b.Data, b.Rows, b.Cols, b.Stride}, add)
}

// MulPacked computes C = A B, or C += A B where add is set, with a packed B. C shares no memory with A.
func MulPacked(c, a Matrix, b *Packed, add bool) {
	agree(c, a.Rows, a.Cols, b.k, b.n)
	a.check()
	if b.coded != nil {
		multiplyCoded(c, a, b, add)
		return
	}
	multiply(c, a.Data, a.Stride, 1, right{b.data, b.k, b.n, 0}, add)
}

// agree panics unless C = A B has fitting shapes: the caller has a bug, and the kernels would write elsewhere.
func agree(c Matrix, m, ka, kb, n int) {
	if c.Rows != m || c.Cols != n || ka != kb {
		panic(fmt.Sprintf("kernel: product of %d x %d and %d x %d into %d x %d", m, ka, kb, n, c.Rows, c.Cols))
	}
	c.check()
}

// check panics unless all elements lie within the slice, each at a place of its own.
func (m Matrix) check() {
	if m.Rows > 1 && m.Stride < m.Cols {
		panic(fmt.Sprintf("kernel: rows of %d elements at a stride of %d", m.Cols, m.Stride))
	}
	if m.Rows > 0 && m.Cols > 0 {
		_ = m.Data[(m.Rows-1)*m.Stride+m.Cols-1]
	}
}

const (
	// panelCols is how many columns of B are used at once: two registers of AVX-512, four of AVX2.
	panelCols = 32
	// blockK rows of a panel stay in the first-level cache, 24 KiB, while rows of C pass by.
	blockK = 192
	// blockM rows of A stay in the second-level cache, 360 KiB a block, while the panels of B pass by.
	blockM = 480
)

// right is the right-hand side of a product, k x n: rows at a stride, or packed where stride is 0.
type right struct {
	data   []float32
	k, n   int
	stride int
}

// panel is where row p of the panel that starts with column j lies, and the distance to the next row.
func (b right) panel(p, j int) ([]float32, int) {
	if b.stride != 0 {
		return b.data[p*b.stride+j:], b.stride
	}
	width := paddedCols(b.n - j)
	return b.data[b.k*j+p*width:], width
}

// multiply computes C (+)= A B where element (i, p) of A is a[i*rs+p*cs].
//
// Every element of C is the sum over p from first to last, started from its old value where add is set: blocks only
// decide when it is done.
func multiply(c Matrix, a []float32, rs, cs int, b right, add bool) {
	if b.k == 0 && !add {
		for i := range c.Rows {
			clear(c.Row(i))
		}
	}
	for i := 0; i < c.Rows; i += blockM {
		m := min(blockM, c.Rows-i)
		for p := 0; p < b.k; p += blockK {
			k := min(blockK, b.k-p)
			for j := 0; j < c.Cols; j += panelCols {
				data, ldb := b.panel(p, j)
				panel(m, min(panelCols, c.Cols-j), k, a[i*rs+p*cs:], rs, cs, data, ldb, c.Data[i*c.Stride+j:], c.Stride, add || p > 0)
			}
		}
	}
}
