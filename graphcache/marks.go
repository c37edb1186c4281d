package graphcache

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Mark is how far a partition of a topic is applied.
type Mark struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Lowest    int64  `json:"lowest"`  // of the groups: everything below it is applied; one that has none counts as 0
	Highest   int64  `json:"highest"` // differs while a batch is applied, and where writes were lost
	Missing   int    `json:"missing"` // groups that have none
}

// Marks reads the watermarks of every partition that has any, by topic and number, in one round trip.
func (c *Cache) Marks(ctx context.Context) ([]Mark, error) {
	cmds := make([]*redis.MapStringStringCmd, groups)
	if _, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for g := range cmds {
			cmds[g] = p.HGetAll(ctx, c.watermarkKey(g))
		}
		return nil
	}); err != nil {
		return nil, wrap("read the watermarks", err)
	}
	marks := map[string]*Mark{}
	for g, cmd := range cmds {
		for field, value := range cmd.Val() {
			i := strings.LastIndexByte(field, '/')
			partition, err := strconv.Atoi(field[i+1:])
			if i < 0 || err != nil {
				continue // nothing that was written here
			}
			at, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, wrapf(err, "read the watermark of %s in group %d", field, g)
			}
			m := marks[field]
			if m == nil {
				m = &Mark{Topic: field[:i], Partition: partition, Lowest: at, Highest: at, Missing: groups}
				marks[field] = m
			}
			m.Lowest, m.Highest = min(m.Lowest, at), max(m.Highest, at)
			m.Missing--
		}
	}
	out := make([]Mark, 0, len(marks))
	for _, m := range marks {
		if m.Missing > 0 {
			m.Lowest = 0
		}
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Mark) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}
