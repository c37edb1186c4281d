package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// Users look on with probability .8 where they did not click, which they do at three of ten slots: so .56 of those who looked
// at a slot look at the next.
func TestExaminationIsEstimated(t *testing.T) {
	t.Parallel()
	k, r := broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}}
	p := newTrainer(newPlace(t, k, r))
	estimate := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(append([]string{"train", "examination"}, p.kafkaArgs()...), args...), &out, &errs); code != 0 {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		return out.String()
	}
	if said := estimate(); !strings.Contains(said, "Nothing can be told yet") {
		t.Errorf("of no rewards: %s", said)
	}
	p.live(p.base, 3000, "d")
	var got examinationReport
	if err := json.Unmarshal([]byte(estimate("--json")), &got); err != nil {
		t.Fatal(err)
	}
	table := got.Surfaces[""]
	if len(table) != 5 || len(got.Flags) != 1 || !strings.HasPrefix(got.Flags[0], "*=1,") {
		t.Fatalf("%+v", got)
	}
	for i, want := range []float64{1, .56, .56 * .56} {
		if math.Abs(table[i].Value-want) > 4*table[i].SE || table[i].SE > .1 || table[i].Shown != 3000 {
			t.Errorf("position %d: %+v, want %.3f", i+1, table[i], want)
		}
	}
	if _, err := consumer.ParseExamination(got.Flags); err != nil {
		t.Error(err)
	}
	if said := estimate(); !strings.Contains(said, "r2rec consume --examination '"+got.Flags[0]+"'") || !strings.Contains(said, "(none)") {
		t.Errorf("for people: %s", said)
	}
	if said := estimate("--since", "1m"); !strings.Contains(said, "Nothing can be told yet") {
		t.Errorf("of old decisions: %s", said)
	}
	var requests []kafka.Message
	for i := range 400 {
		user := fmt.Sprint("u", i)
		requests = append(requests, message(t, user, event.User{UserID: user, ForgetBefore: event.At(time.Now())}))
	}
	p.publish(broker.Users, requests...)
	if said := estimate(); !strings.Contains(said, "Nothing can be told yet") {
		t.Errorf("of users who are to be forgotten: %s", said)
	}
}

func TestExaminationFlags(t *testing.T) {
	at := func(value, effective float64) consumer.Propensity {
		return consumer.Propensity{Value: value, Effective: effective}
	}
	for want, c := range map[string]struct {
		surface string
		table   []consumer.Propensity
	}{
		"home=1,1,0.01": {"home", []consumer.Propensity{at(1, 900), at(1.2, 500), at(0, 200)}},
		"home=1,0.5":    {"home", []consumer.Propensity{at(1, 900), at(.5, 100), at(.3, 99), at(.2, 400)}},
		"":              {"home", []consumer.Propensity{at(1, 900), at(.5, 99)}},
	} {
		if got := examinationFlag(c.surface, c.table); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, surface := range []string{"", "a=b", "a;b"} {
		if got := examinationFlag(surface, []consumer.Propensity{at(1, 900), at(.5, 500)}); got != "" {
			t.Errorf("surface %q: %q", surface, got)
		}
	}
	if got := shellWord("it's\n=1"); strings.Contains(got, "\n") || got != `'it'\''s =1'` {
		t.Errorf("a shell reads %s", got)
	}
}
