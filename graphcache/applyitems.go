package graphcache

import (
	"context"
	"encoding/json"

	"github.com/r2rec/r2rec/internal/event"
)

// applyItems stores catalogue records unless the watermark tells that later ones are in: ARGV holds field, first,
// start, end, then pairs of id and document, an empty document deleting.
const applyItems = `
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[2])
if at < tonumber(ARGV[3]) then return 0 end
if at >= tonumber(ARGV[4]) then return 1 end
for i = 5, #ARGV, 2 do
  if ARGV[i+1] == '' then redis.call('HDEL', KEYS[2], ARGV[i]) else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i+1]) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1`

// ApplyItems puts catalogue records, in offset order, into the catalogue: a later one replaces an earlier one, and a
// deleted item leaves. Errors are those of ApplyInteractions.
func (c *Cache) ApplyItems(ctx context.Context, span event.Span, batch []event.Item) error {
	if span.Start == span.End {
		return c.check(ctx, span)
	}
	txs := make([]transaction, groups)
	for g := range txs {
		txs[g].group = g
		txs[g].add("eval", applyItems, 2, c.watermarkKey(g), c.catalogueKey(g),
			watermarkField(span.Topic, span.Partition), span.First, span.Start, span.End)
	}
	for _, it := range batch {
		doc := ""
		if !it.Deleted {
			b, err := json.Marshal(it)
			if err != nil {
				return wrapf(err, "encode item %q", it.ItemID)
			}
			doc = string(b)
		}
		cmd := &txs[group(it.ItemID)].cmds[0]
		*cmd = append(*cmd, it.ItemID, doc)
	}
	return c.settle(ctx, []event.Span{span}, txs)[0]
}
