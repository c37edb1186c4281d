package kernel

import "fmt"

// Codes are weights as they were quantized, a matrix of Rows x Cols, each value code x scale + least with one scale and
// one least value for a block of a row. The product code x scale must be exact in float32, which it is of all formats of
// ggml with up to 8 bits: then every version makes the same numbers of them, those that other decoders make.
type Codes struct {
	Rows, Cols int
	Bits       int // 4: codes of 0 to 15; 8: of -128 to 127
	Block      int // 16 or 32; divides Cols
	// Read fills in a row: Cols codes, and Cols / Block scales and least values.
	Read func(row int, codes []int8, scales, least []float32)
}

const (
	groupCols = 16 // codes that lie together
)

// check panics where the kernels could not take the shape: the caller has a bug.
func (c Codes) check() {
	if c.Rows < 1 || c.Cols < 1 || c.Bits != 4 && c.Bits != 8 || c.Block != 16 && c.Block != 32 || c.Cols%c.Block != 0 {
		panic(fmt.Sprintf("kernel: codes of %d x %d, %d bits, blocks of %d", c.Rows, c.Cols, c.Bits, c.Block))
	}
}

// store writes the code of value i of a run of groups.
func store(dst []byte, bits, i int, code int8) {
	if bits == 8 {
		dst[i] = byte(code)
		return
	}
	at := i/groupCols*8 + i%8
	if i%groupCols < 8 {
		dst[at] |= byte(code) & 15
	} else {
		dst[at] |= byte(code) << 4
	}
}

// load reads what store wrote.
func load(src []byte, bits, i int) int8 {
	if bits == 8 {
		return int8(src[i])
	}
	b := src[i/groupCols*8+i%8]
	if i%groupCols < 8 {
		return int8(b & 15)
	}
	return int8(b >> 4)
}

// coded is the right-hand side of products as codes, in panels of panelCols columns like Packed's numbers: row by row the
// codes, and for each block of rows the scales of all columns and then their least values. The last panel is filled with
// zeros.
type coded struct {
	bits, block int
	codes       []byte
	scales      []float32
}

// panel is where the codes and scales from row p of the panel that starts with column j lie. p is a multiple of the block.
func (c *coded) panel(k, p, j int) (codes []byte, scales []float32) {
	return c.codes[(k*j+p*panelCols)*c.bits/8:], c.scales[(k*j+p*panelCols)/c.block*2:]
}

// PackCodes stores Wᵀ for products with it, where W has the given codes. Products have the bits of those with Pack of the
// same numbers.
func PackCodes(c Codes) *Packed {
	c.check()
	cols := (c.Rows + panelCols - 1) / panelCols * panelCols
	q := &coded{bits: c.Bits, block: c.Block, codes: make([]byte, c.Cols*cols*c.Bits/8), scales: make([]float32, c.Cols/c.Block*2*cols)}
	row, scales, least := make([]int8, c.Cols), make([]float32, c.Cols/c.Block), make([]float32, c.Cols/c.Block)
	for j := range c.Rows {
		c.Read(j, row, scales, least)
		codes, to := q.panel(c.Cols, 0, j/panelCols*panelCols)
		at := j % panelCols
		for p, code := range row {
			store(codes[p*panelCols*c.Bits/8:], c.Bits, at, code)
		}
		for b := range scales {
			to[2*panelCols*b+at], to[2*panelCols*b+panelCols+at] = scales[b], least[b]
		}
	}
	return &Packed{k: c.Cols, n: c.Rows, coded: q}
}

