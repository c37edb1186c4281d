package graphcache

import (
	"math"
	"strings"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// taste is what a user's history, and the lists of its items, say about others: who chose the same things and when.
// It is everything that the evidence of a candidate needs beside the candidate's own list.
type taste struct {
	likes, edges float64 // lengths of the user's list: positive edges, and all
	roots        []root
	positive     int   // of the roots
	index        index // of everybody in the roots' lists, into met
	met          []acquaintance
	meetings     []meeting
	categories   map[string]float64       // share of mentions
	gaps         [len(event.Gaps)]float64 // in milliseconds
}

// root is an item of the history whose list was read.
type root struct {
	Edge
	list                node
	liked, degree       float64 // lengths of its list: positive edges, and all
	byTen, byThree      float64 // halved every so many places among the positive
	anyOne, anyFour     float64 // halved every so many places among all roots
	anyTen, anyFar      float64 // far: 32 places
	newestTen, positive bool
}

// common users of an item of the history and a candidate.
type common struct {
	liked, faded, any float64 // who chose both, the same halved with age, who dealt with both
	moment, minute    float64 // who dealt with both, each worth 1/(1 + gap/NearGap) and 1/(1 + gap/Gaps[0])
	visit, day        float64 // who did within ten minutes, within a day
	norm              float64 // root of the product of the lists' lengths, where anybody did
}

// acquaintance is another user in the roots' lists.
type acquaintance struct {
	id          string
	shared, any float64 // items that both chose, and that both dealt with
	degree      float64 // of the other's list; 0: not known, so that the two cannot be compared
	last        int32   // of the meetings, which are linked backwards; -1: none
}

// meeting is one item that both dealt with.
type meeting struct {
	who      int32 // of met
	root     int32
	previous int32
	at       event.Time // when the other did
	positive bool       // on both sides
}

// How close in time two things that a user did belong together, to one visit and to one day, and what event.NearGap is:
// milliseconds.
const (
	togetherGap = float64(2 * time.Minute / time.Millisecond)
	visitGap    = float64(10 * time.Minute / time.Millisecond)
	dayGap      = float64(24 * time.Hour / time.Millisecond)
	nearGap     = float64(event.NearGap / time.Millisecond)
)

// newTaste reads a user's history, newest first, and the lists of those of its items that are its roots, in the same
// order.
func newTaste(user string, history, roots []Edge, lists []node) *taste {
	met := 0
	for _, l := range lists {
		met += len(l.edges)
	}
	t := &taste{edges: float64(len(history)), roots: make([]root, len(lists)), index: index{size: met},
		met: make([]acquaintance, 0, met), meetings: make([]meeting, 0, met)} // most are met once
	for k, g := range event.Gaps {
		t.gaps[k] = float64(g.Milliseconds())
	}
	place := 0
	for _, e := range history {
		if e.Kind.Positive() {
			t.likes++
		}
	}
	for i, list := range lists {
		e := roots[i]
		liked, degree := list.lengths()
		t.roots[i] = root{
			Edge: e, list: list, liked: max(1, liked), degree: max(1, degree), positive: e.Kind.Positive(), newestTen: place < 10,
			byTen: places(place, 10), byThree: places(place, 3),
			anyOne: places(i, 1), anyFour: places(i, 4), anyTen: places(i, 10), anyFar: places(i, 32),
		}
		if e.Kind.Positive() {
			place++
			t.positive = place
		}
		for _, o := range list.edges {
			if o.ID == user {
				continue
			}
			k := t.index.of(o.ID)
			if k == stranger {
				k = int32(len(t.met))
				t.index.add(o.ID, k)
				t.met = append(t.met, acquaintance{id: o.ID, last: -1})
			}
			a := &t.met[k]
			m := meeting{who: k, root: int32(i), at: o.At, positive: e.Kind.Positive() && o.Kind.Positive(), previous: a.last}
			a.last = int32(len(t.meetings))
			t.meetings = append(t.meetings, m)
			a.any++
			if m.positive {
				a.shared++
			}
		}
	}
	return t
}

// rootsOf are the newest n positive edges of a history and the newest n others, in the history's order: who mostly says
// what he dislikes still has chains to start from.
func rootsOf(history []Edge, n int) []Edge {
	roots := make([]Edge, 0, min(2*n, len(history)))
	positive, other := 0, 0
	for _, e := range history {
		count := &other
		if e.Kind.Positive() {
			count = &positive
		}
		if *count < n {
			*count++
			roots = append(roots, e)
		}
	}
	return roots
}

// places halves a weight every so many places of a history.
func places(place int, half float64) float64 { return math.Exp2(-float64(place) / half) }

// lengths of a list, positive edges and all; where not all were read, the positive share of those that were is taken for
// that of all.
func (n node) lengths() (liked, all float64) {
	positive := 0
	for _, e := range n.edges {
		if e.Kind.Positive() {
			positive++
		}
	}
	return lengths(positive, len(n.edges), n.degree)
}

func lengths(positive, read int, degree int64) (liked, all float64) {
	liked = float64(positive)
	if read > 0 {
		liked *= float64(degree) / float64(read)
	}
	return liked, float64(degree)
}

// closest are at most n of the acquaintances, by index, those who dealt with most of the same things first.
func (t *taste) closest(n int) []int32 {
	all := make([]int32, len(t.met))
	for i := range all {
		all[i] = int32(i)
	}
	if len(all) <= n {
		return all
	}
	return first(all, n, func(a, b int32) int {
		x, y := &t.met[a], &t.met[b]
		switch { // counts, never NaN
		case x.any != y.any:
			return sign(y.any - x.any)
		case x.shared != y.shared:
			return sign(y.shared - x.shared)
		}
		return strings.Compare(x.id, y.id)
	})
}

func sign(x float64) int {
	if x < 0 {
		return -1
	}
	return 1
}

// mention counts the categories of the positive roots, halved every ten places, as shares that sum to 1.
func (t *taste) mention(categories func(item string) []string) {
	t.categories = map[string]float64{}
	var sum float64
	for _, r := range t.roots {
		if !r.positive {
			continue
		}
		for _, c := range categories(r.ID) {
			t.categories[c] += r.byTen
			sum += r.byTen
		}
	}
	if sum == 0 { // also where every mention is too many places back
		return
	}
	for c := range t.categories {
		t.categories[c] /= sum
	}
}

// evidence about a candidate. Choices are halved with their age before newest, the newest of all candidates' edges:
// within a list of candidates that gives the same as any other moment, and never underflows. Ages are counted from
// asOf. Chains are not counted here. Goroutines may count side by side, each in a room of its own.
func (t *taste) evidence(room *counting, list audience, categories []string, newest, asOf event.Time) event.Evidence {
	liked, degree := list.lengths()
	e := event.Evidence{Popularity: int(list.degree), Liked: liked}
	liked, degree = max(1, liked), max(1, degree)
	room.crowd(&e, list, newest, asOf)
	minimum := float64(minShared(int(t.likes)))
	commons := room.commons
	clear(commons)
	for _, i := range room.known {
		o, faded := &list.edges[i], &room.faded[i]
		at, positive := o.at(), o.positive()
		a := &t.met[o.who]
		if a.degree > 0 {
			e.Interest += a.any * a.any / (t.edges * a.degree)
			if positive && a.shared > 0 {
				cos2 := a.shared * a.shared / (t.likes * a.degree)
				e.LikeMinded += cos2
				for k := range faded {
					e.LikeMindedRecent[k] += cos2 * faded[k]
				}
				if a.shared >= minimum {
					e.Support++
				}
			}
		}
		for m := a.last; m >= 0; m = t.meetings[m].previous {
			meet := &t.meetings[m]
			c := &commons[meet.root]
			if c.any == 0 {
				c.norm = math.Sqrt(t.roots[meet.root].degree * degree)
			}
			c.any++
			if meet.positive && positive {
				c.liked++
				c.faded += faded[1]
			}
			t.sequence(&e, c, t.roots[meet.root].anyFour/c.norm, float64(at-meet.at))
		}
	}
	for i := range t.roots {
		r, both := &t.roots[i], &commons[i]
		if both.any == 0 {
			continue
		}
		e.SimilarAny += r.anyTen * both.any / both.norm
		e.Near[0] += r.anyOne * both.moment / both.norm
		e.Near[1] += r.anyOne * both.minute / both.norm
		e.Near[2] += r.anyFar * both.minute / both.norm
		e.Transition[0] += r.anyFour * both.minute / r.degree
		e.Transition[1] += r.anyFour * both.minute / (r.degree * degree)
		e.Session[0] += r.anyTen * both.visit / both.norm
		e.Session[1] += r.anyFar * both.day / both.norm
		if both.liked == 0 {
			continue
		}
		norm := math.Sqrt(r.liked * liked)
		cos := both.liked / norm
		e.Similar += r.byTen * cos
		e.SimilarLast += r.byThree * cos
		e.SimilarRecent += r.byTen * both.faded / norm
		e.Lift += r.byTen * both.liked / (r.liked * liked)
		if r.newestTen {
			e.Best = max(e.Best, cos)
		}
	}
	for _, c := range categories {
		e.Category += t.categories[c]
	}
	e.Category = min(e.Category, 1)
	return e
}

// counting is room to count the evidence of one candidate after another.
type counting struct {
	commons []common // with each root
	faded   []faded  // of each edge
	known   []int32  // places of the edges of acquaintances
}

func (t *taste) counting() *counting { return &counting{commons: make([]common, len(t.roots))} }

// crowd counts what all of a list's edges say, whoever they are of, and finds those of acquaintances: one in ten, so that
// the many go through a loop that does nothing else.
func (c *counting) crowd(e *event.Evidence, list audience, newest, asOf event.Time) {
	if n := len(list.edges); len(c.faded) < n {
		n = max(n, 2*len(c.faded))
		c.faded, c.known = make([]faded, n), make([]int32, n)
	}
	var recent, dealt faded
	c.known = c.known[:cap(c.known)]
	chosen, last, known := 0, event.Time(0), 0
	for i := range list.edges {
		o, f := &list.edges[i], &c.faded[i]
		at := o.at()
		f.fade(max(0, newest-at))
		c.known[known] = int32(i)
		if o.who != stranger {
			known++
		}
		for k := range dealt {
			dealt[k] += f[k]
		}
		if !o.positive() {
			continue
		}
		for k := range recent {
			recent[k] += f[k]
		}
		last = at
		chosen++
		switch chosen {
		case 1:
			e.Ages[0] = seconds(asOf - at)
		case 3:
			e.Ages[1] = seconds(asOf - at)
		case 10:
			e.Ages[2] = seconds(asOf - at)
		}
	}
	if chosen > 0 {
		e.Ages[3] = seconds(asOf - last)
	}
	e.Recent, e.RecentAny, c.known = recent, dealt, c.known[:known]
}

// sequence counts a user who dealt with an item of the history and, gap milliseconds later, with the candidate: for the
// evidence, and among those whom the two have in common.
func (t *taste) sequence(e *event.Evidence, c *common, weight, gap float64) {
	side := &e.After
	if gap < 0 {
		side, gap = &e.Before, -gap
	}
	var worth [len(event.Gaps)]float64
	for k, g := range t.gaps {
		worth[k] = 1 / (1 + gap/g)
		side[k] += weight * worth[k]
	}
	c.minute += worth[0]
	c.moment += 1 / (1 + gap/nearGap)
	if gap < visitGap {
		c.visit++
		if gap < togetherGap {
			e.Together += weight
		}
	}
	if gap < dayGap {
		c.day++
	}
}

// seconds of an age, at least one millisecond: 0 stands for never.
func seconds(age event.Time) float64 { return float64(max(1, age)) / 1000 }
