package graphcache

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// transaction is what one group's keys go through at once, all or nothing.
type transaction struct {
	group int
	cmds  [][]any
}

func (t *transaction) add(cmd ...any) { t.cmds = append(t.cmds, cmd) }

// clusterFanOut is how many transactions are under way at once where each has to travel alone.
const clusterFanOut = 8

// run executes the transactions and returns each one's replies, one a command. A single server gets all of them in one
// round trip, as a pipeline of MULTI ... EXEC; a Cluster, whose client routes by key, one by one.
func (c *Cache) run(ctx context.Context, txs []transaction) ([][]any, error) {
	replies, err := c.runOnce(ctx, txs)
	if !isNoScript(err) {
		return replies, err
	}
	if err := advance.Load(ctx, c.rdb).Err(); err != nil { // the server is new, was restarted or failed over
		return nil, err
	}
	return c.runOnce(ctx, txs)
}

func (c *Cache) runOnce(ctx context.Context, txs []transaction) (replies [][]any, err error) {
	if c.between != nil && len(txs) > 1 {
		for i := range txs {
			c.between()
			r, err := c.runOnce(ctx, txs[i:i+1])
			if err != nil {
				return nil, err
			}
			replies = append(replies, r...)
		}
		return replies, nil
	}
	if cluster, ok := c.rdb.(*redis.ClusterClient); ok {
		return c.runCluster(ctx, cluster, txs)
	}
	return c.runPipeline(ctx, txs)
}

// runPipeline is run on a single server. A transaction of one command needs no MULTI.
func (c *Cache) runPipeline(ctx context.Context, txs []transaction) ([][]any, error) {
	pipe := c.rdb.Pipeline()
	last := make([]*redis.Cmd, len(txs))           // EXEC, or the only command
	queued := make([][]*redis.StatusCmd, len(txs)) // MULTI too: where it is refused, the others run by themselves
	for i, t := range txs {
		if len(t.cmds) == 1 {
			last[i] = pipe.Do(ctx, t.cmds[0]...)
			continue
		}
		queued[i] = append(make([]*redis.StatusCmd, 0, 1+len(t.cmds)), redis.NewStatusCmd(ctx, "multi"))
		for _, cmd := range t.cmds {
			queued[i] = append(queued[i], redis.NewStatusCmd(ctx, cmd...))
		}
		for _, q := range queued[i] {
			_ = pipe.Process(ctx, q) // which only keeps it
		}
		last[i] = pipe.Do(ctx, "exec")
	}
	_, _ = pipe.Exec(ctx) // its error is the first of the commands', which are looked at below
	replies := make([][]any, len(txs))
	for i, cmd := range last {
		for _, q := range queued[i] { // names the cause where EXEC only says that there was one
			if err := q.Err(); err != nil {
				return nil, err
			}
		}
		if queued[i] == nil {
			reply, err := cmd.Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, err
			}
			replies[i] = []any{reply}
			continue
		}
		r, err := cmd.Slice()
		if err != nil {
			return nil, err
		}
		for _, v := range r {
			if err, failed := v.(error); failed && !errors.Is(err, redis.Nil) {
				return nil, err
			}
		}
		replies[i] = r
	}
	return replies, nil
}

func (c *Cache) runCluster(ctx context.Context, cluster *redis.ClusterClient, txs []transaction) ([][]any, error) {
	replies := make([][]any, len(txs))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(clusterFanOut)
	for i, t := range txs {
		eg.Go(func() error {
			cmds, err := cluster.TxPipelined(ctx, func(p redis.Pipeliner) error {
				for _, cmd := range t.cmds {
					p.Do(ctx, cmd...)
				}
				return nil
			})
			if err != nil {
				return err
			}
			for _, cmd := range cmds {
				replies[i] = append(replies[i], cmd.(*redis.Cmd).Val())
			}
			return nil
		})
	}
	return replies, eg.Wait()
}
