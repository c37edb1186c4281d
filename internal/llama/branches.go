package llama

import "fmt"

// branches lay out a text that goes on in several ways, so that what they share is read once: the rows of a pass are those
// of the text, and after them those of each continuation. A row sees the text and its own continuation up to itself, and
// stands at the position that it has in that one.
type branches struct {
	shared    int   // rows of the text
	starts    []int // of each row: the first row of its continuation; of the text's rows it says nothing
	positions []int // of each row, in its own text
}

// newBranches is nil where nothing branches.
func newBranches(shared int, continuations [][]int32) *branches {
	if len(continuations) == 0 {
		return nil
	}
	b := &branches{shared: shared}
	for i := range shared {
		b.starts, b.positions = append(b.starts, shared), append(b.positions, i)
	}
	for _, c := range continuations {
		start := len(b.starts)
		for j := range c {
			b.starts, b.positions = append(b.starts, start), append(b.positions, shared+j)
		}
	}
	return b
}

// span is a run of positions that rows attend to.
type span struct{ from, to int }

func (v span) len() int { return v.to - v.from }

// width is how many positions spans have together.
func width(spans []span) (n int) {
	for _, v := range spans {
		n += v.len()
	}
	return n
}

// block is where the block ends of the rows that attend together, from r0 on: at blockRows of them, or where a
// continuation does.
func (b *branches) block(rows []int, r0 int) int {
	r1 := min(r0+blockRows, len(rows))
	if b == nil {
		return r1
	}
	for r := r0 + 1; r < r1; r++ {
		if b.begins(rows[r]) != b.begins(rows[r0]) {
			return r
		}
	}
	return r1
}

// spans are what a row sees, and so the rows before it in its block: the text, and its own continuation.
func (b *branches) spans(row int) []span {
	if b == nil || row < b.shared {
		return []span{{0, row + 1}}
	}
	return []span{{0, b.shared}, {b.starts[row], row + 1}}
}

// begins is the first row of what a row belongs to: the text, or a continuation.
func (b *branches) begins(row int) int {
	if row < b.shared {
		return 0
	}
	return b.starts[row]
}

// standing are the positions of rows.
func (b *branches) standing(rows []int) []int {
	if b == nil {
		return rows
	}
	at := make([]int, len(rows))
	for i, row := range rows {
		at[i] = b.positions[row]
	}
	return at
}

// ForwardBranches is Forward of a text and of ways in which it goes on: gradients and hidden states are those of each way
// read by itself, up to rounding, and the text is passed through once. Rows count through the text and then through the
// continuations, in their order; want names some of them.
func (p *Pass) ForwardBranches(text []int32, continuations [][]int32, want []int) error {
	if len(continuations) == 0 {
		return p.Forward(text, want)
	}
	all, longest := append(p.joined[:0], text...), 0
	for _, c := range continuations {
		all = append(all, c...)
		longest = max(longest, len(c))
	}
	p.joined = all
	if len(text) == 0 {
		return fmt.Errorf("llama: %d continuations of an empty text", len(continuations))
	}
	if n := len(text) + longest; n > p.t.Context {
		return fmt.Errorf("llama: %d tokens with the longest continuation, and the model reads at most %d: %w", n, p.t.Context, ErrTooLong)
	}
	return p.forward(all, newBranches(len(text), continuations), want)
}
