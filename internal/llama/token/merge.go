package token

import (
	"math/bits"
	"slices"
)

// noRank is the rank of a pair that no merge joins.
const noRank = ^uint32(0)

// mergeTable finds the merge of two tokens: open addressing, at most half full, because with a Go map new words take
// nearly twice the time.
type mergeTable struct {
	slots []mergeSlot // a power of two; rank is noRank where a slot is empty
	shift int
	made  []int32 // by rank: the token that the merge makes
}

type mergeSlot struct {
	left, right int32
	rank        uint32
}

func newMergeTable(merges int) mergeTable {
	log := bits.Len(uint(2*merges + 1))
	t := mergeTable{slots: make([]mergeSlot, 1<<log), shift: 64 - log, made: make([]int32, merges)}
	for i := range t.slots {
		t.slots[i].rank = noRank
	}
	return t
}

// slot returns the slot of a pair, or the empty one where it would be.
func (t *mergeTable) slot(left, right int32) *mergeSlot {
	// Fibonacci hashing: the upper bits of a product with 2^64 divided by the golden ratio.
	hash := (uint64(uint32(left))<<32 | uint64(uint32(right))) * 0x9E3779B97F4A7C15 >> t.shift
	for {
		s := &t.slots[hash]
		if s.left == left && s.right == right || s.rank == noRank {
			return s
		}
		hash = (hash + 1) & uint64(len(t.slots)-1)
	}
}

// add keeps the first of two merges of the same pair.
func (t *mergeTable) add(left, right int32, rank uint32, made int32) {
	t.made[rank] = made
	if s := t.slot(left, right); s.rank == noRank {
		*s = mergeSlot{left, right, rank}
	}
}

// rank returns noRank for tokens that no merge joins.
func (t *mergeTable) rank(left, right int32) uint32 { return t.slot(left, right).rank }

// shortWord is the length in bytes up to which looking at all pairs for each merge is faster than a heap.
const shortWord = 32

// mergeShort appends the tokens of a word of at most shortWord bytes: of all neighbours the pair of the lowest rank is
// joined, the first one from the left among equals, until no merge is left.
func (t *Tokenizer) mergeShort(dst []int32, word string) []int32 {
	var ids [shortWord]int32
	var ranks [shortWord]uint32 // of a token with the one after it
	n := len(word)
	for i := range n {
		ids[i] = t.byteTokens[word[i]]
	}
	for i := range n - 1 {
		ranks[i] = t.merges.rank(ids[i], ids[i+1])
	}
	for n > 1 {
		best, at := noRank, 0
		for i, rank := range ranks[:n-1] {
			if rank < best {
				best, at = rank, i
			}
		}
		if best == noRank {
			break
		}
		ids[at] = t.merges.made[best]
		n--
		copy(ids[at+1:n], ids[at+2:n+1])
		copy(ranks[at:n-1], ranks[at+1:n])
		if at > 0 {
			ranks[at-1] = t.merges.rank(ids[at-1], ids[at])
		}
		if at < n-1 {
			ranks[at] = t.merges.rank(ids[at], ids[at+1])
		}
	}
	for _, id := range ids[:n] {
		if id != None {
			dst = append(dst, id)
		}
	}
	return dst
}

// merger is the memory of mergeLong: a list of the tokens of a word, and a heap of the pairs that can be joined.
type merger struct {
	list  []link
	heap  pairHeap
	steps int // taken for the last word: tests hold it against n log n
}

type link struct {
	id         int32
	prev, next int32  // -1 at the ends
	rank       uint32 // of this token with the next; noRank also for one that was joined to its left neighbour
}

// mergeLong does what mergeShort does, in n log n for a word of n bytes.
func (t *Tokenizer) mergeLong(dst []int32, word string, m *merger) []int32 {
	n := len(word)
	m.begin(n)
	for i := range n {
		m.list[i] = link{id: t.byteTokens[word[i]], prev: int32(i - 1), next: int32(i + 1), rank: noRank}
	}
	m.list[n-1].next = -1
	for i := range n - 1 {
		m.rate(t, int32(i))
	}
	for len(m.heap.keys) > 0 {
		rank, at := m.heap.pop()
		left := &m.list[at]
		// A pair whose tokens changed was put on the heap again with its new rank: this one is of the past.
		if left.rank != rank {
			continue
		}
		right := &m.list[left.next]
		left.id, left.next, right.rank = t.merges.made[rank], right.next, noRank
		if left.next >= 0 {
			m.list[left.next].prev = at
		}
		m.rate(t, at)
		if left.prev >= 0 {
			m.rate(t, left.prev)
		}
	}
	for i := int32(0); i >= 0; i = m.list[i].next {
		if id := m.list[i].id; id != None {
			dst = append(dst, id)
		}
	}
	return dst
}

// begin makes room for the links of n bytes, which are of no pair yet, and empties the heap.
func (m *merger) begin(n int) {
	m.steps = 0
	m.heap.keys, m.heap.steps = m.heap.keys[:0], &m.steps
	m.list = slices.Grow(m.list[:0], n)[:n]
	for i := range m.list {
		m.list[i].rank = noRank
	}
}

// rate finds the rank of a token with the next one.
func (m *merger) rate(t *Tokenizer, at int32) {
	m.steps++
	l := &m.list[at]
	l.rank = noRank
	if l.next < 0 {
		return
	}
	if l.rank = t.merges.rank(l.id, m.list[l.next].id); l.rank != noRank {
		m.heap.push(l.rank, at)
	}
}

// pairHeap is a binary heap with the lowest rank first and the leftmost pair among equals: both in one number.
type pairHeap struct {
	keys  []uint64
	steps *int
}

func (h *pairHeap) push(rank uint32, at int32) {
	key := uint64(rank)<<32 | uint64(uint32(at))
	h.keys = append(h.keys, key)
	i := len(h.keys) - 1
	for i > 0 {
		*h.steps++
		parent := (i - 1) / 2
		if h.keys[parent] <= key {
			break
		}
		h.keys[i] = h.keys[parent]
		i = parent
	}
	h.keys[i] = key
}

func (h *pairHeap) pop() (rank uint32, at int32) {
	top := h.keys[0]
	last := len(h.keys) - 1
	key := h.keys[last]
	h.keys = h.keys[:last]
	i := 0
	for {
		*h.steps++
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h.keys[child+1] < h.keys[child] {
			child++
		}
		if key <= h.keys[child] {
			break
		}
		h.keys[i] = h.keys[child]
		i = child
	}
	if last > 0 {
		h.keys[i] = key
	}
	return uint32(top >> 32), int32(uint32(top))
}
