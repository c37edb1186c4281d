package graphcache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// The lattice test: a reader that only follows the watermarks ends in the graph that the log says, whatever happened to
// the store between any two transactions.

const (
	testBound   = 4
	testSettled = 6
	testRecent  = 3
)

// snapshot is a copy of every key under a prefix.
type snapshot map[string]any

func keysUnder(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]string, error) {
	return embeddedtest.Keys(ctx, rdb, EscapeGlob(prefix)+"*")
}

func wipe(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	keys, err := keysUnder(ctx, rdb, prefix)
	if err != nil {
		return err
	}
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Unlink(ctx, key)
		}
		return nil
	})
	return err
}

func take(ctx context.Context, rdb redis.UniversalClient, prefix string) (snapshot, error) {
	keys, err := keysUnder(ctx, rdb, prefix)
	s := snapshot{}
	for _, key := range keys {
		switch rdb.Type(ctx, key).Val() {
		case "zset":
			s[key] = rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
		case "hash":
			s[key] = rdb.HGetAll(ctx, key).Val()
		default:
			return nil, fmt.Errorf("%s has a type that the graph does not use", key)
		}
	}
	return s, err
}

func restore(ctx context.Context, rdb redis.UniversalClient, prefix string, s snapshot) error {
	if err := wipe(ctx, rdb, prefix); err != nil {
		return err
	}
	for key, v := range s {
		switch v := v.(type) {
		case []redis.Z:
			rdb.ZAdd(ctx, key, v...)
		case map[string]string:
			rdb.HSet(ctx, key, v)
		}
	}
	return nil
}

func drawInteraction(t *rapid.T, i int) event.Interaction {
	value := func(v float64) *float64 { return &v }
	in := event.Interaction{
		EventID:   fmt.Sprint(i),
		UserID:    rapid.SampledFrom([]string{"u1", "u2", "u3", "u}4"}).Draw(t, "user"),
		ItemID:    rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"}).Draw(t, "item"),
		Type:      rapid.SampledFrom(event.Types).Draw(t, "type"),
		Timestamp: event.Time(1.7e12 + rapid.Int64Range(0, 20).Draw(t, "time")), // few, so that many are equal or late
	}
	if in.Type == event.Rating {
		in.Value = value(float64(rapid.IntRange(1, 5).Draw(t, "value")))
	}
	return in
}

func TestGraphIsALattice(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, real := context.Background(), !strings.HasSuffix(t.Name(), "/embedded") // the embedded server does not tell encodings
		n, cluster := 0, strings.HasSuffix(t.Name(), "/cluster")
		rapid.Check(t, func(t *rapid.T) {
			// There each transaction travels alone, so that a history takes long.
			if cluster && rapid.IntRange(0, 3).Draw(t, "one of four") > 0 {
				return
			}
			rdb := redis.NewUniversalClient(opt)
			defer rdb.Close()
			n++
			prefix := fmt.Sprintf("lattice%d:", n)
			maxNew := rapid.IntRange(1, testBound).Draw(t, "max new")
			c, err := New(rdb, Options{Prefix: prefix, Bound: testBound, MaxNew: maxNew, SettledBound: testSettled, RecentBound: testRecent})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = wipe(ctx, rdb, prefix) }()

			// Two partitions, split anyhow; some events stand in both or twice.
			var logs [2][]event.Interaction
			for i := range rapid.IntRange(1, 60).Draw(t, "events") {
				in := drawInteraction(t, i)
				p := rapid.IntRange(0, 1).Draw(t, "partition")
				logs[p] = append(logs[p], in)
				if rapid.IntRange(0, 4).Draw(t, "duplicate") == 0 {
					p = rapid.IntRange(0, 1).Draw(t, "duplicate's partition")
					logs[p] = append(logs[p], in)
				}
			}
			faults := rapid.IntRange(0, 6).Draw(t, "faults")
			step, snaps := 0, []snapshot{{}}
			c.between = func() {
				step++
				switch {
				case step%3 == 0 && rapid.IntRange(0, 60).Draw(t, "take") == 0:
					s, err := take(ctx, rdb, prefix)
					if err != nil {
						t.Fatal(err)
					}
					snaps = append(snaps, s)
				case faults > 0 && rapid.IntRange(0, 80).Draw(t, "fault") == 0:
					faults--
					s := rapid.SampledFrom(snaps).Draw(t, "restored snapshot") // the first one is FLUSHALL
					if err := restore(ctx, rdb, prefix, s); err != nil {
						t.Fatal(err)
					}
				}
			}

			var pos [2]int64
			for rounds := 0; ; rounds++ {
				if rounds > 10_000 {
					t.Fatal("the reader does not come to an end")
				}
				behind := false
				for p := range logs {
					end := min(int64(len(logs[p])), pos[p]+rapid.Int64Range(0, 20).Draw(t, "batch"))
					span := event.Span{Topic: "interactions", Partition: p, Start: pos[p], End: end}
					err := c.ApplyInteractions(ctx, span, logs[p][span.Start:span.End])
					var lost *event.BehindError
					switch {
					case errors.As(err, &lost):
						pos[p], behind = lost.Lowest, true
					case err != nil:
						t.Fatal(err)
					default:
						pos[p] = end
					}
				}
				if !behind && pos[0] == int64(len(logs[0])) && pos[1] == int64(len(logs[1])) && settled(ctx, t, c, logs) {
					break
				}
			}
			got, err := c.Export(ctx)
			if err != nil {
				t.Fatal(err)
			}
			oracle := graphtest.Graph{Prefix: prefix, Bound: testBound, Settled: testSettled, Recent: testRecent, Positive: 4, Negative: 2}
			if diff := cmp.Diff(oracle.Entries(append(logs[0], logs[1]...)), graphtest.Of(got)); diff != "" {
				t.Fatalf("the graph is not what the log says (-want +got):\n%s", diff)
			}
			if real {
				for _, e := range got {
					if enc := rdb.ObjectEncoding(ctx, e.Key).Val(); enc != "listpack" {
						t.Fatalf("%s is encoded as %s, want listpack", e.Key, enc)
					}
				}
			}
		})
	})
}

