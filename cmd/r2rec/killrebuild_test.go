package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/graphtest"
)

// `r2rec rebuild` is killed with SIGKILL at any instant, again and again, while three processes consume: before it has
// begun, while it fills the new graph, as it switches or deletes the old one. Whatever graph serves then is what the
// history says, and the one that gets through leaves no other behind.
func TestRebuildIsKilled(t *testing.T) {
	t.Parallel()
	embeddedtest.RealKafka(t)
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -kill-seed %d", seed)
	d := newDoomed(t, rand.New(rand.NewPCG(seed, 99)))
	graph, err := graphcache.NewGenerations(d.rdb, graphcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.tell(500)
	d.compare()
	began := time.Now()
	d.must(d.rebuild().cmd.Wait())
	whole := time.Since(began)

	switched := 1
	for range 8 {
		d.tell(50)
		m := d.rebuild()
		d.wait(time.Duration(d.random.Int64N(int64(whole))))
		if m.cmd.Process.Kill() == nil {
			_ = m.cmd.Wait() // it may have been done
		}
		d.must(d.rdb.Del(t.Context(), "r2:rebuild").Err()) // its lease, which would expire
		current, err := graph.Current(t.Context())
		d.must(err)
		if current.Generation() > switched {
			switched = current.Generation()
		}
		d.tell(50)
		d.compareCurrent(graph)
	}
	d.must(d.rebuild().cmd.Wait())
	d.compareCurrent(graph)
	left, err := graph.List(t.Context())
	d.must(err)
	if len(left) != 1 {
		t.Errorf("there are graphs %+v, want only the one that serves", left)
	}
	t.Logf("%v a rebuild, up to generation %d", whole, switched)
}

// rebuild starts one.
func (d *doomed) rebuild() *member {
	d.Helper()
	return d.start(d.slow.everywhere("rebuild", "--grace", "0s", "--pause", "0s", "--log-level", "warn", "--json"))
}

func (d *doomed) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// compareCurrent compares the graph that serves, whichever it is.
func (d *doomed) compareCurrent(graph *graphcache.Generations) {
	d.Helper()
	want := graphtest.Default.Entries(d.log)
	d.eventually("the graph that serves is not what the history says", func() (bool, string) {
		current, err := graph.Current(d.Context())
		d.must(err)
		got, err := current.Export(d.Context())
		d.must(err)
		for i := range got { // named as in the first generation
			got[i].Key = strings.Replace(got[i].Key, fmt.Sprintf("r2:%d:{", current.Generation()), "r2:{", 1)
		}
		diff := cmp.Diff(want, graphtest.Of(got))
		return diff == "", fmt.Sprintf("%.3000s", diff)
	})
}

// A Redis that may not hold two graphs is not filled unasked.
func TestRebuildInATightRedis(t *testing.T) {
	t.Parallel()
	server := embeddedtest.OwnRedis(t)
	p := newPlace(t, embeddedtest.RealKafka(t), &redis.UniversalOptions{Addrs: []string{server.Addr}})
	c, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	p.society("ann", "bob")
	for range 8 << 10 { // piece by piece: the buffer of a large command counts as used, until it is given back
		p.rdb.RPush(t.Context(), "what else is there", strings.Repeat("x", 1<<10))
	}
	room, err := graphcache.NewGenerations(p.rdb, graphcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now, err := room.Room(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	most := now.Used * 3 / 2
	if err := p.rdb.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(most)).Err(); err != nil {
		t.Fatal(err)
	}
	if said := p.fails(p.everywhere("rebuild", "--grace", "0s")...); !strings.Contains(said, mebibytes(most)+" (maxmemory)") || !strings.Contains(said, "--tight") {
		t.Errorf("rebuild says %s, want how much there is, and the way on", said)
	}
	if n := p.rdb.DBSize(t.Context()).Val(); n != 1 {
		t.Errorf("refused, rebuild left %d keys", n-1)
	}
	if said := p.do(p.everywhere("rebuild", "--grace", "0s", "--tight")...); !strings.Contains(said, "Generation 1 serves") {
		t.Errorf("told to go on, rebuild says %s", said)
	}
}
