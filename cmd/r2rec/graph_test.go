package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
)

// hostile is an id and title that would clear the terminal, hide what follows and turn the line around.
const hostile = "\x1b[2J\u202eevil\nuser 1"

// output of a command that has to succeed.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("r2rec %s: exit code %d, %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

func harmless(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			t.Errorf("%q reaches the terminal in %q", r, text)
		}
	}
}

func TestGraphShowsWhatThereIs(t *testing.T) {
	embeddedtest.Each(t, func(t *testing.T, kafka broker.Settings, o *redis.UniversalOptions) {
		rdb := redis.NewUniversalClient(o)
		defer rdb.Close()
		graph, err := graphcache.New(rdb, graphcache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var batch []event.Interaction
		for u := range 5 {
			for i := range 3 {
				batch = append(batch, event.Interaction{EventID: fmt.Sprint(u, i), UserID: fmt.Sprint("u", u), ItemID: fmt.Sprint("i", i), Type: event.Click, Timestamp: event.Time(1_700_000_000_000 + u)})
			}
		}
		batch = append(batch, event.Interaction{EventID: "h", UserID: hostile, ItemID: "i0", Type: event.Like, Timestamp: 1_700_000_009_000},
			event.Interaction{EventID: "h2", UserID: "u0", ItemID: hostile, Type: event.Hide, Timestamp: 1_700_000_009_000})
		topic := kafka.TopicPrefix + broker.Interactions
		if err := graph.ApplyInteractions(t.Context(), event.Span{Topic: topic, Partition: 1, Start: 0, End: 17}, batch); err != nil {
			t.Fatal(err)
		}
		if err := graph.ApplyItems(t.Context(), event.Span{Topic: kafka.TopicPrefix + broker.Items, Start: 0, End: 1}, []event.Item{{ItemID: "i0", Title: "A \x1b[31mred\u202e title"}}); err != nil {
			t.Fatal(err)
		}
		store := []string{"--redis", redisURL(o)}
		far := append([]string{"--kafka", "127.0.0.1:1"}, store...)
		near := append([]string{"--kafka", kafka.Brokers[0], "--topic-prefix", kafka.TopicPrefix}, store...)

		// Without Kafka everything but the lag is there, and that is said.
		var r graphReport
		decode(t, output(t, append([]string{"graph", "--json"}, far...)...), &r)
		if r.Users != 6 || r.Items != 4 || r.UserEdges != 17 || r.Catalogue != 1 || len(r.UserDegrees) != 3 || r.Memory["users"].Bytes == 0 {
			t.Errorf("%+v", r)
		}
		if len(r.Partitions) != 2 || r.Partitions[0].Lag != nil || r.KafkaError == "" {
			t.Errorf("without Kafka: %+v, %q", r.Partitions, r.KafkaError)
		}
		text := output(t, append([]string{"graph"}, far...)...)
		harmless(t, text)
		for _, want := range []string{"edges of a user", "2 to 3", "█", "memory by a sample", "lag is not known"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not said in\n%s", want, text)
			}
		}

		// With it, a partition whose end is known has a lag, and one that is gone is named.
		publish(t, kafka)
		r = graphReport{}
		decode(t, output(t, append([]string{"graph", "--json"}, near...)...), &r)
		if len(r.Partitions) != 2 || r.KafkaError != "" || r.Partitions[0].Lag == nil || *r.Partitions[0].Lag != *r.Partitions[0].End-17 {
			t.Errorf("with Kafka: %+v, %q", r.Partitions, r.KafkaError)
		}

		for _, args := range [][]string{{"--user", hostile}, {"--user", "u0"}, {"--item", "i0"}, {"--item", hostile}} {
			text := output(t, append(append([]string{"graph"}, args...), store...)...)
			harmless(t, text)
			if !strings.Contains(text, "└─ ") {
				t.Errorf("%q has no edges in\n%s", args, text)
			}
		}
		text = output(t, append([]string{"graph", "--user", "u0"}, store...)...)
		for _, want := range []string{"user u0, 4 edges", "A (31mred title", "like-minded users, strongest first", "hide"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not said in\n%s", want, text)
			}
		}
		var n graphcache.Neighbourhood
		decode(t, output(t, append([]string{"graph", "--item", "i0", "--show", "2", "--json"}, store...)...), &n)
		if n.Edges != 6 || len(n.Shown) != 2 || n.Shown[0].ID != hostile || n.Shown[0].Kind != "like" {
			t.Errorf("%+v", n)
		}
		if said := refused(t, "graph", "--user", "a", "--item", "b"); !strings.Contains(said, "--user") {
			t.Errorf("a user and an item: %s", said)
		}
	})
}

// Machines get a list also where there is nothing.
func TestGraphOfNothingHasEmptyLists(t *testing.T) {
	embeddedtest.EachSingle(t, func(t *testing.T, _ broker.Settings, o *redis.UniversalOptions) {
		for _, args := range [][]string{{"--quick"}, {"--user", "nobody"}, {"--item", "nothing"}} {
			if doc := output(t, append([]string{"graph", "--json", "--redis", redisURL(o)}, args...)...); strings.Contains(doc, "null") {
				t.Errorf("%v: %s", args, doc)
			}
		}
	})
}

func decode(t *testing.T, doc string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(doc), v); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
}

// publish makes the topics.
func publish(t *testing.T, s broker.Settings) {
	t.Helper()
	c, err := broker.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.EnsureTopics(context.WithoutCancel(t.Context()), broker.Topics{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
}
