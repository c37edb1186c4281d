package graphcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/rdb"
)

// Lists says by which command adjacency lists are read. DUMP costs the server far less than a range with scores, but not
// every server, nor every user of one, may use it.
type Lists string

const (
	// ListsAuto takes DUMP where Configure finds that it works, else ranges.
	ListsAuto Lists = "auto"
	// ListsRange takes ranges.
	ListsRange Lists = "range"
	// ListsDump takes DUMP without asking, for a user who may only read.
	ListsDump Lists = "dump"
)

func (l Lists) validate() error {
	switch l {
	case ListsAuto, ListsRange, ListsDump:
		return nil
	}
	return fmt.Errorf("graphcache: Lists is %q, must be %q, %q or %q", string(l), ListsAuto, ListsRange, ListsDump)
}

// probe is a set in which an integer, a text and a score of the usual size have to come back; its key exists only within
// one transaction.
var probe = []rdb.Entry{{Member: "1079", Score: 3}, {Member: "probe", Score: 1 << 44}}

// configureLists chooses how lists are read.
func (c *Cache) configureLists(ctx context.Context) error {
	if c.opt.Lists != ListsAuto {
		return nil
	}
	key := c.tag(0) + "probe"
	var dump *redis.StringCmd
	cmds, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range probe {
			p.ZAdd(ctx, key, redis.Z{Member: e.Member, Score: e.Score})
		}
		dump = p.Dump(ctx, key)
		p.Del(ctx, key)
		return nil
	})
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) {
		return wrap("ask redis for a DUMP", err)
	}
	for _, cmd := range cmds {
		if refusal := cmd.Err(); refusal != nil && !strings.HasPrefix(refusal.Error(), "EXECABORT") {
			err = refusal // of which EXECABORT is only the consequence
			break
		}
	}
	if err == nil {
		var got []rdb.Entry
		got, err = new(rdb.Decoder).SortedSet(nil, dump.Val())
		if err == nil && !slices.Equal(got, probe) {
			err = fmt.Errorf("DUMP of %v reads as %v", probe, got)
		}
	}
	if err != nil && retriableReply(err.Error()) {
		c.dumps.Store(true) // it takes no writes now; whoever meets a DUMP that cannot be used goes on with ranges
		c.opt.Logger.Info("redis cannot be asked now whether it dumps lists: that is tried", "error", err)
		return nil
	}
	c.dumps.Store(err == nil)
	if err != nil {
		c.opt.Logger.Info("lists are read by range, which is several times slower: redis does not dump them", "error", err)
		return nil
	}
	compression, err := c.setting(ctx, "rdbcompression")
	if slices.Contains(compression, "yes") {
		c.opt.Logger.Info("redis compresses the lists that it dumps: without, they are read several times faster",
			"setting", "rdbcompression", "value", "yes", "needed", "no")
	}
	return err
}
