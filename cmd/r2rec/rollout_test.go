package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// since is when the roll-outs begin: long ago, as Kafka's times are those of the test.
const since = event.Time(1.7e12)

// rollingOut is an adapter that half of the users have, and the rewards of those who got lists since.
func rollingOut(t *testing.T, candidate, current float64) (tr *trainer, digest string) {
	tr = newTrainer(newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.Options{Addr: embeddedtest.Redis(t)}))
	digest = strings.Repeat("ab", 32)
	s, counts, err := tr.log.Append(t.Context(), event.Promotion{Kind: event.Promote, Adapter: digest, Base: strings.Repeat("cd", 32), Readout: "lines", Prompt: 2, Share: .5, Reason: "test", Timestamp: since})
	if err != nil || !counts {
		t.Fatalf("%v, %+v", err, s)
	}
	c, err := broker.New(tr.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := c.NewWriter(broker.Rewards)
	defer w.Close()
	var msgs []kafka.Message
	for i := range 400 {
		r := event.Reward{DecisionID: fmt.Sprint("d", i), UserID: fmt.Sprint("u", i), ItemID: "i", Position: 1, Examination: 1, Attribution: event.ByNothing,
			DecidedAt: since + event.Time(i), Timestamp: since + event.Time(i), Source: event.Reasoned, Value: current}
		if policy.InRollOut(digest, r.UserID, .5) {
			r.Adapter, r.Value = digest, candidate
		}
		raw, err := event.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, kafka.Message{Key: []byte(r.UserID), Value: raw})
	}
	if err := w.WriteMessages(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
	return tr, digest
}

// watch watches roll-outs, as a process does, until the test ends.
func (t *trainer) watch(limit time.Duration) *rollOuts {
	t.Helper()
	c, err := broker.New(t.kafka)
	if err != nil {
		t.Fatal(err)
	}
	who, err := t.base.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{ctx: t.Context(), stdout: os.Stdout, stderr: os.Stderr, log: slog.New(slog.DiscardHandler)}
	r := &rollOuts{p: p, flags: rollOutFlags{RolloutLimit: limit}, kafka: c, log: t.log, model: who, every: 10 * time.Millisecond,
		lease: adapters.LeaseOptions{Client: t.rdb, Key: "r2:rollout", TTL: time.Minute, Logger: p.log}}
	done := make(chan error, 1)
	go func() { done <- r.run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return r
}

// ends waits until the roll-out has ended and returns the log.
func (t *trainer) ends() (s adapters.State) {
	t.Helper()
	t.eventually("the roll-out does not end", func() (bool, string) {
		var err error
		if s, err = t.log.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.Candidate == "", fmt.Sprintf("%+v", s)
	})
	return s
}

func TestARollOutIsEndedByItsRewards(t *testing.T) {
	for name, tc := range map[string]struct {
		candidate, current float64
		kind               event.PromotionKind
		reason             string
	}{
		"better": {1, 0, event.Complete, "it is better"},
		"worse":  {0, 1, event.RollBack, "it is worse"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, digest := rollingOut(t, tc.candidate, tc.current)
			tr.watch(time.Hour)
			tr.watch(time.Hour) // another process
			s := tr.ends()
			last := s.Entries[len(s.Entries)-1]
			if len(s.Entries) != 2 || last.Record.Kind != tc.kind || !strings.Contains(last.Record.Reason, tc.reason) || last.Void != "" {
				t.Errorf("%d records, the last %+v, want one %s, because %s", len(s.Entries), last, tc.kind, tc.reason)
			}
			if want := map[event.PromotionKind]string{event.Complete: digest}[tc.kind]; s.Current != want {
				t.Errorf("%q serves, want %q", s.Current, want)
			}
		})
	}
}

// What is not known is not decided, but shown; a roll-out that is taken back is not watched any more.
func TestARollOutIsShownWhileItIsWatched(t *testing.T) {
	tr, digest := rollingOut(t, 1, 1)
	r := tr.watch(time.Hour)
	tr.eventually("the rewards are not counted", func() (bool, string) {
		look := r.of(digest)
		return look != nil && look.Decisions[0]+look.Decisions[1] == 400, fmt.Sprintf("%+v", look)
	})
	look := r.of(digest)
	if look.Mean != [2]float64{1, 1} || look.Interval == nil || look.Interval.Low >= 0 || look.Interval.High <= 0 || look.Share != .5 || !strings.Contains(look.Reason, "not known") ||
		look.Until.Std().Sub(look.Since.Std()) != time.Hour || r.of("cd") != nil {
		t.Errorf("%+v", look)
	}
	tr.write(event.RollBack, "", digest, 0)
	tr.eventually("it is still watched", func() (bool, string) { return r.of(digest) == nil, "" })
}

// A roll-out that rewards do not decide in time goes back, so that the next adapter has its chance.
func TestARollOutThatIsNotDecidedGoesBack(t *testing.T) {
	tr, _ := rollingOut(t, 1, 1)
	tr.watch(100 * time.Millisecond) // in the rewards' own time
	s := tr.ends()
	if last := s.Entries[len(s.Entries)-1].Record; last.Kind != event.RollBack || !strings.Contains(last.Reason, "not decided within") || s.Current != "" {
		t.Errorf("%+v", last)
	}
}