// multiplyCoded computes C (+)= A B for coded B. One row is multiplied with the codes as they come from memory; more rows
// with the numbers of a block, made once for all of them. Either way an element is summed up as in multiply.
func multiplyCoded(c, a Matrix, b *Packed, add bool) {
	if c.Rows == 1 && active != generic {
		b.multiplyRow(c.Row(0), a.Row(0), add)
		return
	}
	var numbers [blockK * panelCols]float32
	for i := 0; i < c.Rows; i += blockM {
		m := min(blockM, c.Rows-i)
		for p := 0; p < b.k; p += blockK {
			k := min(blockK, b.k-p)
			for j := 0; j < c.Cols; j += panelCols {
				codes, scales := b.coded.panel(b.k, p, b.first+j)
				expandPanel(k, b.coded.bits, b.coded.block, codes, scales, numbers[:k*panelCols])
				panel(m, min(panelCols, c.Cols-j), k, a.Data[i*a.Stride+p:], a.Stride, 1, numbers[:], panelCols, c.Data[i*c.Stride+j:], c.Stride, add || p > 0)
			}
		}
	}
}

func (p *Packed) multiplyRow(c, a []float32, add bool) {
	if !add {
		clear(c)
	}
	for j := 0; j < p.n; j += panelCols {
		codes, scales := p.coded.panel(p.k, 0, p.first+j)
		if to := c[j:]; len(to) >= panelCols {
			vectorCodes(a, p.coded.bits, p.coded.block, codes, scales, to[:panelCols])
			continue
		}
		var last [panelCols]float32
		n := copy(last[:], c[j:])
		vectorCodes(a, p.coded.bits, p.coded.block, codes, scales, last[:])
		copy(c[j:], last[:n])
	}
}

// Table is a matrix of codes of which single rows are read.
type Table struct {
	rows, cols, bits, block int
	codes                   []byte
	scales                  []float32 // a scale and a least value a block
}

// NewTable stores codes row by row.
func NewTable(c Codes) *Table {
	c.check()
	t := &Table{rows: c.Rows, cols: c.Cols, bits: c.Bits, block: c.Block, codes: make([]byte, c.Rows*c.Cols*c.Bits/8), scales: make([]float32, c.Rows*c.Cols/c.Block*2)}
	row, scales, least := make([]int8, c.Cols), make([]float32, c.Cols/c.Block), make([]float32, c.Cols/c.Block)
	for i := range c.Rows {
		c.Read(i, row, scales, least)
		codes, to := t.row(i)
		for j, code := range row {
			store(codes, c.Bits, j, code)
		}
		for b := range scales {
			to[2*b], to[2*b+1] = scales[b], least[b]
		}
	}
	return t
}

func (t *Table) row(i int) (codes []byte, scales []float32) {
	n, blocks := t.cols*t.bits/8, t.cols/t.block*2
	return t.codes[i*n : (i+1)*n], t.scales[i*blocks : (i+1)*blocks]
}

// Row writes the numbers of row i to dst, which has room for them.
func (t *Table) Row(dst []float32, i int) {
	codes, scales := t.row(i)
	expandRow(t.bits, t.block, codes, scales, first(dst, t.cols))
}

// Dot is the product of row i with x, with the bits of Dot with the row's numbers, for which scratch has room.
func (t *Table) Dot(i int, x, scratch []float32) float32 {
	codes, scales := t.row(i)
	x = first(x, t.cols)
	if sum, ok := dotCodes(t.bits, t.block, codes, scales, x); ok {
		return sum
	}
	expandRow(t.bits, t.block, codes, scales, first(scratch, t.cols))
	return Dot(x, scratch)
}

// expandPanelGeneric writes the numbers of k rows of a panel.
func expandPanelGeneric(k, bits, block int, codes []byte, scales []float32, dst []float32) {
	for p := range k {
		s := scales[p/block*2*panelCols:]
		for j := range panelCols {
			dst[p*panelCols+j] = number(load(codes[p*panelCols*bits/8:], bits, j), s[j], s[panelCols+j])
		}
	}
}

// expandRowGeneric writes the numbers of a row of a Table.
func expandRowGeneric(bits, block int, codes []byte, scales []float32, dst []float32) {
	for j := range dst {
		s := scales[j/block*2:]
		dst[j] = number(load(codes, bits, j), s[0], s[1])
	}
}

// number is a value; the inner product is exact, so that whether it is fused with the sum changes nothing.
func number(code int8, scale, least float32) float32 { return float32(code)*scale + least }
