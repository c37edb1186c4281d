package adapters_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	. "github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// limit bounds every wait for a condition; a test that needs it all is broken.
const limit = 40 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// openLog opens the log by a client of its own, as another process would.
func openLog(t testing.TB, s broker.Settings) *Log {
	t.Helper()
	c, err := broker.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	l, err := NewLog(c.NewWriter(broker.Adapters), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAppendTellsWhetherItCounted(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		ctx, l := bounded(t), openLog(t, k)
		if s, err := l.State(ctx); err != nil || s.Offset != 0 || s.Current != "" {
			t.Fatalf("the state of an empty log is %+v, %v", s, err)
		}
		s, counted, err := l.Append(ctx, promote("a", "", 1, gate(1, 2)))
		if err != nil || !counted || s.Current != "a" {
			t.Fatalf("the first promotion: %+v, %v, %v", s, counted, err)
		}
		s, counted, err = l.Append(ctx, promote("b", "", 1, nil))
		if err != nil || counted || s.Current != "a" || !strings.Contains(s.Entries[1].Void, "current is adapter a") {
			t.Fatalf("a promotion over what is not current: %+v, %v, %v", s, counted, err)
		}
		if _, _, err = l.Append(ctx, promote("b", "", 0, nil)); err == nil || !strings.Contains(err.Error(), "share") {
			t.Errorf("a promotion to nobody: %v, want an error that names the share", err)
		}
		got, err := openLog(t, k).State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("another reader sees another state: %s", diff)
		}
	})
}

// TestOneOfTwoTrainersWins lets two append at the same time over the same parent, again and again.
func TestOneOfTwoTrainersWins(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		ctx := bounded(t)
		trainers := []*Log{openLog(t, k), openLog(t, k)}
		parent := ""
		for round := range 50 {
			adapters := []string{string(rune('A'+round)) + "1", string(rune('A'+round)) + "2"}
			won := make([]bool, 2)
			var wg sync.WaitGroup
			for i, l := range trainers {
				wg.Go(func() {
					s, counted, err := l.Append(ctx, promote(adapters[i], parent, 1, nil))
					if err != nil {
						t.Errorf("round %d: %v", round, err)
					}
					// Whoever wins sees itself, whoever loses the other.
					if want := adapters[i]; counted != (s.Current == want) {
						t.Errorf("round %d: %s counted: %v, and current is %s", round, want, counted, s.Current)
					}
					won[i] = counted
				})
			}
			wg.Wait()
			if won[0] == won[1] {
				t.Fatalf("round %d: won %v, want exactly one", round, won)
			}
			parent = adapters[slices.Index(won, true)]
		}
		s, err := openLog(t, k).State(ctx)
		if err != nil || s.Current != parent || len(s.Entries) != 100 {
			t.Errorf("%d records, current %s, %v; want 100, %s", len(s.Entries), s.Current, err, parent)
		}
	})
}

// raw writes records as some other program would.
func raw(t testing.TB, k broker.Settings, messages ...kafka.Message) {
	t.Helper()
	c, err := broker.New(k)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := c.NewWriter(broker.Adapters)
	defer w.Close()
	if err := w.WriteMessages(bounded(t), messages...); err != nil {
		t.Fatal(err)
	}
}

// TestRecordsThatCannotBeRead and those that a retry stored twice stay in the log and change nothing.
func TestRecordsThatCannotBeRead(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		ctx, l := bounded(t), openLog(t, k)
		first, err := event.Encode(promote("a", "", 1, nil))
		if err != nil {
			t.Fatal(err)
		}
		back, err := event.Encode(rollBack("", "a"))
		if err != nil {
			t.Fatal(err)
		}
		token := func(s string) []kafka.Header { return []kafka.Header{{Key: "r2-append", Value: []byte(s)}} }
		raw(t, k,
			kafka.Message{Value: []byte("\x00 no JSON")},
			kafka.Message{Value: nil, Key: []byte("k")},
			kafka.Message{Value: []byte(`{"kind":"promote"}`)},
			kafka.Message{Value: first, Headers: token("x")},
			kafka.Message{Value: back, Headers: token("y")},
			kafka.Message{Value: first, Headers: token("x")}, // would count by its parent
			kafka.Message{Value: first},                      // of another program, without a token
			kafka.Message{Value: back},
		)
		s, err := l.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"must be one JSON object", "must be one JSON object", "base: is required", "", "", "sent again: the first stands at offset 3", "", ""}
		if len(s.Entries) != len(want) {
			t.Fatalf("%d entries, want %d", len(s.Entries), len(want))
		}
		for i, e := range s.Entries {
			if e.Offset != int64(i) || (e.Void == "") != (want[i] == "") || !strings.Contains(e.Void, want[i]) {
				t.Errorf("entry %d at offset %d: void %q, want %q", i, e.Offset, e.Void, want[i])
			}
		}
		if s, counted, err := l.Append(ctx, promote("b", "", 1, nil)); err != nil || !counted || s.Offset != 9 {
			t.Errorf("after them: %v, %v, offset %d", counted, err, s.Offset)
		}
	})
}

// follow follows the log until the test ends and hands out every state.
func follow(t testing.TB, l *Log) <-chan State {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	states, done := make(chan State, 1000), make(chan error, 1)
	go func() {
		done <- l.Follow(ctx, func(s State) error {
			states <- s
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("follow ended with %v, want context.Canceled", err)
		}
	})
	return states
}

