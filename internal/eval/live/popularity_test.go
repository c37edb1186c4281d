package live

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// Over many lists of 20, each of distinct items, the measure tells the two draws of the protocol apart.
func TestDrawTellsHowAListWasDrawn(t *testing.T) {
	p := popularity{of: map[string]int{}}
	var items, likes []string
	for _, in := range ratings(t, 20000) {
		if _, seen := p.of[in.ItemID]; !seen {
			items = append(items, in.ItemID)
		}
		p.add(in)
		if eval.IsPositive(in) {
			likes = append(likes, in.ItemID)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name string
		pool []string
		want float64
	}{{"uniformly", items, 0}, {"by likes", likes, 1}} {
		const lists = 400
		mean, right := 0.0, 0
		for range lists {
			drawn := map[string]bool{}
			var list []string
			for len(list) < 20 {
				if x := c.pool[rng.IntN(len(c.pool))]; !drawn[x] {
					drawn[x] = true
					list = append(list, x)
				}
			}
			d := p.draw(list)
			mean += d / lists
			if math.Abs(d-c.want) < .5 {
				right++
			}
		}
		if math.Abs(mean-c.want) > .15 || right < lists*9/10 {
			t.Errorf("lists drawn %s: %.2f in the mean, want about %v; %d of %d are nearer to it than to the other", c.name, mean, c.want, right, lists)
		}
	}
}

// The sums that are kept as likes come are those over all items.
func TestPopularityIsCounted(t *testing.T) {
	p := popularity{of: map[string]int{}}
	likes := map[string]int{}
	for _, in := range ratings(t, 60000) { // enough for items that reach the cap
		p.add(in)
		likes[in.ItemID] += 0
		if eval.IsPositive(in) && likes[in.ItemID] < 128 {
			likes[in.ItemID]++
		}
	}
	var total, logs, weighed float64
	top := 0
	for _, n := range likes {
		total += float64(n)
		top = max(top, n)
		if n > 0 {
			logs += math.Log(float64(n))
			weighed += float64(n) * math.Log(float64(n))
		}
	}
	uniform, byLikes := logs/float64(len(likes)), weighed/total
	for name, v := range map[string][2]float64{
		"items": {p.items, float64(len(likes))}, "likes": {p.likes, total}, "uniform": {p.logs / p.items, uniform}, "by likes": {p.weighed / p.likes, byLikes},
	} {
		if math.Abs(v[0]-v[1]) > 1e-9*v[1] {
			t.Errorf("%s: %v, want %v", name, v[0], v[1])
		}
	}
	if top != 128 {
		t.Errorf("the most liked item has %d likes: the cap is not tried", top)
	}
}

// A number always comes out, however odd the stream.
func TestDrawIsANumber(t *testing.T) {
	like := func(item string) event.Interaction { return event.Interaction{ItemID: item, Type: event.Like} }
	for name, c := range map[string]struct {
		events []event.Interaction
		list   []string
		want   float64
	}{
		"nothing was seen":           {nil, []string{"a", "b"}, 0},
		"no candidates":              {[]event.Interaction{like("a")}, nil, 0},
		"only views":                 {[]event.Interaction{{ItemID: "a", Type: event.View}}, []string{"a", "b"}, 0},
		"all are alike":              {[]event.Interaction{like("a"), like("b")}, []string{"a", "b"}, 0},
		"nobody knows the candidate": {[]event.Interaction{like("a"), like("b")}, []string{"x", "y"}, 0},
	} {
		p := popularity{of: map[string]int{}}
		for _, in := range c.events {
			p.add(in)
		}
		if got := p.draw(c.list); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	p := popularity{of: map[string]int{}}
	for i := range 500 {
		p.add(like("one"))
		p.add(like(fmt.Sprint(i)))
	}
	for _, list := range [][]string{{"one"}, {"1", "2"}, {"unknown"}} {
		if d := p.draw(list); math.Abs(d) > 5 {
			t.Errorf("%q: %v is far outside what a draw can be", list, d)
		}
	}
}
