package factors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/parallel"
	"golang.org/x/sync/errgroup"
)

// Options say how to fit. A number that is 0 stands for its default.
type Options struct {
	Dimensions int     // of a vector, at most 256; default 16
	Penalty    float64 // λ; default 20
	Confidence float64 // α: an edge of weight 1 counts 1 + α, where there is none counts 1; default 8
	Sweeps     int     // over users and items, at most 1000; default 8
	Seed       uint64  // of the vectors to begin with

	// Progress, where set, is told how many users and items were computed, in all sweeps. It is never called by two
	// goroutines at once.
	Progress func(done, total int)
}

// Limits of options and stored models.
const (
	maxDimensions = 256
	maxSweeps     = 1000
)

// ErrNothing is what Fit's error wraps where there is no edge to learn from.
var ErrNothing = errors.New("there is no edge to learn from")

// Edges collects what users did, to learn from. The zero value is empty. An edge takes 12 to 24 bytes, and 16 more during
// the fit; a user or item the length of its id and about 100.
type Edges struct {
	users, items numbering
	all          []edge
}

type edge struct {
	user, item int32
	weight     float32
}

// numbering gives ids numbers, in the order in which they come.
type numbering struct {
	of  map[string]int32
	ids []string
}

func (n *numbering) number(id string) int32 {
	i, ok := n.of[id]
	if !ok {
		if n.of == nil {
			n.of = map[string]int32{}
		}
		id = strings.Clone(id) // of a batch that need not be kept
		i = int32(len(n.ids))
		n.of[id] = i
		n.ids = append(n.ids, id)
	}
	return i
}

// Add adds that a user dealt with an item. Of an edge that is added more than once the largest weight counts. An id that
// is none (IsID), and a weight that is not a positive finite number, is an error, and adds nothing.
func (e *Edges) Add(user, item string, weight float64) error {
	if !valid(weight) || float32(weight) == 0 {
		return fmt.Errorf("factors: the edge of user %q and item %q has weight %v: give a number above 0", user, item, weight)
	}
	if !IsID(user) || !IsID(item) {
		return fmt.Errorf("factors: an edge of user %.80q and item %.80q: ids have 1 to %d bytes", user, item, maxID)
	}
	if len(e.all) == cap(e.all) && len(e.all) >= compactFrom {
		e.compact()
		if room := cap(e.all) - len(e.all); room < len(e.all)/2 { // else the next duplicates would have all sorted again
			e.all = slices.Grow(e.all, len(e.all))
		}
	}
	e.all = append(e.all, edge{e.users.number(user), e.items.number(item), float32(weight)})
	return nil
}

// compactFrom is from how many edges on duplicates are dropped before more room is made.
const compactFrom = 1 << 16

// compact sorts the edges by user and item, and keeps each once.
func (e *Edges) compact() {
	slices.SortFunc(e.all, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.item, b.item), cmp.Compare(b.weight, a.weight))
	})
	e.all = slices.CompactFunc(e.all, func(a, b edge) bool { return a.user == b.user && a.item == b.item })
}

// sort renumbers users and items in the order of their ids, and gives each edge once, by user and item.
func (e *Edges) sort() (items []string, users int) {
	userAt, _ := e.users.ranks()
	itemAt, items := e.items.ranks()
	for i, one := range e.all {
		e.all[i] = edge{userAt[one.user], itemAt[one.item], one.weight}
	}
	e.compact()
	return items, len(userAt)
}

// ranks are the places of the numbered ids among all, and these in order.
func (n *numbering) ranks() (at []int32, ids []string) {
	ids = slices.Sorted(slices.Values(n.ids))
	at = make([]int32, len(ids))
	for place, id := range ids {
		at[n.of[id]] = int32(place)
	}
	return at, ids
}

// Fit learns the factors of all items in the edges, and uses the edges up. It fails where there are none (ErrNothing),
// where an option is not valid, where the vectors run away, and where ctx ends.
func Fit(ctx context.Context, e *Edges, o Options) (*Model, error) {
	n := len(e.all)
	m, err := fit(ctx, e, o)
	if err != nil {
		return nil, fmt.Errorf("fit factors to %d edges: %w", n, err)
	}
	return m, nil
}

func fit(ctx context.Context, e *Edges, o Options) (*Model, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if len(e.all) == 0 {
		return nil, ErrNothing
	}
	items, users := e.sort()
	byUser := newSide(users, e.all, func(e edge) (of, other int32) { return e.user, e.item })
	slices.SortFunc(e.all, func(a, b edge) int { return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(a.user, b.user)) })
	byItem := newSide(len(items), e.all, func(e edge) (of, other int32) { return e.item, e.user })
	edges := len(e.all)
	*e = Edges{}

	x, y := make([]float32, users*o.Dimensions), make([]float32, len(items)*o.Dimensions)
	for i, id := range items {
		begin(y[i*o.Dimensions:(i+1)*o.Dimensions], id, o.Seed)
	}
	total := o.Sweeps * (users + len(items))
	for sweep := range o.Sweeps {
		done := sweep * (users + len(items))
		if err := byUser.solve(ctx, x, y, o, done, total); err != nil {
			return nil, err
		}
		if err := byItem.solve(ctx, y, x, o, done+users, total); err != nil {
			return nil, err
		}
	}
	m := &Model{items: items, vectors: y, training: Training{Dimensions: o.Dimensions, Penalty: o.Penalty, Confidence: o.Confidence, Sweeps: o.Sweeps,
		Seed: o.Seed, Users: users, Items: len(items), Edges: edges, Loss: byUser.loss(x, y, o.Dimensions)}}
	return m, m.complete(ctx)
}

