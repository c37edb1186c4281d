package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// A server that follows the log of adapters shows what the rewards in Kafka say, with nobody simulated, and the roll-out.
func TestAServerShowsTheLoop(t *testing.T) {
	t.Parallel()
	tr := newTrainer(newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}))
	var batch []kafka.Message
	for i := range 60 {
		r := event.Reward{DecisionID: fmt.Sprint("d", i), UserID: fmt.Sprint("u", i), ItemID: "a", Position: 1, Examination: 1, Attribution: event.ByNothing, Source: event.Reasoned,
			DecidedAt: 1.7e12, Timestamp: 1.7e12}
		switch {
		case i < 20:
			r.Control, r.Source = true, event.Graph
		case i < 40:
			r.Value, r.Type, r.EventID, r.Attribution = 1, event.Click, fmt.Sprint("c", i), event.ByDecision
		}
		batch = append(batch, message(t, r.UserID, r))
	}
	c, err := broker.New(tr.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := c.NewWriter(broker.Rewards)
	if err := errors.Join(w.WriteMessages(t.Context(), batch...), w.Close()); err != nil {
		t.Fatal(err)
	}
	digest := tr.make(1, true)
	tr.write(event.Promote, digest, "", .25)
	s := tr.serve("--adapters", tr.folder)
	var l web.LoopState
	tr.eventually("the rewards are not counted", func() (bool, string) {
		_, body := s.ask("GET", "/v1/loop", "")
		if l = (web.LoopState{}); json.Unmarshal([]byte(body), &l) != nil {
			return false, body
		}
		return l.Rewards.Decisions == 60 && l.RollOut != nil && l.RollOut.Until != 0, body
	})
	if u := l.Uplift; u == nil || u.Difference != .5 || u.Interval == nil || u.Users != 40 || u.Control != 20 {
		t.Errorf("uplift %+v, want half a click", u)
	}
	if l.Simulation != nil || l.Note != "" || l.Rewards.Simulated != 0 || l.Rounds.Elsewhere == "" || l.Offset == nil || *l.Offset != 1 {
		t.Errorf("%+v, want no simulation, rounds elsewhere and one record of the log", l)
	}
	if r := l.RollOut; r.Candidate != digest || r.Share != .25 {
		t.Errorf("%+v", r)
	}
}

func TestHowARoundEndedIsShown(t *testing.T) {
	l := &loop{tally: newTally(10), parts: loopParts{needed: 5}}
	l.tally.add([]event.Reward{earned("d1", "u", 1, "", false), earned("d2", "u", 0, "", false)})
	l.began()
	l.told("learning", 3, 9)
	l.tally.add([]event.Reward{earned("d3", "u", 0, "", false)})
	s, err := l.Loop(t.Context())
	if r := s.Rounds; err != nil || r.Usable != 1 || r.Needed != 5 || r.Running == nil || r.Running.Doing != "learning" || r.Running.Done != 3 || r.Running.Total != 9 {
		t.Errorf("%v, %+v, want one decision since the round began", err, r)
	}
	report := &rltrainer.Report{Verdict: rltrainer.Refused, Reason: "worse", Adapter: "aa", Began: 1, Ended: 2, Training: 3, Users: 4, Held: 5, Gate: &event.Gate{}}
	for i := range 60 {
		report.Policy = append(report.Policy, rltrainer.PolicyStep{Reward: float64(i)})
	}
	l.roundEnded(report, nil)
	for range endedRounds {
		l.roundEnded(nil, errors.New("disk full"))
	}
	l.roundEnded(report, nil)
	s, _ = l.Loop(t.Context())
	ended := s.Rounds.Ended
	if len(ended) != endedRounds || s.Rounds.Running != nil || ended[1].Verdict != "failed" || ended[1].Reason != "disk full" {
		t.Fatalf("%d rounds, %+v", len(ended), ended[:2])
	}
	if r := ended[0]; r.Verdict != "refused" || r.Adapter != "aa" || r.Learned != 3 || r.Users != 4 || r.Held != 5 || r.Gate == nil || len(r.Reward) != 20 || r.Reward[0] != 1 || r.Reward[19] != 58 {
		t.Errorf("%+v, want the report, its curve as means of three steps", r)
	}
}
