package graphcache

import (
	"strconv"

	"github.com/r2rec/r2rec/internal/event"
)

// AppendAlone appends to dst, in Redis' protocol, the commands that join one interaction by itself: a ZADD GT and a trim
// for each list in which it stands, with this graph's keys and bounds. commands counts them, and so their replies, which
// are integers; there are none where the interaction makes no edge.
//
// This is what a writer that knows no batches would send: what the server can take of it is the limit that benchmarks
// compare with. It advances no watermark, and does not ask who is forgotten.
func (c *Cache) AppendAlone(dst []byte, in event.Interaction) (_ []byte, commands int) {
	k, ok := c.opt.Policy.Kind(in)
	if !ok {
		return dst, 0
	}
	s := strconv.FormatInt(score(in.Timestamp, k), 10)
	raise := func(key, member string, bound int) {
		dst = appendCommand(dst, "zadd", key, "gt", s, member)
		dst = appendCommand(dst, "zremrangebyrank", key, "0", strconv.Itoa(-(bound + 1)))
		commands += 2
	}
	raise(c.userKey(in.UserID), in.ItemID, c.opt.Bound)
	raise(c.itemKey(in.ItemID), in.UserID, c.opt.Bound)
	if k.settled() {
		raise(c.settledKey(in.UserID), in.ItemID, c.opt.SettledBound)
	}
	if k.Positive() {
		raise(c.recentKey(group(in.ItemID)), in.ItemID, c.opt.RecentBound)
	}
	return dst, commands
}

// appendCommand appends a command in Redis' protocol: an array of bulk strings.
func appendCommand(dst []byte, args ...string) []byte {
	dst = strconv.AppendInt(append(dst, '*'), int64(len(args)), 10)
	for _, arg := range args {
		dst = append(dst, "\r\n$"...)
		dst = strconv.AppendInt(dst, int64(len(arg)), 10)
		dst = append(append(dst, "\r\n"...), arg...)
	}
	return append(dst, "\r\n"...)
}
