package graphcache

import (
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/rdb"
)

// audience is an item's list, as a node, but its users go by their numbers in an index: of 25,000 edges of the candidates
// hardly one user in ten is known, and no id of any is shown.
type audience struct {
	edges  []contact
	degree int64
}

// contact is an edge to one of the known, or to a stranger.
type contact struct {
	score int64 // of the edge
	who   int32
}

// stranger is who is not in the index.
const stranger = -1

func (c contact) at() event.Time { return event.Time(c.score >> 3) }
func (c contact) positive() bool { return Kind(c.score & 7).Positive() }

func (a audience) lengths() (liked, all float64) {
	n := 0
	for i := range a.edges {
		if a.edges[i].positive() {
			n++
		}
	}
	return lengths(n, len(a.edges), a.degree)
}

func (a audience) has(who int32) bool {
	return slices.ContainsFunc(a.edges, func(c contact) bool { return c.who == who })
}

// without is the list without one of its edges; one that was not read is not missed.
func (a audience) without(who int32) audience {
	i := slices.IndexFunc(a.edges, func(c contact) bool { return c.who == who })
	if i < 0 {
		return a
	}
	return audience{edges: slices.Concat(a.edges[:i], a.edges[i+1:]), degree: a.degree - 1}
}

// index numbers ids from 0 on. An id that is the digits of an integer is looked up as that, so that it need not be made
// into text where Redis stores an integer. The zero value is an empty index.
type index struct {
	numbers map[int64]int32
	texts   map[string]int32
	size    int // expected, at most
	sieve   *sieve
}

// sieve has a bit set for every number of an index, so that most strangers, who are most of an audience, are told without
// the map. Numbers chosen to share bits cost no more than the map's time.
type sieve [1 << sieveBits / 64]uint64

const sieveBits = 16 // 8 KiB, in which the 8192 ids that DefaultRead meets at most leave seven bits of eight unset

// bit is where a number's bit stands: multiplicative hashing (Knuth, TAOCP 6.4).
func (*sieve) bit(n int64) (word int, mask uint64) {
	h := uint64(n) * 0x9e3779b97f4a7c15 >> (64 - sieveBits)
	return int(h / 64), 1 << (h % 64)
}

// of is the number of an id, or stranger.
func (x *index) of(id string) int32 {
	if n, ok := integer(id); ok {
		return x.ofNumber(n)
	}
	if k, ok := x.texts[id]; ok {
		return k
	}
	return stranger
}

func (x *index) ofNumber(n int64) int32 {
	if x.sieve == nil {
		return stranger
	}
	if word, mask := x.sieve.bit(n); x.sieve[word]&mask == 0 {
		return stranger
	}
	if k, ok := x.numbers[n]; ok {
		return k
	}
	return stranger
}

// ofRaw is of for a member of a list.
func (x *index) ofRaw(r *rdb.Raw) int32 {
	if r.Integer {
		return x.ofNumber(r.Number)
	}
	return x.of(r.Text)
}

// add gives an id, which has none yet, its number.
func (x *index) add(id string, k int32) {
	if n, ok := integer(id); ok {
		if x.numbers == nil {
			x.numbers, x.sieve = make(map[int64]int32, x.size), new(sieve)
		}
		word, mask := x.sieve.bit(n)
		x.sieve[word] |= mask
		x.numbers[n] = k
		return
	}
	if x.texts == nil {
		x.texts = make(map[string]int32, x.size)
	}
	x.texts[id] = k
}

// audience is a list that was read with its ids.
func (x *index) audience(n node) audience {
	a := audience{edges: make([]contact, len(n.edges)), degree: n.degree}
	for i, e := range n.edges {
		a.edges[i] = contact{score: e.Score(), who: x.of(e.ID)}
	}
	return a
}

// integer is the number whose decimal digits, as strconv.FormatInt gives them, are the id; ok is false where there is none.
func integer(id string) (n int64, ok bool) {
	digits := id
	if len(id) > 1 && id[0] == '-' {
		digits = id[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(id) > 1 {
		return 0, false
	}
	var u uint64 // 19 digits fit
	for i := range len(digits) {
		d := digits[i] - '0'
		if d > 9 {
			return 0, false
		}
		u = u*10 + uint64(d)
	}
	switch negative := len(digits) < len(id); {
	case negative && u <= -math.MinInt64:
		return -int64(u), true
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}
