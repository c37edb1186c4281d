package graphcache

import (
	gocmp "cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
	"pgregory.net/rapid"
)

func oracleOf(c *Cache) graphtest.Graph {
	o := c.opt
	return graphtest.Graph{Prefix: o.Prefix, Bound: o.Bound, Settled: o.SettledBound, Recent: o.RecentBound, Positive: o.Policy.PositiveRating, Negative: o.Policy.NegativeRating}
}

// What a batch sends is, for each list, the newest members up to the bound with their highest scores: the same as maps
// say.
func TestJoinsAreTheNewestOfEachList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(nil, Options{Bound: testBound, MaxNew: rapid.IntRange(1, testBound).Draw(t, "max new"), SettledBound: testSettled, RecentBound: testRecent})
		if err != nil {
			t.Fatal(err)
		}
		batches := make([][]event.Interaction, rapid.IntRange(1, 3).Draw(t, "batches"))
		forgotten := map[string]event.Time{"u2": 1.7e12 + 10}
		var counted []event.Interaction
		for i := range batches {
			for j := range rapid.IntRange(0, 40).Draw(t, "events") {
				in := drawInteraction(t, j)
				batches[i] = append(batches[i], in)
				if in.Timestamp >= forgotten[in.UserID] {
					counted = append(counted, in)
				}
			}
		}
		var got []Entry
		for g, tx := range c.joins(batches, forgotten) {
			if tx.group != g {
				t.Fatalf("transaction %d is of group %d", g, tx.group)
			}
			for i, cmd := range tx.cmds {
				key := *cmd[1].(*string)
				switch cmd[0] {
				case "zadd":
					if cmd[2] != "gt" || len(cmd) > 3+2*testSettled || tx.cmds[i+1][0] != "zremrangebyrank" || *tx.cmds[i+1][1].(*string) != key {
						t.Fatalf("%v, and then %v", cmd, tx.cmds[i+1])
					}
					for m := 3; m < len(cmd); m += 2 {
						got = append(got, Entry{key, *cmd[m+1].(*string), *cmd[m].(*int64)})
					}
				case "zremrangebyrank":
				default:
					t.Fatalf("unexpected %v", cmd)
				}
			}
		}
		slices.SortFunc(got, func(a, b Entry) int {
			return gocmp.Or(gocmp.Compare(a.Key, b.Key), gocmp.Compare(a.Score, b.Score), gocmp.Compare(a.Member, b.Member))
		})
		if diff := cmp.Diff(oracleOf(c).Entries(counted), graphtest.Of(got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// One by one, the commands that the benchmark's limit sends give the graph that batches give.
func TestAppendAloneGivesTheSameGraph(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		c.opt.Bound, c.opt.SettledBound, c.opt.RecentBound = testBound, testSettled, testRecent
		low, between := 1., 3.
		batch := likes("u", "a", "b", "c", "d", "e", "f")
		for i, k := range event.Types {
			batch = append(batch, event.Interaction{UserID: fmt.Sprint("v", i), ItemID: "a", Type: k, Value: &low, Timestamp: 20_001 * day},
				event.Interaction{UserID: "u", ItemID: fmt.Sprint("x", i), Type: k, Value: &low, Timestamp: event.Time(20_000-i) * day})
		}
		batch = append(batch, event.Interaction{UserID: "seer", ItemID: "between", Type: event.Rating, Value: &between, Timestamp: 20_001 * day})
		f.interactions(batch...)
		want, err := c.Export(t.Context())
		f.must(err)
		f.must(embeddedtest.Flush(t.Context(), c.rdb))
		for _, in := range batch {
			raw, n := c.AppendAlone(nil, in)
			for range n {
				var args []any
				var rest []byte
				args, rest = parseCommand(t, raw)
				f.must(c.rdb.Do(t.Context(), args...).Err())
				raw = rest
			}
			if len(raw) > 0 {
				t.Fatalf("%q is left of %d commands", raw, n)
			}
		}
		got, err := c.Export(t.Context())
		f.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-batched +one by one):\n%s", diff)
		}
	})
}

// parseCommand takes one command off what AppendAlone wrote.
func parseCommand(t *testing.T, raw []byte) (args []any, rest []byte) {
	t.Helper()
	at := 0
	number := func(sign byte) int {
		if raw[at] != sign {
			t.Fatalf("%q: want %c at %d", raw, sign, at)
		}
		end := at + slices.Index(raw[at:], '\r')
		n, err := strconv.Atoi(string(raw[at+1 : end]))
		if err != nil {
			t.Fatal(err)
		}
		at = end + 2
		return n
	}
	for range number('*') {
		n := number('$')
		args = append(args, string(raw[at:at+n]))
		at += n + 2
	}
	return args, raw[at:]
}

func TestHashIsFNV1a(t *testing.T) {
	// The published vectors of 64-bit FNV-1a; the groups of keys depend on it.
	for id, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} {
		if got := hash(id); got != want {
			t.Errorf("hash of %q is %#x, want %#x", id, got, want)
		}
	}
}
