package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/graphtest"
)

var (
	kills    = flag.Int("kills", 20, "how many processes TestKill kills")
	killSeed = flag.Uint64("kill-seed", 0, "seed of TestKill, as it printed it; 0: a new one")
)

// Three processes of `r2rec consume` share a group; one of them is killed with SIGKILL, another takes its place, and so on,
// while events flow: at any instant, and in the middle of applying. Whoever is left takes over, the group is shared out
// anew each time, and the graph is what the history says. Several such groups run side by side, because most of the time
// they wait for Kafka to notice that a member is gone.
//
//	go test ./cmd/r2rec -run TestKill -kills 200
func TestKill(t *testing.T) {
	embeddedtest.RealKafka(t)
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -kill-seed %d", seed)
	const lanes = 4
	for lane := range min(lanes, *kills) {
		t.Run(fmt.Sprint("group ", lane), func(t *testing.T) {
			t.Parallel()
			newDoomed(t, rand.New(rand.NewPCG(seed, uint64(lane)))).run((*kills + lane) / lanes)
		})
	}
}

// doomed is a group of processes that are killed.
type doomed struct {
	*place
	slow    *place // the same by way of a Redis whose answers take a while, so that a process is seldom between two batches
	random  *rand.Rand
	graph   *graphcache.Cache
	writer  *kafka.Writer
	topic   string // with its prefix
	log     []event.Interaction
	members [3]*member
}

// member is a process.
type member struct {
	cmd  *exec.Cmd
	errs transcript
}

// transcript is what a process has written, and may be read while it runs.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func newDoomed(t *testing.T, random *rand.Rand) *doomed {
	t.Helper()
	d := &doomed{place: newPlace(t, embeddedtest.RealKafka(t), embeddedtest.RealRedis(t)), random: random}
	proxy := embeddedtest.NewProxy(t, d.redis.Addrs[0])
	proxy.Delay(10 * time.Millisecond)
	d.slow = newPlace(t, d.kafka, &redis.UniversalOptions{Addrs: []string{proxy.Addr}, DB: d.redis.DB})
	var err error
	if d.graph, err = graphcache.New(d.rdb, graphcache.Options{}); err != nil {
		t.Fatal(err)
	}
	c, err := broker.New(d.kafka)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.EnsureTopics(t.Context(), broker.Topics{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	d.writer, d.topic = c.NewWriter(broker.Interactions), c.Topic(broker.Interactions)
	t.Cleanup(func() { d.writer.Close() })
	for i := range d.members {
		d.members[i] = d.newMember()
	}
	t.Cleanup(func() {
		for _, m := range d.members {
			_ = m.cmd.Process.Kill() // where the test failed; the others have ended
		}
	})
	return d
}

func (d *doomed) newMember() *member {
	d.Helper()
	return d.start(d.slow.everywhere("consume", "--log-level", "info", "--session-timeout", "1s", "--group", d.kafka.TopicPrefix+"group"))
}

// start runs this program in a process of its own.
func (d *doomed) start(args []string) *member {
	d.Helper()
	m := &member{cmd: exec.Command(os.Args[0], args...)}
	m.cmd.Env = append(os.Environ(), asProgram+"=1")
	m.cmd.Stderr = &m.errs
	if err := m.cmd.Start(); err != nil {
		d.Fatal(err)
	}
	return m
}

func (d *doomed) run(kills int) {
	d.Helper()
	var took time.Duration
	for range kills {
		d.tell(100)
		began := time.Now()
		if d.random.IntN(3) == 0 {
			d.wait(time.Duration(d.random.Int64N(int64(1500 * time.Millisecond))))
		} else { // while the group works
			d.awaitMove()
			d.tell(20)
			d.wait(time.Duration(d.random.Int64N(int64(60 * time.Millisecond))))
		}
		i := d.random.IntN(len(d.members))
		victim := d.members[i]
		if err := victim.cmd.Process.Kill(); err != nil {
			d.Fatal(err)
		}
		if err := victim.cmd.Wait(); victim.cmd.ProcessState.ExitCode() != -1 {
			d.Fatalf("a process had ended before it was killed: %v\n%s", err, victim.errs.String())
		}
		d.members[i] = d.newMember()
		took += time.Since(began)
	}
	d.tell(100)
	d.compare()
	for _, m := range d.members {
		// One that started a moment ago does not listen to signals yet.
		d.eventually("a process does not begin", func() (bool, string) { said := m.errs.String(); return strings.Contains(said, "consuming"), said })
		if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			d.Fatal(err)
		}
	}
	for _, m := range d.members {
		if err := m.cmd.Wait(); err != nil {
			d.Errorf("told to end: %v\n%s", err, m.errs.String())
		}
	}
	d.Logf("%d kills in %v, %d events", kills, took, len(d.log))
}

// tell publishes n more events, in any order of their times, some of them twice.
func (d *doomed) tell(n int) {
	d.Helper()
	var ms []kafka.Message
	for _, in := range (graphtest.Shape{Users: 30, Items: 400, Moments: 100_000}).History(d.random, n) {
		in.EventID = fmt.Sprint("e", len(d.log))
		raw, err := event.Encode(in)
		if err != nil {
			d.Fatal(err)
		}
		d.log = append(d.log, in)
		for again := true; again; again = d.random.IntN(10) == 0 {
			ms = append(ms, kafka.Message{Key: []byte(in.UserID), Value: raw})
		}
	}
	if err := d.writer.WriteMessages(d.Context(), ms...); err != nil {
		d.Fatal(err)
	}
}

func (d *doomed) wait(pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-d.Context().Done():
	}
}

// awaitMove waits until the group has brought something into the graph.
func (d *doomed) awaitMove() {
	d.Helper()
	at := func() (sum int64) {
		for p := range 4 {
			w, _, err := d.graph.Watermark(d.Context(), d.topic, p)
			if err != nil {
				d.Fatal(err)
			}
			sum += w
		}
		return sum
	}
	before := at()
	d.eventually("the group does not move", func() (bool, string) { now := at(); return now > before, fmt.Sprint(now) })
}

func (d *doomed) compare() {
	d.Helper()
	want := graphtest.Default.Entries(d.log)
	d.eventually("the graph is not what the history says", func() (bool, string) {
		got, err := d.graph.Export(d.Context())
		if err != nil {
			d.Fatal(err)
		}
		diff := cmp.Diff(want, graphtest.Of(got))
		return diff == "", fmt.Sprintf("%.3000s", diff)
	})
}
