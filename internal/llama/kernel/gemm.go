package kernel

// Mul computes C = A B, or C += A B where add is set. A is m x k, B k x n, C m x n.
func Mul(c, a, b Matrix, add bool) {
	gemm(c, a.Data, a.Stride, 1, a.Cols, b, add)
}

// MulTransA computes C = Aᵀ B, or C += Aᵀ B where add is set. A is k x m, B k x n, C m x n.
func MulTransA(c, a, b Matrix, add bool) {
	gemm(c, a.Data, 1, a.Stride, a.Rows, b, add)
}

// gemm computes C (+)= A B where element (i, p) of A is a[i*rs+p*cs] and p runs to k.
func gemm(c Matrix, a []float32, rs, cs, k int, b Matrix, add bool) {
	for i := range c.Rows {
		row := c.Row(i)
		if !add {
			clear(row)
		}
		for p := range k {
			x := a[i*rs+p*cs]
			for j, y := range b.Row(p) {
				row[j] += x * y
			}
		}
	}
}

// Packed is the right-hand side of many products, k x n, stored in the order in which the kernels read it.
type Packed struct {
	k, n int
	data []float32
}

// Pack stores Wᵀ for products with it: W is n x k, as a linear layer keeps its weights (out x in).
func Pack(w Matrix) *Packed {
	p := &Packed{k: w.Cols, n: w.Rows, data: make([]float32, w.Rows*w.Cols)}
	p.Repack(w)
	return p
}

// Repack stores Wᵀ again after W has changed; its shape must be the same.
func (p *Packed) Repack(w Matrix) {
	for j := range w.Rows {
		for i, x := range w.Row(j) {
			p.data[i*p.n+j] = x
		}
	}
}

// MulPacked computes C = A B, or C += A B where add is set, with a packed B.
func MulPacked(c, a Matrix, b *Packed, add bool) {
	Mul(c, a, View(b.data, b.k, b.n), add)
}

// Transpose stores the transposed matrix: dst is n x m where src is m x n.
func Transpose(dst, src Matrix) {
	for i := range src.Rows {
		for j, x := range src.Row(i) {
			dst.Data[j*dst.Stride+i] = x
		}
	}
}
