package llama

import (
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// table is a matrix of which rows are looked up: the embedding, and the output layer.
type table struct {
	kernel.Matrix               // without data where only the codes are kept
	codes         *kernel.Table // nil: there are only numbers
}

// row is row i, in scratch of Dim numbers where it has to be made.
func (t table) row(scratch []float32, i int) []float32 {
	if t.Data == nil {
		t.codes.Row(scratch, i)
		return scratch
	}
	return t.Row(i)
}

// dot writes the products of row i with each row of x to the column dst. scratch has room for a row.
func (t table) dot(dst kernel.Matrix, i int, x kernel.Matrix, scratch []float32) {
	if t.Data == nil && x.Rows == 1 {
		dst.Row(0)[0] = t.codes.Dot(i, x.Row(0), scratch)
		return
	}
	w := t.row(scratch, i)
	for r := range x.Rows {
		dst.Row(r)[0] = kernel.Dot(w, x.Row(r))
	}
}

// linear reads a linear layer. Weights that are quantized stay so where they go into products; the numbers are there as
// well where keep is set.
func (r *reader) linear(name string, out, in int, keep bool) *linear {
	codes, ok := r.codes(name+".weight", out, in)
	if !ok {
		w := r.matrix(name+".weight", out, in)
		if r.err != nil {
			return nil
		}
		l := newLinear(name, w)
		if !keep {
			l.w.Data = nil
		}
		return l
	}
	l := &linear{name: name, w: kernel.Matrix{Rows: out, Cols: in, Stride: in}, packed: kernel.PackCodes(codes), trained: frozen, trainedBias: frozen}
	if keep {
		l.w = r.matrix(name+".weight", out, in)
	}
	return l
}

// table reads a matrix whose rows are looked up, as it is quantized unless keep is set.
func (r *reader) table(name string, rows, cols int, keep bool) table {
	if codes, ok := r.codes(name, rows, cols); ok && !keep {
		return table{Matrix: kernel.Matrix{Rows: rows, Cols: cols, Stride: cols}, codes: kernel.NewTable(codes)}
	}
	return table{Matrix: r.matrix(name, rows, cols)}
}

// codes of a tensor, where it is quantized in a way that the kernels read and nothing is wrong with it; what is wrong is
// found where its numbers are read.
func (r *reader) codes(name string, rows, cols int) (kernel.Codes, bool) {
	if r.err != nil {
		return kernel.Codes{}, false
	}
	t, ok := r.f.Tensor(name)
	if !ok || t.Shape[0] != cols || t.Rows() != rows {
		return kernel.Codes{}, false
	}
	bits, block, ok := t.Codes()
	if !ok || !finiteScales(t, block) {
		return kernel.Codes{}, false
	}
	r.used[name] = true
	return kernel.Codes{Rows: rows, Cols: cols, Bits: bits, Block: block, Read: t.RowCodes}, true
}

// finiteScales tells whether all scales and least values are finite, and so all numbers: none is near the largest.
func finiteScales(t gguf.Tensor, block int) bool {
	codes, scales, least := make([]int8, t.Shape[0]), make([]float32, t.Shape[0]/block), make([]float32, t.Shape[0]/block)
	for row := range t.Rows() {
		t.RowCodes(row, codes, scales, least)
		for b, s := range scales {
			if s-s != 0 || least[b]-least[b] != 0 {
				return false
			}
		}
	}
	return true
}

// numbers packs the weights themselves where codes are packed: codes cannot follow weights that are being trained.
func (m *Model) numbers() {
	for i := range m.layers {
		for _, p := range m.layers[i].linears() {
			if (*p).packed.Coded() {
				(*p).packed = kernel.Pack((*p).w)
			}
		}
	}
}
