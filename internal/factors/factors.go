// Package factors learns latent factors: for each item a short vector, such that the inner product with a user's vector
// says how likely the user deals with the item. Evidence of the graph's lists sees who dealt with the very same things;
// factors also see that two things are alike which no user shares.
//
// They are those of implicit feedback (Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets,
// ICDM 2008): of all users u and items i, with p = 1 where there is an edge of weight w and 0 elsewhere,
//
//	minimise Σ c (p - x_u·y_i)² + λ (Σ |x_u|² + Σ |y_i|²)    with c = 1 + α w
//
// by alternating least squares. A model keeps the items' vectors only. A user's vector is computed when it is asked for,
// from what the user did until then (folding in): it is the exact minimum for that user, so that no user has to be known
// when the factors are learned, and one click changes it.
//
// Equal edges, options and architecture give equal factors, bit by bit, in whatever order the edges are added and on any
// number of threads. The package reads no clock, no file and no server.
package factors

import (
	"context"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// Edge is an item that a user dealt with.
type Edge struct {
	Item   string
	Weight float64 // above 0: how much it says of the user's taste; 1 is what a choice says
}

// Model is the factors of items. It never changes, so that many goroutines may use one.
type Model struct {
	training Training
	place    map[string]int32 // of an item's vector
	items    []string         // in the order of their vectors, which is that of strings
	vectors  []float32        // items × dimensions
	norms    []float64        // of the vectors
	gram     []float64        // dimensions × dimensions: Σ y yᵀ + λ, both triangles
}

// Training is how a model was fitted, and to what.
type Training struct {
	Dimensions int     `json:"dimensions"`
	Penalty    float64 `json:"penalty"`    // λ
	Confidence float64 `json:"confidence"` // α
	Sweeps     int     `json:"sweeps"`
	Seed       uint64  `json:"seed"`
	Users      int     `json:"users"`
	Items      int     `json:"items"`
	Edges      int     `json:"edges"`
	Loss       float64 `json:"loss"` // of the edges: mean of (1 - x·y)²
}

// Training says how the model was fitted, and to what.
func (m *Model) Training() Training { return m.training }

// Taste is a user's vector. It belongs to the model that gave it.
type Taste struct {
	model  *Model
	vector []float64 // nil: nothing is known of the user
}

// Taste folds a user in: the vector that fits what the user did best. Items without factors say nothing, nor do edges
// whose weight is not a positive finite number. It takes as many products of vectors as there are edges, and one
// Cholesky decomposition: some 0.05 ms for 128 edges and 16 dimensions.
func (m *Model) Taste(edges []Edge) Taste {
	s := newSolver(m.training.Dimensions)
	s.rows = make([]float64, 0, min(len(edges), rowsAtOnce)*s.n)
	s.begin(m.gram)
	known := 0
	for _, e := range edges {
		if i, ok := m.place[e.Item]; ok && valid(e.Weight) {
			s.add(m.vector(i), m.training.Confidence*e.Weight)
			known++
		}
	}
	if known == 0 || !s.solve() {
		return Taste{model: m}
	}
	return Taste{m, s.right}
}

// Of gives the inner product of the taste with an item's factors, about 1 for what the user would certainly deal with,
// and the same over the length of the item's vector, which popular items have longer: how well the item fits, whether
// many or few deal with it. What is below 0 is 0. Both are 0 where nothing is known of the user or the item.
func (t Taste) Of(item string) (product, fit float64) {
	if t.vector == nil {
		return 0, 0
	}
	i, ok := t.model.place[item]
	if !ok || t.model.norms[i] == 0 {
		return 0, 0
	}
	for k, y := range t.model.vector(i) {
		product += t.vector[k] * float64(y)
	}
	if !(product > 0) {
		return 0, 0
	}
	return product, product / t.model.norms[i]
}

func (m *Model) vector(i int32) []float32 {
	n := m.training.Dimensions
	return m.vectors[int(i)*n : (int(i)+1)*n]
}

// complete computes what follows from the vectors. It fails where ctx ends.
func (m *Model) complete(ctx context.Context) (err error) {
	n := m.training.Dimensions
	m.place = make(map[string]int32, len(m.items))
	m.norms = make([]float64, len(m.items))
	for i, id := range m.items {
		m.place[id] = int32(i)
		var sum float64
		for _, y := range m.vector(int32(i)) {
			sum += float64(y) * float64(y)
		}
		m.norms[i] = math.Sqrt(sum)
	}
	m.gram, err = gram(ctx, m.vectors, n, m.training.Penalty)
	return err
}

func valid(weight float64) bool { return weight > 0 && weight <= math.MaxFloat32 }

// solver finds one vector: the minimum of Σ c (p - x·y)² + λ|x|² over all y of the other side, of which those with an edge
// are added one by one.
type solver struct {
	n     int
	rows  []float64        // of √(αw) y, of edges that left does not have yet
	right []float64        // Σ (1 + αw) y, and then the solution
	left  blas64.Symmetric // Σ y yᵀ + λ, and of the edges Σ αw y yᵀ
}

// rowsAtOnce bounds what a solver holds of an item that everybody has.
const rowsAtOnce = 256

func newSolver(n int) *solver {
	return &solver{n: n, right: make([]float64, n), left: blas64.Symmetric{N: n, Stride: n, Data: make([]float64, n*n), Uplo: blas.Upper}}
}

// begin begins another vector. gram is Σ y yᵀ + λ over all y of the other side.
func (s *solver) begin(gram []float64) {
	s.rows = s.rows[:0]
	clear(s.right)
	copy(s.left.Data, gram)
}

// add adds an edge to y, whose confidence is 1 + extra.
func (s *solver) add(y []float32, extra float64) {
	root := math.Sqrt(extra)
	for k, v := range y {
		s.rows = append(s.rows, root*float64(v))
		s.right[k] += (1 + extra) * float64(v)
	}
	if len(s.rows) == rowsAtOnce*s.n {
		s.sum()
	}
}

func (s *solver) sum() {
	if edges := len(s.rows) / s.n; edges > 0 {
		blas64.Syrk(blas.Trans, 1, blas64.General{Rows: edges, Cols: s.n, Stride: s.n, Data: s.rows}, 1, s.left)
	}
	s.rows = s.rows[:0]
}

// solve leaves the solution in right. False: λ is lost beside vectors as long as these, and there is none.
func (s *solver) solve() bool {
	s.sum()
	t, ok := lapack64.Potrf(s.left)
	if ok {
		lapack64.Potrs(t, blas64.General{Rows: s.n, Cols: 1, Stride: 1, Data: s.right})
	}
	return ok && usable(s.right)
}

// usable tells whether all of these are numbers that a fit may give, whose vectors have a length of 1 or so.
func usable[T float32 | float64](vector []T) bool {
	for _, v := range vector {
		if !(math.Abs(float64(v)) <= 1000) {
			return false
		}
	}
	return true
}
