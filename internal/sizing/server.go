package sizing

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
)

// Server says how a Redis allocates.
type Server struct {
	// Quantum is the step of jemalloc's small size classes: 8 where Redis brings its own jemalloc, as its own images do,
	// 16 where it takes the system's, as Debian's package does.
	Quantum int
	// Cluster tells that the server is one of a Redis Cluster, which keeps two pointers more for each key.
	Cluster bool
	// Compact is how many entries of a sorted set stay compact, zset-max-listpack-entries; 0: 256, as r2rec wants it.
	Compact int64
}

func (s Server) compactEntries() int64 { return cmp.Or(s.Compact, 256) }

// Validate tells what is wrong.
func (s Server) Validate() error {
	if s.Quantum != 8 && s.Quantum != 16 {
		return fmt.Errorf("sizing: Quantum is %d, must be 8 or 16", s.Quantum)
	}
	if s.Compact < 0 {
		return fmt.Errorf("sizing: Compact is %d, must be at least 0", s.Compact)
	}
	return nil
}

// Sizes of Redis' structures on 64-bit machines.
const (
	objectBytes   = 16 // robj
	entryBytes    = 24 // dictEntry
	clusterBytes  = 16 // more of an entry of the keys' table in a Cluster
	tableBytes    = 56 // dict
	zsetBytes     = 16 // zset: table and skip list
	skipBytes     = 32 // zskiplist
	skipHeadBytes = 24 + 32*16
	skipNodeBytes = 24 // zskiplistNode without levels, of 16 bytes each
	listpackBytes = 7  // header and end
)

// class is the size that jemalloc gives for a request: multiples of the quantum up to 8 of them, then four classes between
// two powers of two (jemalloc(3), "Size classes").
func (s Server) class(n int) int {
	q := s.Quantum
	switch {
	case n <= 8:
		return 8
	case n <= 8*q:
		return (n + q - 1) / q * q
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}

// text is what an sds takes: a header of 1, 3 or 5 bytes, and a zero at the end.
func (s Server) text(n int) int {
	switch {
	case n < 32:
		return s.class(1 + n + 1)
	case n < 256:
		return s.class(3 + n + 1)
	}
	return s.class(5 + n + 1)
}

// key is what the table of keys holds of one: an entry and the name, and another entry where it expires.
func (s Server) key(name int, expires bool) int {
	entry := entryBytes
	if s.Cluster {
		entry += clusterBytes
	}
	n := s.class(entry) + s.text(name)
	if expires {
		n += s.class(entryBytes)
	}
	return n
}

// buckets are the pointers of a table of n entries: the power of two that holds them.
func buckets(n int64) int64 {
	if n == 0 {
		return 0
	}
	size := int64(4)
	for size < n {
		size *= 2
	}
	return 8 * size
}

// compact is a value of n entries in a listpack, of so many bytes each on average.
func (s Server) compact(n int64, entry float64) float64 {
	if n == 0 {
		return 0
	}
	return float64(s.class(objectBytes) + s.class(listpackBytes+int(math.Round(float64(n)*entry))))
}

// sortedSet of n entries, whichever encoding it has.
func (s Server) sortedSet(n int64, of ID) float64 {
	if n <= s.compactEntries() && of.length() <= MaxID {
		return s.compact(n, of.element()+scoreElement)
	}
	fixed := s.class(objectBytes) + s.class(zsetBytes) + s.class(tableBytes) + s.class(skipBytes) + s.class(skipHeadBytes)
	node, share := 0.0, .75 // three of four nodes have one level, three of four of the others two, and so on
	for levels := 1; levels <= 32; levels++ {
		node += share * float64(s.class(skipNodeBytes+16*levels))
		share /= 4
	}
	return float64(fixed) + float64(buckets(n)) + float64(n)*(node+float64(s.class(entryBytes)+s.text(of.length())))
}

// MaxID is how many bytes an id may have: a longer one would take its lists out of the compact encoding.
const MaxID = 64

// ID is how long ids are.
type ID struct {
	Bytes int   // of each; 0: they are numbers
	Most  int64 // where they are numbers: from 1 to this
}

func (id ID) check(name string) error {
	if id.Bytes < 0 || id.Bytes > MaxID || id.Bytes == 0 && id.Most < 1 {
		return fmt.Errorf("sizing: %s is %+v, must have 1 to %d Bytes, or numbers up to Most", name, id, MaxID)
	}
	return nil
}

// length in bytes; of numbers that of nearly all.
func (id ID) length() int {
	if id.Bytes > 0 {
		return id.Bytes
	}
	return len(fmt.Sprint(id.Most * 3 / 4))
}

// element is the mean length of an id in a listpack: its encoding, and its length behind it. Numbers are kept as such
// (lpEncodeIntegerGetType).
func (id ID) element() float64 {
	if id.Bytes > 0 {
		return float64(1 + id.Bytes + 1)
	}
	var sum float64
	from := int64(0)
	for _, c := range []struct {
		to    int64
		bytes float64
	}{{1<<7 - 1, 1}, {1<<12 - 1, 2}, {1<<15 - 1, 3}, {1<<23 - 1, 4}, {1<<31 - 1, 5}, {math.MaxInt64, 9}} {
		to := min(c.to, id.Most)
		if to > from {
			sum += float64(to-from) * (c.bytes + 1)
			from = to
		}
	}
	return sum / float64(id.Most)
}
