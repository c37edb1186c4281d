package graphcache

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// degrees are the lengths of acquaintances' lists on their way: nothing before the evidence needs them, so they are
// counted while what leads there is read and looked at.
type degrees struct {
	taste *taste
	read  []int32 // acquaintances whose lists are read as neighbours'
	lists []int   // in these places
	asked []int32 // the others
	cmds  []*redis.IntCmd
	err   error
	stop  context.CancelFunc
	done  chan struct{}
}

// askDegrees begins to count the lists of those who are compared with the user. The lists of neighbours among them need
// not be counted: they are read.
func (w *walk) askDegrees(ctx context.Context) {
	d := &degrees{taste: w.taste, done: make(chan struct{})}
	ctx, d.stop = context.WithCancel(ctx)
	w.degrees = d
	go func() {
		defer close(d.done)
		d.ask(ctx, w.Cache, w.neighbours)
	}()
}

func (d *degrees) ask(ctx context.Context, c *Cache, neighbours []neighbour) {
	place := make(map[int32]int, len(neighbours))
	for i := range neighbours {
		place[neighbours[i].who] = i
	}
	pipe := c.rdb.Pipeline()
	for _, k := range d.taste.closest(c.opt.Read.Met) {
		if i, read := place[k]; read {
			d.read, d.lists = append(d.read, k), append(d.lists, i)
			continue
		}
		d.asked = append(d.asked, k)
		d.cmds = append(d.cmds, pipe.ZCard(ctx, c.userKey(d.taste.met[k].id)))
	}
	if len(d.cmds) > 0 {
		d.err = exec(ctx, pipe)
	}
}

// end stops what is on its way: nobody wants it any more.
func (d *degrees) end() {
	if d != nil {
		d.stop()
		<-d.done
	}
}

// take waits, and tells the taste.
func (d *degrees) take(lists []node) error {
	if d == nil {
		return nil
	}
	if <-d.done; d.err != nil {
		return d.err
	}
	for i, k := range d.read {
		d.taste.met[k].degree = float64(lists[d.lists[i]].degree)
	}
	for i, k := range d.asked {
		d.taste.met[k].degree = float64(d.cmds[i].Val())
	}
	return nil
}
