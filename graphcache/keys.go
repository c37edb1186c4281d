package graphcache

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
)

// group of a node; FNV-1a is part of the key format.
func group(id string) int { return int(hash(id) % groups) }

// hash is the 64-bit FNV-1a of an id, as hash/fnv computes it, without its allocations.
func hash(id string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * prime
	}
	return h
}

func (c *Cache) tag(g int) string { return c.graph + "{" + strconv.Itoa(g) + "}:" }

func (c *Cache) userKey(user string) string    { return c.tag(group(user)) + "u:" + user }
func (c *Cache) itemKey(item string) string    { return c.tag(group(item)) + "i:" + item }
func (c *Cache) settledKey(user string) string { return c.tag(group(user)) + "x:" + user }
func (c *Cache) recentKey(g int) string        { return c.tag(g) + "recent" }
func (c *Cache) catalogueKey(g int) string     { return c.tag(g) + "items" }
func (c *Cache) watermarkKey(g int) string     { return c.tag(g) + "wm" }
func (c *Cache) forgetKey(g int) string        { return c.tag(g) + "forget" }
func (c *Cache) erasingKey(g int) string       { return c.tag(g) + "erasing" }

// graphPrefix is what the keys of a graph's groups begin with.
func graphPrefix(o Options) string {
	if o.Generation == 0 {
		return o.Prefix
	}
	return o.Prefix + strconv.Itoa(o.Generation) + ":"
}

// watermarkField names a partition within a watermark hash.
func watermarkField(topic string, partition int) string { return topic + "/" + strconv.Itoa(partition) }

// tombstone is the keyed hash under which a forgotten user is remembered: HMAC-SHA256 cut to 128 bits.
func (c *Cache) tombstone(user string) string { return c.tombstones()(user) }

// tombstones is tombstone for many users, one after the other: the key is taken in once.
func (c *Cache) tombstones() func(user string) string {
	m := hmac.New(sha256.New, c.opt.ForgetKey)
	var sum [sha256.Size]byte
	return func(user string) string {
		m.Reset()
		m.Write([]byte(user))
		return base64.RawURLEncoding.EncodeToString(m.Sum(sum[:0])[:16])
	}
}
