package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// The full path, by the commands that a user types: real ratings through Kafka into the graph, recommendations out,
// a click that changes the next one, bad input, and a Redis that loses everything.

// place is where one run of the path happens.
type place struct {
	*testing.T
	kafka broker.Settings
	redis *redis.UniversalOptions
	rdb   redis.UniversalClient
	model []string               // flags
	ended atomic.Pointer[string] // a command that was started and has ended by itself
}

func newPlace(t *testing.T, k broker.Settings, r *redis.UniversalOptions) *place {
	p := &place{T: t, kafka: k, redis: r, rdb: redis.NewUniversalClient(r), model: []string{"--no-model"}}
	t.Cleanup(func() { p.rdb.Close() })
	return p
}

func (p *place) kafkaArgs() []string {
	return []string{"--kafka", strings.Join(p.kafka.Brokers, ","), "--topic-prefix", p.kafka.TopicPrefix, "--partitions", "4"}
}

func (p *place) redisArgs() []string {
	return []string{"--redis", fmt.Sprintf("redis://%s/%d", p.redis.Addrs[0], p.redis.DB)}
}

// do runs a command to its end and returns what it printed.
func (p *place) do(args ...string) string {
	p.Helper()
	var out, errs bytes.Buffer
	if code := run(p.Context(), args, &out, &errs); code != 0 {
		p.Fatalf("r2rec %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// start runs a command until the test ends.
func (p *place) start(args ...string) {
	ctx, cancel := context.WithCancel(p.Context())
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() {
		code := run(ctx, args, &out, &errs)
		p.ended.Store(&args[0])
		done <- code
	}()
	p.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			p.Errorf("r2rec %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
		}
	})
}

// eventually waits until ok, for as long as what is seen changes; it fails the test where nothing moves for longer than
// any working path would take, and at once where what was started has ended.
func (p *place) eventually(what string, ok func() (bool, string)) {
	p.Helper()
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(500*time.Millisecond),
		backoff.WithMaxElapsedTime(3*time.Minute))
	last := ""
	err := backoff.Retry(func() error {
		good, saw := ok()
		if good {
			return nil
		}
		if ended := p.ended.Load(); ended != nil {
			return backoff.Permanent(fmt.Errorf("%s: %s; r2rec %s has ended", what, saw, *ended))
		}
		if saw != last {
			last = saw
			pauses.Reset()
		}
		return fmt.Errorf("%s: %s", what, saw)
	}, backoff.WithContext(pauses, p.Context()))
	if err != nil {
		p.Fatal(err)
	}
}

func (p *place) stats() (s graphcache.Stats) {
	p.Helper()
	p.decode(p.do(append([]string{"graph", "--json"}, p.redisArgs()...)...), &s)
	return s
}

func (p *place) decode(doc string, v any) {
	p.Helper()
	if err := json.Unmarshal([]byte(doc), v); err != nil {
		p.Fatalf("%v in %s", err, doc)
	}
}

func (p *place) recommend(user string) (rec event.Recommendation) {
	p.Helper()
	args := append([]string{"recommend", user, "--json", "--explore-share", "0"}, p.model...)
	p.decode(p.do(append(append(args, p.kafkaArgs()...), p.redisArgs()...)...), &rec)
	return rec
}

func (p *place) publish(topic string, msgs ...kafka.Message) {
	p.Helper()
	c, err := broker.New(p.kafka)
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	w := c.NewWriter(topic)
	defer w.Close()
	w.BatchBytes = broker.MaxDeadLetterBytes // a producer may send what the contract refuses
	if err := w.WriteMessages(p.Context(), msgs...); err != nil {
		p.Fatal(err)
	}
}

