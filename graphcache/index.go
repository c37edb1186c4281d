package graphcache

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/rdb"
)

// index numbers ids from 0 on. An id that is the digits of an integer is looked up as that, so that it need not be made
// into text where Redis stores an integer. The zero value is an empty index.
type index struct {
	numbers table
	texts   map[string]int32
	size    int // expected, at most
	sieve   *sieve
}

// sieve has a bit set for every number of an index, so that most strangers, who are most of an audience, are told without
// the table.
type sieve [1 << sieveBits / 64]uint64

const sieveBits = 16 // 8 KiB, in which the 8192 ids that DefaultRead meets at most leave some seven bits of eight unset

// table finds what was put in under an integer, of which no two are the same: open addressing with linear probing (Knuth,
// TAOCP 6.4), in half the time that a map takes.
type table struct {
	keys   []int64 // as many as a power of two, at least half of them unused
	values []int32 // that of each key + 1; 0: unused, which is a stranger's
	used   int
	shift  int // of a hash, so that it is a place
}

// multiplier of the hashes, odd. It is another in every process, so that nobody can choose ids that all hash alike.
var multiplier = rand.Uint64() | 1

// mixed are the bits of an integer, of which the upper ones depend on all: multiplicative hashing (TAOCP 6.4), twice, with
// the upper half folded into the lower in between. Once would leave ids that follow one another, as most do, in a sequence
// of equal steps, which with one multiplier in a hundred falls on few places.
func mixed(n int64) uint64 {
	h := uint64(n) * multiplier
	return (h ^ h>>32) * 0x9e3779b97f4a7c15
}

func newTable(size int) (t table) {
	places := 16
	for places < 2*size {
		places *= 2
	}
	return table{keys: make([]int64, places), values: make([]int32, places), shift: 64 - bits.TrailingZeros(uint(places))}
}

// place is where a key stands, or is to be put.
func (t *table) place(n int64) uint64 {
	at := mixed(n) >> t.shift
	for t.values[at] != 0 && t.keys[at] != n {
		at = (at + 1) & uint64(len(t.keys)-1)
	}
	return at
}

func (t *table) put(n int64, k int32) {
	if 2*t.used >= len(t.keys) {
		larger := newTable(len(t.keys))
		for at, v := range t.values {
			if v != 0 {
				larger.put(t.keys[at], v-1)
			}
		}
		*t = larger
	}
	at := t.place(n)
	t.keys[at], t.values[at] = n, k+1
	t.used++
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
	if h := mixed(n) >> (64 - sieveBits); x.sieve[h/64]&(1<<(h%64)) == 0 {
		return stranger
	}
	return x.numbers.values[x.numbers.place(n)] - 1
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
		if x.sieve == nil {
			x.numbers, x.sieve = newTable(x.size), new(sieve)
		}
		h := mixed(n) >> (64 - sieveBits)
		x.sieve[h/64] |= 1 << (h % 64)
		x.numbers.put(n, k)
		return
	}
	if x.texts == nil {
		x.texts = make(map[string]int32, x.size)
	}
	x.texts[id] = k
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
