package token

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// cache remembers the tokens of words. Each word has one place, and a new word there drives out the old one: bounded,
// without locks, and at worst useless.
type cache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word   string
	tokens []int32
}

const (
	cacheSlots      = 1 << 14 // a power of two
	cachedWordBytes = 64      // longer words are rare, and rarely come again
)

func newCache() cache {
	return cache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[cachedWord], cacheSlots)}
}

func (c *cache) slot(word string) *atomic.Pointer[cachedWord] {
	return &c.slots[maphash.String(c.seed, word)%cacheSlots]
}

func (s *cachedWord) is(word string) bool { return s != nil && s.word == word }

func remember(slot *atomic.Pointer[cachedWord], word string, tokens []int32) {
	// Clones, since the word is a part of a text that must not be kept alive, and the tokens belong to the caller.
	slot.Store(&cachedWord{strings.Clone(word), append([]int32(nil), tokens...)})
}
