package factors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// taste of a made-up world: users and items of two kinds, who mostly keep to their own.
func world(t testing.TB, users, items int, seed uint64) (*Edges, map[string][]Edge) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	e, of := &Edges{}, map[string][]Edge{}
	for u := range users {
		for i := range items {
			if chance := .05 + .4*float64(1-(u+i)%2); rng.Float64() < chance {
				user, one := fmt.Sprint("u", u), Edge{fmt.Sprint("i", i), []float64{1, .5, .25}[rng.IntN(3)]}
				of[user] = append(of[user], one)
				add(t, e, user, one.Item, one.Weight)
			}
		}
	}
	return e, of
}

func add(t testing.TB, e *Edges, user, item string, weight float64) {
	t.Helper()
	if err := e.Add(user, item, weight); err != nil {
		t.Fatal(err)
	}
}

func fitted(t testing.TB, e *Edges, o Options) *Model {
	t.Helper()
	m, err := Fit(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// objective is what a fit minimises, for one user: over all items, with an edge or without.
func objective(m *Model, x []float64, edges []Edge) (sum float64) {
	for i, id := range m.items {
		p, c := 0., 1.
		if k := slices.IndexFunc(edges, func(e Edge) bool { return e.Item == id }); k >= 0 {
			p, c = 1, 1+m.training.Confidence*edges[k].Weight
		}
		product := 0.
		for k, y := range m.vector(int32(i)) {
			product += x[k] * float64(y)
		}
		sum += c * (p - product) * (p - product)
	}
	for _, v := range x {
		sum += m.training.Penalty * v * v
	}
	return sum
}

// A user's vector is where the paper's objective is least: no step away from it makes it less.
func TestTasteIsTheMinimum(t *testing.T) {
	e, of := world(t, 40, 30, 1)
	m := fitted(t, e, Options{Dimensions: 5, Penalty: .5, Confidence: 3})
	for _, user := range []string{"u0", "u7", "u39"} {
		x := m.Taste(of[user]).vector
		least := objective(m, x, of[user])
		for k := range x {
			for _, step := range []float64{1e-3, -1e-3} {
				away := slices.Clone(x)
				away[k] += step
				if got := objective(m, away, of[user]); got <= least {
					t.Errorf("user %s: a step of %v in dimension %d takes the objective from %v to %v", user, step, k, least, got)
				}
			}
		}
	}
}

// Each sweep is a minimum in half of the unknowns, so that the objective over all users never grows.
func TestSweepsLowerTheObjective(t *testing.T) {
	before := math.Inf(1)
	for sweeps := 1; sweeps <= 6; sweeps++ {
		e, of := world(t, 40, 30, 2)
		m := fitted(t, e, Options{Dimensions: 4, Penalty: 1, Confidence: 5, Sweeps: sweeps})
		sum := 0.
		for _, edges := range of {
			sum += objective(m, m.Taste(edges).vector, edges)
		}
		for _, y := range m.vectors {
			sum += float64(y) * float64(y)
		}
		if sum > before*(1+1e-6) { // vectors are float32
			t.Errorf("after %d sweeps the objective is %v, before it was %v", sweeps, sum, before)
		}
		before = sum
	}
}

// One sweep by the formula of the paper, x = (Yᵀ C Y + λ I)⁻¹ Yᵀ C p, with whole matrices.
func TestOneSweepByHand(t *testing.T) {
	const n, penalty, confidence = 2, .7, 3.
	weights := map[[2]string]float64{{"a", "x"}: 1, {"a", "y"}: .5, {"b", "y"}: 1, {"c", "z"}: .25, {"c", "x"}: 1}
	users, items := []string{"a", "b", "c"}, []string{"x", "y", "z"}
	e := &Edges{}
	y := map[string][]float64{}
	for at, w := range weights {
		add(t, e, at[0], at[1], w)
	}
	for _, id := range items {
		start := make([]float32, n)
		begin(start, id, 9)
		y[id] = []float64{float64(start[0]), float64(start[1])}
	}
	solve := func(others []string, of map[string][]float64, weight func(other string) float64) []float64 {
		a, b := [2][2]float64{{penalty, 0}, {0, penalty}}, [2]float64{}
		for _, o := range others {
			v, w := of[o], weight(o)
			c := 1 + confidence*w
			for i := range n {
				if w > 0 {
					b[i] += c * v[i]
				}
				for j := range n {
					a[i][j] += c * v[i] * v[j]
				}
			}
		}
		det := a[0][0]*a[1][1] - a[0][1]*a[1][0]
		return []float64{(b[0]*a[1][1] - b[1]*a[0][1]) / det, (b[1]*a[0][0] - b[0]*a[1][0]) / det}
	}
	x := map[string][]float64{}
	for _, u := range users {
		x[u] = solve(items, y, func(i string) float64 { return weights[[2]string{u, i}] })
	}
	m := fitted(t, e, Options{Dimensions: n, Penalty: penalty, Confidence: confidence, Sweeps: 1, Seed: 9})
	for k, id := range items {
		want := solve(users, x, func(u string) float64 { return weights[[2]string{u, id}] })
		for d, got := range m.vector(int32(k)) {
			if math.Abs(float64(got)-want[d]) > 1e-5 {
				t.Errorf("item %s: dimension %d is %v, want %v", id, d, got, want[d])
			}
		}
	}
}

// Users find what their kind has, and what is alike without a common user.
func TestTasteFindsItsKind(t *testing.T) {
	e, of := world(t, 200, 60, 3)
	m := fitted(t, e, Options{Dimensions: 4})
	right := 0
	for user, edges := range of {
		var u int
		fmt.Sscanf(user, "u%d", &u)
		taste := m.Taste(edges)
		own, _ := taste.Of(fmt.Sprint("i", u%2))
		other, _ := taste.Of(fmt.Sprint("i", 1-u%2))
		if own > other {
			right++
		}
	}
	if right < 190 {
		t.Errorf("%d of 200 users are nearer to their own kind", right)
	}
}

func TestProductAndFit(t *testing.T) {
	m := &Model{training: Training{Dimensions: 2, Penalty: 1, Confidence: 1}, items: []string{"against", "far", "near", "none"},
		vectors: []float32{-1, 0, 3, 4, .6, .8, 0, 0}}
	if err := m.complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	taste := Taste{m, []float64{1, .5}}
	for item, want := range map[string][2]float64{"near": {1, 1}, "far": {5, 1}, "against": {0, 0}, "none": {0, 0}, "unknown": {0, 0}} {
		product, fit := taste.Of(item)
		if math.Abs(product-want[0]) > 1e-6 || math.Abs(fit-want[1]) > 1e-6 {
			t.Errorf("%s: %v and %v, want %v", item, product, fit, want)
		}
	}
	for name, taste := range map[string]Taste{"no model": {}, "no edges": m.Taste(nil), "unknown items": m.Taste([]Edge{{"new", 1}}),
		"no weights": m.Taste([]Edge{{"near", 0}, {"near", -1}, {"far", math.NaN()}, {"far", math.Inf(1)}})} {
		if product, fit := taste.Of("near"); product != 0 || fit != 0 {
			t.Errorf("%s: %v and %v, want 0", name, product, fit)
		}
	}
}

// The same edges give the same bytes, whatever their order, their duplicates and the number of threads.
func TestFitDependsOnTheEdgesAlone(t *testing.T) {
	type one struct {
		user, item string
		weight     float64
	}
	_, of := world(t, 3000, 40, 4) // more users than one part of a gram sums
	var all []one
	for user, edges := range of {
		for _, e := range edges {
			all = append(all, one{user, e.Item, e.Weight})
		}
	}
	var want [][]byte
	for run, threads := range []int{1, 2, 5} {
		rand.New(rand.NewPCG(uint64(run), 0)).Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		e := &Edges{}
		for i, x := range all {
			if i%3 == run {
				add(t, e, x.user, x.item, x.weight/2) // the larger one counts
			}
			add(t, e, x.user, x.item, x.weight)
		}
		before := runtime.GOMAXPROCS(threads)
		got := fitted(t, e, Options{Dimensions: 3, Sweeps: 2}).Parts("m", 2)
		runtime.GOMAXPROCS(before)
		if want == nil {
			want = got
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("on %d threads and in another order the factors are others", threads)
		}
	}
}

// Edges that come from both ends take the room of one.
func TestDuplicatesAreDroppedOnTheWay(t *testing.T) {
	e := &Edges{}
	before, sorted := 0, 0
	for range 8 {
		for i := range compactFrom {
			add(t, e, fmt.Sprint("u", i%500), fmt.Sprint("i", i/500), 1)
			if len(e.all) <= before {
				sorted++
			}
			before = len(e.all)
		}
	}
	if sorted > 16 {
		t.Errorf("all edges are sorted %d times", sorted)
	}
	if cap(e.all) > 3*compactFrom {
		t.Errorf("%d edges take room for %d", compactFrom, cap(e.all))
	}
	if got := fitted(t, e, Options{Dimensions: 1, Sweeps: 1}).Training().Edges; got != compactFrom {
		t.Errorf("%d edges are learned from, want %d", got, compactFrom)
	}
}

// More edges than a solver holds at once are summed like fewer.
func TestAnItemThatEverybodyHas(t *testing.T) {
	const n, edges = 3, 2*rowsAtOnce + 7
	rng := rand.New(rand.NewPCG(1, 1))
	s := newSolver(n)
	s.begin([]float64{1, 0, 0, 0, 1, 0, 0, 0, 1})
	want := []float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	for range edges {
		y, extra := []float32{rng.Float32(), rng.Float32(), rng.Float32()}, 9*rng.Float64()
		s.add(y, extra)
		for a := range n {
			for b := a; b < n; b++ {
				want[a*n+b] += extra * float64(y[a]) * float64(y[b])
			}
		}
	}
	s.sum()
	for k, w := range want {
		if math.Abs(s.left.Data[k]-w) > 1e-9*w {
			t.Errorf("entry %d is %v, want %v", k, s.left.Data[k], w)
		}
	}
	if cap(s.rows) > 2*rowsAtOnce*n {
		t.Errorf("the solver holds room for %d rows", cap(s.rows)/n)
	}
}

func TestFitRefuses(t *testing.T) {
	e, _ := world(t, 5, 5, 5)
	ended, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]struct {
		ctx  context.Context
		of   *Edges
		o    Options
		want string
	}{
		"nothing":        {t.Context(), &Edges{}, Options{}, "there is no edge to learn from"},
		"dimensions":     {t.Context(), e, Options{Dimensions: 257}, "option Dimensions is 257: give 1 to 256, or 0 for 16"},
		"less than none": {t.Context(), e, Options{Sweeps: -1}, "option Sweeps is -1"},
		"penalty":        {t.Context(), e, Options{Penalty: math.NaN()}, "option Penalty is NaN: give a number from 0.001 to 1e6, or 0 for 20"},
		"confidence":     {t.Context(), e, Options{Confidence: -2}, "option Confidence is -2"},
		"it has to end":  {ended, e, Options{}, "context canceled"},
	} {
		if _, err := Fit(c.ctx, c.of, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Fit(t.Context(), &Edges{}, Options{}); !errors.Is(err, ErrNothing) {
		t.Errorf("%v is not ErrNothing", err)
	}
	for _, weight := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-60, math.MaxFloat64} {
		if err := e.Add("u", "i", weight); err == nil {
			t.Errorf("an edge of weight %v is taken", weight)
		}
	}
	for _, id := range []string{"", strings.Repeat("x", 65)} {
		if e.Add("u", id, 1) == nil || e.Add(id, "i", 1) == nil {
			t.Errorf("the id %q is taken", id)
		}
	}
}

func TestProgressReachesItsEnd(t *testing.T) {
	e, _ := world(t, 30, 20, 6)
	last, ends := 0, 0
	fitted(t, e, Options{Dimensions: 2, Sweeps: 3, Progress: func(done, total int) {
		if done < last || done > total {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last, ends = done, total
	}})
	if last != ends || last != 3*(30+20) {
		t.Errorf("it ended at %d of %d, want 150", last, ends)
	}
}

func BenchmarkTaste(b *testing.B) {
	e, of := world(b, 500, 400, 7)
	m := fitted(b, e, Options{})
	edges := of["u1"]
	edges = edges[:min(len(edges), 128)]
	for b.Loop() {
		m.Taste(edges)
	}
}

func BenchmarkFit(b *testing.B) {
	e, _ := world(b, 1000, 400, 8)
	b.ReportMetric(float64(len(e.all)), "edges")
	for b.Loop() {
		fitted(b, e, Options{Sweeps: 1})
	}
}
