package embedded_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/internal/embedded"
)

const limit = 20 * time.Second

// A consumer group joins, is given every partition, and reads what a writer wrote.
func TestKafkaServesConsumerGroups(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	k, err := embedded.StartKafka(ctx, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	consumeThroughGroup(ctx, t, k.Addr)
}

func consumeThroughGroup(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	const partitions, records = 3, 50
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(addr), Transport: transport}
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "events", NumPartitions: partitions, ReplicationFactor: -1}}})
	if err == nil {
		err = res.Errors["events"]
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: "events", Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
		Compression: kafka.Zstd, BatchTimeout: time.Millisecond, Transport: transport}
	defer w.Close()
	want := map[string]bool{}
	var msgs []kafka.Message
	for i := range records {
		key := "user " + string(rune('A'+i))
		want[key] = true
		msgs = append(msgs, kafka.Message{Key: []byte(key), Value: []byte("value")})
	}
	if err := w.WriteMessages(ctx, msgs...); err != nil {
		t.Fatal(err)
	}

	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: "readers", Brokers: []string{addr}, Topics: []string{"events"},
		StartOffset: kafka.FirstOffset})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	gen, err := group.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(gen.Assignments["events"]); got != partitions {
		t.Fatalf("the only member got %d partitions, want %d", got, partitions)
	}
	read := make(chan string)
	for _, a := range gen.Assignments["events"] {
		gen.Start(func(ctx context.Context) {
			r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: "events", Partition: a.ID, MaxWait: 50 * time.Millisecond})
			defer r.Close()
			if err := r.SetOffset(a.Offset); err != nil {
				return
			}
			for {
				m, err := r.ReadMessage(ctx)
				if err != nil {
					return
				}
				select {
				case read <- string(m.Key):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for len(want) > 0 {
		select {
		case key := <-read:
			delete(want, key)
		case <-ctx.Done():
			t.Fatalf("%d of %d records not read", len(want), records)
		}
	}
}

// Keys expire by the clock that was passed in, and only by it.
func TestRedisKeysExpireByTheGivenClock(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ahead atomic.Int64
	looked := make(chan struct{})
	now := func() time.Time {
		select {
		case looked <- struct{}{}:
		default:
		}
		return start.Add(time.Duration(ahead.Load()))
	}
	r, err := embedded.StartRedis(ctx, embedded.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	if err := c.Set(ctx, "k", "v", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if at, err := c.Time(ctx).Result(); err != nil || !at.Equal(start) {
		t.Fatalf("TIME = %v, %v, want %v", at, err, start)
	}
	// Real time passes, the given clock stands.
	<-looked
	<-looked
	if ttl, err := c.TTL(ctx, "k").Result(); err != nil || ttl != time.Minute {
		t.Fatalf("TTL while the clock stands = %v, %v, want 1m", ttl, err)
	}
	ahead.Store(int64(-time.Hour)) // going back expires nothing
	<-looked
	<-looked
	if ttl, err := c.TTL(ctx, "k").Result(); err != nil || ttl != time.Minute {
		t.Fatalf("TTL after the clock went back = %v, %v, want 1m", ttl, err)
	}
	if at, err := c.Time(ctx).Result(); err != nil || !at.Equal(now()) {
		t.Fatalf("TIME = %v, %v, want %v", at, err, now())
	}
	ahead.Store(int64(2 * time.Minute))
	for c.Exists(ctx, "k").Val() != 0 {
		if ctx.Err() != nil {
			t.Fatal("the key outlived its TTL")
		}
	}
}

// After Close no port is open and no goroutine is left, whatever the clients were doing.
func TestCloseLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	before := goroutines()
	s, err := embedded.Start(ctx, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	consumeThroughGroup(ctx, t, s.KafkaAddr)
	c := redis.NewClient(&redis.Options{Addr: s.RedisAddr})
	if err := c.Set(ctx, "k", "v", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	// A client that holds on to its connections must not hold up Close.
	idle, err := net.Dial("tcp", s.KafkaAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	s.Close()
	s.Close()

	for _, addr := range []string{s.KafkaAddr, s.RedisAddr} {
		if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			conn.Close()
			t.Errorf("%s still listens", addr)
		}
	}
	c.Close()
	// Clients and brokers are told to end and do so at once, but nobody waits for the last instructions of each.
	for {
		left := 0
		var stacks []string
		for stack, n := range goroutines() {
			if n > before[stack] {
				left += n - before[stack]
				stacks = append(stacks, stack)
			}
		}
		if left == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d goroutines are left:\n%s", left, strings.Join(stacks, "\n\n"))
		}
		runtime.Gosched()
	}
}

// goroutines counts the running goroutines by where they were started.
func goroutines() map[string]int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	counts := map[string]int{}
	for _, stack := range strings.Split(string(buf), "\n\n") {
		_, from, ok := strings.Cut(stack, "created by ")
		if !ok {
			continue
		}
		from, _, _ = strings.Cut(from, " in goroutine")
		counts[from]++
	}
	return counts
}

func TestStartSaysWhichPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for name, o := range map[string]embedded.Options{"kafka": {KafkaPort: port}, "redis": {RedisPort: port}} {
		t.Run(name, func(t *testing.T) {
			s, err := embedded.Start(t.Context(), o)
			if err == nil {
				s.Close()
				t.Fatal("started on a taken port")
			}
			if !strings.Contains(err.Error(), l.Addr().String()) {
				t.Errorf("error %q does not name %s", err, l.Addr())
			}
		})
	}
}

func TestStartHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := embedded.Start(ctx, embedded.Options{}); err == nil {
		s.Close()
		t.Fatal("started under a cancelled context")
	}
}

func TestPortsAreTheGivenOnes(t *testing.T) {
	first, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	port := func(addr string) int {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if !a.IP.IsLoopback() {
			t.Errorf("%s is not loopback", addr)
		}
		return a.Port
	}
	o := embedded.Options{KafkaPort: port(first.KafkaAddr), RedisPort: port(first.RedisAddr)}
	first.Close()
	second, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.KafkaAddr != first.KafkaAddr || second.RedisAddr != first.RedisAddr {
		t.Errorf("got %s and %s, want %s and %s", second.KafkaAddr, second.RedisAddr, first.KafkaAddr, first.RedisAddr)
	}
}
