package world

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// item is what New knows of an item beyond its catalogue record.
type item struct {
	traits  []float64
	appeal  float64 // standard normal; the rank in popularity is the rank in appeal
	quality float64 // standard normal; popular items are somewhat better
	born    event.Time
	kinds   []int // numbers of its categories
	shelf   int   // where its shelf begins, in shelved
	place   int   // its own place there
}

// liking is the correlation of an item's appeal and its quality.
const liking = .6

// popularitySteps is in how many steps popularity moves over the span.
const popularitySteps = 256

func (w *World) newItems(rng *rand.Rand) {
	o := w.opt
	centres := make([][]float64, o.Categories)
	for k := range centres {
		centres[k] = normals(rng, o.Factors)
	}
	w.items = make([]item, o.Items)
	for i := range w.items {
		it := &w.items[i]
		it.appeal = normal(rng)
		it.quality = float64(liking*it.appeal) + float64(math.Sqrt(1-liking*liking)*normal(rng))
		it.born = o.Start
		if age := event.Time(rng.Float64() * float64(o.Span.Milliseconds())); rng.Float64() < o.Newcomers {
			it.born += age
		} else {
			it.born -= age
		}
		it.born = it.born / 1000 * 1000 // as choices are, so that none is before
		it.traits = normals(rng, o.Factors)
		if o.Categories > 0 && rng.Float64() >= o.Uncategorised {
			it.kinds = drawKinds(rng, o.Categories)
			lean(it.traits, it.kinds, centres, o.Informative)
		}
	}
	w.shelve(rng)
	w.weigh(rng)
}

// drawKinds draws one to four categories; those of small number are drawn more often.
func drawKinds(rng *rand.Rand, categories int) []int {
	var kinds []int
	for range 1 + rng.IntN(2) + rng.IntN(2)*rng.IntN(3) {
		x := rng.Float64()
		if k := int(x * x * float64(categories)); !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// lean moves traits towards the centres of an item's categories, which then explain a share of their variance.
func lean(traits []float64, kinds []int, centres [][]float64, share float64) {
	own, common := math.Sqrt(1-share), math.Sqrt(share/float64(len(kinds)))
	for f := range traits {
		sum := 0.0
		for _, k := range kinds {
			sum += centres[k][f]
		}
		traits[f] = float64(own*traits[f]) + float64(common*sum)
	}
}

// shelve puts items of similar traits and popularity beside each other.
func (w *World) shelve(rng *rand.Rand) {
	keys := make([]float64, len(w.items))
	w.shelved = make([]int, len(w.items))
	for i, it := range w.items {
		keys[i] = it.traits[0] + it.appeal + float64(w.opt.Order*normal(rng))
		w.shelved[i] = i
	}
	slices.SortFunc(w.shelved, func(a, b int) int { return cmp.Or(cmp.Compare(keys[a], keys[b]), cmp.Compare(a, b)) })
	for place, i := range w.shelved {
		w.items[i].place = place
		w.items[i].shelf = place - place%w.opt.Shelf
	}
}

// shelf are the items beside one, itself included, in their order.
func (w *World) shelf(i int) []int {
	from := w.items[i].shelf
	return w.shelved[from:min(from+w.opt.Shelf, len(w.shelved))]
}

// weigh tabulates W(i,t).
func (w *World) weigh(rng *rand.Rand) {
	o := w.opt
	byAppeal := make([]int, len(w.items))
	for i := range byAppeal {
		byAppeal[i] = i
	}
	slices.SortFunc(byAppeal, func(a, b int) int {
		return cmp.Or(cmp.Compare(w.items[b].appeal, w.items[a].appeal), cmp.Compare(a, b))
	})
	w.weights = make([][]float64, popularitySteps)
	for s := range w.weights {
		w.weights[s] = make([]float64, len(w.items))
	}
	season := o.apart(o.Season)
	fashion := newPath(rng, o.Factors, season)
	worn := make([][]float64, popularitySteps) // the fashion of each step
	middle := func(s int) float64 { return (float64(s) + .5) / popularitySteps }
	for s := range worn {
		worn[s] = fashion.at(middle(s))
	}
	for rank, i := range byAppeal {
		base := -float64(o.Zipf * log(float64(rank+1)+float64(o.Head*float64(len(w.items)))))
		hype := newPath(rng, 1, season)
		for s := range w.weights {
			at := o.Start + event.Time(middle(s)*float64(o.Span.Milliseconds()))
			w.weights[s][i] = base + o.novelty(max(0, at-w.items[i].born)) + float64(o.Hype*hype.at(middle(s))[0]) +
				float64(o.Fashion*dot(worn[s], w.items[i].traits)/math.Sqrt(float64(o.Factors)))
		}
	}
}

// novelty is what an item's age in milliseconds adds to the log of its popularity.
func (o Options) novelty(age event.Time) float64 {
	sum := 0.0
	if rise := event.Time(o.Rise.Milliseconds()); age < rise {
		sum = log(float64(age+1) / float64(rise))
	}
	if o.Fade > 0 {
		left := exp(-math.Ln2 * float64(age) / float64(o.Fade.Milliseconds()))
		sum += log(max(o.Floor+float64((1-o.Floor)*left), 1e-12))
	}
	return sum
}
