package graphcache

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash/fnv"
	"strconv"
)

// group of a node; FNV-1a is part of the key format.
func group(id string) int {
	h := fnv.New64a()
	h.Write([]byte(id))
	return int(h.Sum64() % groups)
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
func (c *Cache) tombstone(user string) string {
	m := hmac.New(sha256.New, c.opt.ForgetKey)
	m.Write([]byte(user))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}