// settled tells whether every watermark stands at its log's end: a fault after the last transaction is the next
// check's to find.
func settled(ctx context.Context, t *rapid.T, c *Cache, logs [2][]event.Interaction) bool {
	for p := range logs {
		n := int64(len(logs[p]))
		err := c.ApplyInteractions(ctx, event.Span{Topic: "interactions", Partition: p, Start: n, End: n}, nil)
		var lost *event.BehindError
		if errors.As(err, &lost) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return true
}

func TestBoundFitsTheCompactEncoding(t *testing.T) {
	embeddedtest.EachRedis(t, func(t *testing.T, opt *redis.UniversalOptions) {
		ctx, real := context.Background(), !strings.HasSuffix(t.Name(), "/embedded")
		rdb := redis.NewUniversalClient(opt)
		defer rdb.Close()
		c, err := New(rdb, Options{Prefix: t.Name() + ":"})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Configure(ctx); err != nil {
			t.Fatal(err)
		}
		// Every batch brings as many new items as a batch can, with members as long as ids may be.
		user := strings.Repeat("u", maxMember)
		var batch []event.Interaction
		for i := range int64(1000) {
			batch = append(batch, event.Interaction{UserID: user, ItemID: fmt.Sprintf("%0*d", maxMember, i), Type: event.Like, Timestamp: event.Time(1.7e12 + i)})
		}
		for start := int64(0); start < 1000; start += 250 {
			span := event.Span{Topic: "interactions", Start: start, End: start + 250}
			if err := c.ApplyInteractions(ctx, span, batch[start:start+250]); err != nil {
				t.Fatal(err)
			}
		}
		if n := rdb.ZCard(ctx, c.userKey(user)).Val(); n != int64(c.Bound()) {
			t.Errorf("the user's list holds %d edges, want the bound of %d", n, c.Bound())
		}
		if real {
			if c.Bound() != compactBound {
				t.Errorf("the server is set up for %d edges a node, Configure chose %d", compactBound, c.Bound())
			}
			if enc := rdb.ObjectEncoding(ctx, c.userKey(user)).Val(); enc != "listpack" {
				t.Errorf("the user's list is encoded as %s, want listpack", enc)
			}
		}
	})
}

func TestScoresAreExact(t *testing.T) {
	for _, at := range []event.Time{1, 1.7e12, 1<<50 - 1} {
		for k := range Kind(8) {
			if got := edge("m", float64(score(at, k))); got.At != at || got.Kind != k {
				t.Errorf("score of %d, %d reads back as %d, %d", at, k, got.At, got.Kind)
			}
		}
	}
	if s := score(1<<50-1, 7); float64(s) >= math.Exp2(53) {
		t.Errorf("the largest score %d is not exact in a float64", s)
	}
}