// Check tells whether Fit takes the options.
func (o Options) Check() error { return o.complete() }

// complete fills in the defaults and checks the rest.
func (o *Options) complete() error {
	for _, n := range []struct {
		name           string
		value          *int
		usual, largest int
	}{{"Dimensions", &o.Dimensions, 16, maxDimensions}, {"Sweeps", &o.Sweeps, 8, maxSweeps}} {
		if *n.value == 0 {
			*n.value = n.usual
		}
		if *n.value < 0 || *n.value > n.largest {
			return fmt.Errorf("option %s is %d: give 1 to %d, or 0 for %d", n.name, *n.value, n.largest, n.usual)
		}
	}
	for _, n := range []struct {
		name  string
		value *float64
		usual float64
	}{{"Penalty", &o.Penalty, 20}, {"Confidence", &o.Confidence, 8}} {
		if *n.value == 0 {
			*n.value = n.usual
		}
		if !(*n.value >= 1e-3 && *n.value <= 1e6) {
			return fmt.Errorf("option %s is %v: give a number from 0.001 to 1e6, or 0 for %v", n.name, *n.value, n.usual)
		}
	}
	return nil
}

// begin draws the vector that an item starts from, by its id, so that another item changes nothing about it.
func begin(y []float32, id string, seed uint64) {
	h := fnv.New64a()
	h.Write([]byte(id))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	for k := range y {
		y[k] = float32(rng.NormFloat64() / 10)
	}
}

// side is the edges of the users, or of the items.
type side struct {
	n      int
	from   []int   // at which edge those of each begin, and the end
	other  []int32 // at the other end of each edge
	weight []float32
}

// newSide takes edges that stand in the order of whose they are, of n.
func newSide(n int, all []edge, ends func(edge) (of, other int32)) side {
	s := side{n: n, from: make([]int, n+1), other: make([]int32, len(all)), weight: make([]float32, len(all))}
	for k, e := range all {
		of, other := ends(e)
		s.from[of+1]++
		s.other[k], s.weight[k] = other, e.weight
	}
	for i := range n {
		s.from[i+1] += s.from[i]
	}
	return s
}

// errRanAway is what a fit ends with whose vectors are no numbers that could be used.
var errRanAway = errors.New("the vectors ran away: use a larger Penalty")

// solve finds all vectors of this side, x, for those of the other, y.
func (s side) solve(ctx context.Context, x, y []float32, o Options, done, total int) error {
	n := o.Dimensions
	all, err := gram(ctx, y, n, o.Penalty)
	if err != nil {
		return err
	}
	atOnce := max(64, 1<<20/(n*n)) // between two looks at the context
	for first := 0; first < s.n; first += atOnce {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := min(first+atOnce, s.n)
		var failed atomic.Bool
		parallel.Parts(last-first, 16, func(from, to int) {
			one := newSolver(n)
			for i := first + from; i < first+to; i++ {
				one.begin(all)
				for k := s.from[i]; k < s.from[i+1]; k++ {
					at := int(s.other[k]) * n
					one.add(y[at:at+n], o.Confidence*float64(s.weight[k]))
				}
				if !one.solve() {
					failed.Store(true)
					return
				}
				for k, v := range one.right {
					x[i*n+k] = float32(v)
				}
			}
		})
		if failed.Load() {
			return errRanAway
		}
		if o.Progress != nil {
			o.Progress(done+last, total)
		}
	}
	return nil
}

// loss is the mean of (1 - x·y)² over the edges.
func (s side) loss(x, y []float32, n int) float64 {
	var sum float64
	for i := range s.n {
		for k := s.from[i]; k < s.from[i+1]; k++ {
			product, at := 0.0, int(s.other[k])*n
			for d, v := range x[i*n : (i+1)*n] {
				product += float64(v) * float64(y[at+d])
			}
			sum += (1 - product) * (1 - product)
		}
	}
	return sum / float64(len(s.other))
}

// A gram is summed in parts, so that the sum does not depend on the threads: of at least so many vectors, and at most so
// many of them.
const (
	leastSummed = 2048
	mostSums    = 64
)

// gram is Σ y yᵀ + λ on the diagonal, over all rows of n.
func gram(ctx context.Context, y []float32, n int, penalty float64) ([]float64, error) {
	rows := len(y) / n
	each := max(leastSummed, (rows+mostSums-1)/mostSums)
	parts := make([][]float64, (rows+each-1)/each)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for p := range parts {
		group.Go(func() error {
			sum := make([]float64, n*n)
			for i := p * each; i < min((p+1)*each, rows); i++ {
				if i%leastSummed == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				row := y[i*n : (i+1)*n]
				for a, v := range row {
					to := sum[a*n : (a+1)*n]
					for b := a; b < n; b++ {
						to[b] += float64(v) * float64(row[b])
					}
				}
			}
			parts[p] = sum
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	g := make([]float64, n*n)
	for _, part := range parts {
		for k, v := range part {
			g[k] += v
		}
	}
	for a := range n {
		g[a*n+a] += penalty
		for b := range a {
			g[a*n+b] = g[b*n+a]
		}
	}
	return g, nil
}
