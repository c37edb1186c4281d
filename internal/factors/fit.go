package factors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/parallel"
	"golang.org/x/sync/errgroup"
)

// Options say how to fit. A number that is 0 stands for its default.
type Options struct {
	Dimensions int     // of a vector, at most 512; default 16
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
	maxDimensions = 512
	maxSweeps     = 1000
)

// ErrNothing is what Fit's error wraps where there is no edge to learn from.
var ErrNothing = errors.New("there is no edge to learn from")

// Edges collects what users did, to learn from. The zero value is empty.
type Edges struct {
	users, items numbering
	all          []edge
}

// edge takes 12 bytes, and there are many.
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

// Add adds that a user dealt with an item. Of an edge that is added more than once the largest weight counts. A weight
// that is not a positive finite number is an error, and adds nothing.
func (e *Edges) Add(user, item string, weight float64) error {
	if !valid(weight) || float32(weight) == 0 {
		return fmt.Errorf("factors: the edge of user %q and item %q has weight %v: give a number above 0", user, item, weight)
	}
	e.all = append(e.all, edge{e.users.number(user), e.items.number(item), float32(weight)})
	return nil
}

// sorted renumbers users and items in the order of their ids, and gives each edge once, by user and item.
func (e *Edges) sorted() (items []string, users int, all []edge) {
	userAt, _ := e.users.ranks()
	itemAt, items := e.items.ranks()
	all = make([]edge, len(e.all))
	for i, one := range e.all {
		all[i] = edge{userAt[one.user], itemAt[one.item], one.weight}
	}
	slices.SortFunc(all, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.item, b.item), cmp.Compare(b.weight, a.weight))
	})
	all = slices.CompactFunc(all, func(a, b edge) bool { return a.user == b.user && a.item == b.item })
	return items, len(userAt), all
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

// Fit learns the factors of all items in the edges. It fails where there are none (ErrNothing), where an option is not
// valid, and where ctx ends. Edges take some 30 bytes each meanwhile, users and items 4 a dimension.
func Fit(ctx context.Context, e *Edges, o Options) (*Model, error) {
	m, err := fit(ctx, e, o)
	if err != nil {
		return nil, fmt.Errorf("fit factors to %d edges: %w", len(e.all), err)
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
	items, users, all := e.sorted()
	byUser := side{n: users, from: begins(all, users, func(e edge) int32 { return e.user })}
	for _, one := range all {
		byUser.other, byUser.weight = append(byUser.other, one.item), append(byUser.weight, one.weight)
	}
	slices.SortFunc(all, func(a, b edge) int { return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(a.user, b.user)) })
	byItem := side{n: len(items), from: begins(all, len(items), func(e edge) int32 { return e.item })}
	for _, one := range all {
		byItem.other, byItem.weight = append(byItem.other, one.user), append(byItem.weight, one.weight)
	}

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
		Seed: o.Seed, Users: users, Items: len(items), Edges: len(all), Loss: byUser.loss(x, y, o.Dimensions)}}
	m.complete()
	return m, nil
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

// begins counts the edges, which stand in order, of each of n.
func begins(all []edge, n int, of func(edge) int32) []int {
	from := make([]int, n+1)
	for _, e := range all {
		from[of(e)+1]++
	}
	for i := range n {
		from[i+1] += from[i]
	}
	return from
}

// solvedAtOnce is how many vectors are found between two looks at the context.
const solvedAtOnce = 4096

// solve finds all vectors of this side, x, for those of the other, y.
func (s side) solve(ctx context.Context, x, y []float32, o Options, done, total int) error {
	n := o.Dimensions
	all := gram(y, n, o.Penalty)
	for first := 0; first < s.n; first += solvedAtOnce {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := min(first+solvedAtOnce, s.n)
		parallel.Parts(last-first, 16, func(from, to int) {
			one := newSolver(n)
			for i := first + from; i < first+to; i++ {
				one.reset()
				for k := s.from[i]; k < s.from[i+1]; k++ {
					at := int(s.other[k]) * n
					one.add(y[at:at+n], o.Confidence*float64(s.weight[k]))
				}
				one.solve(all)
				for k, v := range one.right {
					x[i*n+k] = float32(v)
				}
			}
		})
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

// summedAtOnce is how many vectors one part of a gram sums: part by part, so that the sum does not depend on the threads.
const summedAtOnce = 2048

// gram is Σ y yᵀ + λ on the diagonal, over all rows of n.
func gram(y []float32, n int, penalty float64) []float64 {
	rows := len(y) / n
	parts := make([][]float64, (rows+summedAtOnce-1)/summedAtOnce)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for p := range parts {
		group.Go(func() error {
			sum := make([]float64, n*n)
			for i := p * summedAtOnce; i < min((p+1)*summedAtOnce, rows); i++ {
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
	_ = group.Wait() // no part fails
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
	return g
}

// finite tells whether all of these are numbers that a model may hold.
func finite(vectors []float32) bool {
	for _, v := range vectors {
		if !(math.Abs(float64(v)) <= 1e6) {
			return false
		}
	}
	return true
}