func next(t testing.TB, states <-chan State) State {
	t.Helper()
	select {
	case s := <-states:
		return s
	case <-bounded(t).Done():
		t.Fatal("no state in time")
		return State{}
	}
}

// TestFollowSeesEveryRecord at once: each append waits for the follower before the next. Were a state only seen when a
// request ends for want of records, after a second, the context would end first.
func TestFollowSeesEveryRecord(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		ctx, l := bounded(t), openLog(t, k)
		if _, _, err := l.Append(ctx, promote("0", "", 1, nil)); err != nil {
			t.Fatal(err)
		}
		states := follow(t, openLog(t, k))
		if s := next(t, states); s.Current != "0" || len(s.Entries) != 1 {
			t.Fatalf("follow began with %+v", s)
		}
		parent := "0"
		for i := range 50 {
			adapter := fmt.Sprint("a", i)
			want, _, err := l.Append(ctx, promote(adapter, parent, 1, nil))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, next(t, states)); diff != "" {
				t.Fatalf("record %d: %s", i, diff)
			}
			parent = adapter
		}
	})
}

func TestFollowEndsWithTheErrorOfItsCaller(t *testing.T) {
	k := broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}
	l, enough := openLog(t, k), errors.New("enough")
	if err := l.Follow(bounded(t), func(State) error { return enough }); err != enough {
		t.Errorf("at the start: %v, want the caller's error", err)
	}
	begun := false
	err := l.Follow(bounded(t), func(State) error {
		if begun {
			return enough
		}
		begun = true
		raw(t, k, kafka.Message{Value: []byte("{}")})
		return nil
	})
	if err != enough {
		t.Errorf("at a record: %v, want the caller's error", err)
	}
}

// TestFollowOutlivesBrokers cuts every connection for a while: nothing is missed, and it is logged once.
func TestFollowOutlivesBrokers(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var away atomic.Bool
	cuts := make(chan struct{})
	cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if away.Load() {
			select {
			case cuts <- struct{}{}:
			default:
			}
			return nil, errors.New("the broker is away"), true
		}
		return nil, nil, false
	})
	settings := broker.Settings{Brokers: cluster.ListenAddrs()}
	ctx, l := bounded(t), openLog(t, settings)
	var lines lineCounter
	c, err := broker.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	follower, err := NewLog(c.NewWriter(broker.Adapters), slog.New(&lines))
	if err != nil {
		t.Fatal(err)
	}
	states := follow(t, follower)
	next(t, states)
	for i, parent := range []string{"", "a", "b"} {
		away.Store(true)
		lines.wait(t, slog.LevelWarn, i+1)
		for range 3 { // more attempts, about which nothing is said
			select {
			case <-cuts:
			case <-ctx.Done():
				t.Fatal("no more attempts")
			}
		}
		away.Store(false)
		adapter := string(rune('a' + i))
		if _, counted, err := l.Append(ctx, promote(adapter, parent, 1, nil)); err != nil || !counted {
			t.Fatal(counted, err)
		}
		if s := next(t, states); s.Current != adapter {
			t.Errorf("after the broker came back: %+v", s)
		}
		lines.wait(t, slog.LevelInfo, i+1)
		if n := lines.count(slog.LevelWarn); n != i+1 {
			t.Errorf("%d warnings after %d times", n, i+1)
		}
	}
}

// TestAppendThatCannotBeAcknowledged says that nobody knows, and a record that was stored all the same is found.
func TestAppendThatCannotBeAcknowledged(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	l := openLog(t, broker.Settings{Brokers: cluster.ListenAddrs()})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, errors.New("the connection is cut"), true
	})
	if _, _, err := l.Append(bounded(t), promote("a", "", 1, nil)); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v, want an error that says that it is not known", err)
	}
}

// TestCloseWithoutAnAnswer does not wait until the last attempt to write has failed, most of a minute later.
func TestCloseWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	l := openLog(t, broker.Settings{Brokers: cluster.ListenAddrs()})
	ctx, cancel := context.WithCancel(t.Context())
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cancel()
		return nil, nil, true // and never an answer
	})
	if _, _, err := l.Append(ctx, promote("a", "", 1, nil)); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v, want an error that says that it is not known", err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "may be lost") {
		t.Errorf("closed with %v", err)
	}
}

// TestALogThatLostRecords is no log to decide by.
func TestALogThatLostRecords(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		ctx, l := bounded(t), openLog(t, k)
		for range 3 {
			if _, _, err := l.Append(ctx, promote("a", "", 1, nil)); err != nil {
				t.Fatal(err)
			}
		}
		deleteBefore(t, k, 2)
		_, err := l.State(ctx)
		var gap *GapError
		if !errors.As(err, &gap) || gap.Next != 0 || gap.First != 2 || gap.Last != 3 {
			t.Errorf("state: %v, want a GapError from 2 to 3", err)
		}
		err = l.Follow(ctx, func(State) error { return errors.New("a state was told") })
		if !errors.As(err, &gap) {
			t.Errorf("follow: %v, want a GapError", err)
		}
	})
}

func TestNewLogWantsSafeWrites(t *testing.T) {
	for _, w := range []*kafka.Writer{{Topic: "adapters", RequiredAcks: kafka.RequireOne}, {Topic: "adapters", RequiredAcks: kafka.RequireAll, Async: true}} {
		if _, err := NewLog(w, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("acks %v, async %v: no error", w.RequiredAcks, w.Async)
		}
	}
}