// counted is what the graph must hold, from the CSV file alone: every rating is an edge, and a list keeps the newest ones up
// to the bound. Of users whose lists were not trimmed, liked tells of each item that they rated whether by 4 or more.
func counted(t *testing.T, bound int64) (s graphcache.Stats, liked map[string]map[string]bool) {
	t.Helper()
	file, err := os.Open("../../internal/dataset/movielens/ratings.csv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ratings, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := csv.NewReader(ratings)
	users, items := map[string]int64{}, map[string]int64{}
	liked = map[string]map[string]bool{}
	if _, err := rows.Read(); err != nil {
		t.Fatal(err)
	}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rating, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		users[row[0]]++
		items[row[1]]++
		if liked[row[0]] == nil {
			liked[row[0]] = map[string]bool{}
		}
		liked[row[0]][row[1]] = rating >= 4
	}
	for user, n := range users {
		if n > bound { // an old edge may have been trimmed, and its item be offered again
			delete(liked, user)
		}
		s.Users++
		s.UserEdges += min(n, bound)
		if n >= bound {
			s.TrimmedUsers++
		}
	}
	for _, n := range items {
		s.Items++
		s.ItemEdges += min(n, bound)
		if n >= bound {
			s.TrimmedItems++
		}
	}
	s.Catalogue, s.EdgesPerNode = 9125, int(bound)
	return s, liked
}

// badEvents each break one rule of the contract.
func badEvents() map[string]string {
	good := `{"event_id":"%s","user_id":"1","item_id":"31","type":"like","timestamp":1700000000000}`
	edit := func(id, from, to string) string { return strings.Replace(fmt.Sprintf(good, id), from, to, 1) }
	return map[string]string{
		"malformed":    `{"event_id":`,
		"unknown type": edit("e1", `"like"`, `"adore"`),
		"year 9999":    edit("e2", `1700000000000`, `"9999-06-01T00:00:00Z"`),
		"empty id":     edit("e3", `"user_id":"1"`, `"user_id":""`),
		"not UTF-8":    edit("e4", `"31"`, "\"3\xff1\""),
	}
}

func TestFullPath(t *testing.T) {
	t.Parallel()
	embeddedtest.Each(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newPlace(t, k, r)
		var sent struct{ Items, Interactions, Rejected int }
		p.decode(p.do(append([]string{"import", "--json"}, p.kafkaArgs()...)...), &sent)
		if sent.Items != 9125 || sent.Interactions != 100_004 || sent.Rejected != 0 {
			t.Fatalf("imported %+v, want 9125 items and 100004 interactions", sent)
		}
		p.start(append(append([]string{"consume", "--log-level", "error"}, p.kafkaArgs()...), p.redisArgs()...)...)
		bound := p.stats().EdgesPerNode
		if !strings.HasSuffix(t.Name(), "/embedded") && bound != 128 {
			t.Errorf("a node keeps %d edges on a server that is set up for 128", bound)
		}
		want, liked := counted(t, int64(bound))
		p.eventually("the graph is not what the file says", func() (bool, string) {
			s := p.stats()
			return s == want, fmt.Sprintf("%+v, counted in the file: %+v", s, want)
		})

		var rec event.Recommendation
		chains := 0
		for _, user := range []string{"1", "7", "15"} {
			rec = p.recommend(user)
			chains += p.checkReasons(rec, liked)
		}
		if chains == 0 { // of one list all may have been masked away, of user 15's one in thirty
			t.Error("no item of three lists has a chain behind it")
		}
		p.readAsApp(rec)
		p.click(rec)
		p.sendBadEvents()
		before := p.stats()
		if err := embeddedtest.Flush(t.Context(), p.rdb); err != nil {
			t.Fatal(err)
		}
		p.eventually("the graph was not rebuilt after a flush", func() (bool, string) {
			s := p.stats()
			return s == before, fmt.Sprintf("%+v, before: %+v", s, before)
		})
	})
}

// checkReasons wants every chain to start from something that the user really rated well, and counts them.
func (p *place) checkReasons(rec event.Recommendation, liked map[string]map[string]bool) (chains int) {
	p.Helper()
	if len(rec.Items) != 5 || rec.DecisionID == "" {
		p.Fatalf("user %s got %d items, decision %q; want 5 and a logged decision", rec.UserID, len(rec.Items), rec.DecisionID)
	}
	for _, it := range rec.Items {
		if it.Title == "" || len(it.Reasons) == 0 {
			p.Errorf("item %s of user %s has no title or no reason: %+v", it.ItemID, rec.UserID, it)
		}
		if _, rated := liked[rec.UserID][it.ItemID]; rated {
			p.Errorf("user %s was offered %s, which he rated before", rec.UserID, it.ItemID)
		}
		for _, r := range it.Reasons {
			for _, ch := range r.Chains {
				chains++
				if liked[rec.UserID] != nil && !liked[rec.UserID][ch.Via] {
					p.Errorf("a chain of user %s goes over %s, which he did not rate well", rec.UserID, ch.Via)
				}
			}
		}
	}
	return chains
}

// click sends a like of the first item, with the decision's id, and wants the next list to know it.
func (p *place) click(rec event.Recommendation) {
	p.Helper()
	item, one := rec.Items[0].ItemID, 1
	raw, err := event.Encode(event.Interaction{EventID: "click-" + rec.DecisionID, UserID: rec.UserID, ItemID: item, Type: event.Like,
		Timestamp: event.At(time.Now()), DecisionID: rec.DecisionID, Position: &one, Surface: "test"})
	if err != nil {
		p.Fatal(err)
	}
	p.produce(raw, rec.UserID)
	p.eventually("the click does not change the next recommendation", func() (bool, string) {
		next := p.recommend(rec.UserID)
		for _, it := range next.Items {
			if it.ItemID == item {
				return false, "it still offers what was clicked"
			}
		}
		return next.DecisionID != rec.DecisionID, next.DecisionID
	})
}

// sendBadEvents wants each one in deadletters, byte for byte and with a reason, and the good one after them in the graph.
func (p *place) sendBadEvents() {
	p.Helper()
	bad := badEvents()
	for _, raw := range bad {
		p.publish(broker.Interactions, kafka.Message{Key: []byte("1"), Value: []byte(raw)})
	}
	long := fmt.Sprintf(`{"item_id":"31","title":%q}`, strings.Repeat("x", 1<<20-2000))
	bad["1 MB title"] = long
	p.publish(broker.Items, kafka.Message{Key: []byte("31"), Value: []byte(long)})
	after := `{"event_id":"after","user_id":"newcomer","item_id":"31","type":"like","timestamp":1700000000000}`
	p.publish(broker.Interactions, kafka.Message{Key: []byte("newcomer"), Value: []byte(after)})

	reasons := p.deadLetters(len(bad))
	for name, raw := range bad {
		if reasons[raw] == "" {
			p.Errorf("%s is not in deadletters, or without a reason", name)
		}
	}
	p.eventually("the stream stopped at a bad event", func() (bool, string) {
		keys, err := embeddedtest.Keys(p.Context(), p.rdb, "r2:{*}:u:newcomer")
		return len(keys) == 1, fmt.Sprint(keys, err)
	})
}

// deadLetters reads until n letters are there: reason by raw bytes.
func (p *place) deadLetters(n int) map[string]string {
	p.Helper()
	c, err := broker.New(p.kafka)
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	offsets, err := c.Offsets(p.Context(), broker.DeadLetters)
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), 2*time.Minute)
	defer cancel()
	letters := make(chan kafka.Message)
	for part := range offsets {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: p.kafka.Brokers, Topic: c.Topic(broker.DeadLetters), Partition: part, MaxBytes: broker.MaxDeadLetterBytes, MaxWait: 100 * time.Millisecond})
		defer r.Close()
		go func() {
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil {
					return
				}
				select {
				case letters <- m:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	found := map[string]string{}
	for len(found) < n {
		select {
		case m := <-letters:
			for _, h := range m.Headers {
				if h.Key == "r2-reason" {
					found[string(m.Value)] = string(h.Value)
				}
			}
		case <-ctx.Done():
			p.Fatalf("%d of %d bad events are in deadletters: %v", len(found), n, found)
		}
	}
	return found
}
