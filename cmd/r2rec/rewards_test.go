package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// The way from a list over HTTP to the rewards topic, by one process and the flags that a user types.
func TestRewardsPath(t *testing.T) {
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		const window, lateness = 5 * time.Second, 2 * time.Second
		p := newPlace(t, k, r)
		api := "http://" + freeAddress(t)
		args := []string{"serve", "--consume", "--no-model", "--listen", api[len("http://"):], "--explore-share", "0", "--control-share", "0",
			"--attribution-window", window.String(), "--lateness", lateness.String(), "--reward", "cart=2", "--log-level", "error"}
		p.start(append(append(args, p.kafkaArgs()...), p.redisArgs()...)...)
		site := &rewardSite{place: p, api: api}
		p.eventually("the server is not ready", func() (bool, string) {
			res, err := http.Get(api + "/readyz")
			if err != nil {
				return false, err.Error()
			}
			res.Body.Close()
			return res.StatusCode == http.StatusOK, res.Status
		})
		site.history()

		// A list that declares itself, a click that names it, twice.
		declared := site.list("reader", "?fresh=true&k=3&shown=true&surface=home", "3")
		click := site.did(declared, event.Click, 2, declared.DecisionID)
		site.send(click, click)
		// One that nobody says was shown, bought from; then one of the same user that is shown: once it has its rewards, the
		// other will never have any.
		unseen := site.list("blind", "?fresh=true&k=3", "")
		site.send(site.did(unseen, event.Purchase, 1, unseen.DecisionID))
		after := site.list("blind", "?fresh=true&k=2&shown=true", "2")
		// One of which the app says what was seen; a cart that names nothing, and a click on what was not seen.
		told := site.list("teller", "?fresh=true&k=3&surface=home", "")
		first, second := site.did(told, event.Impression, 1, told.DecisionID), site.did(told, event.Impression, 2, told.DecisionID)
		cart := site.did(told, event.Cart, 1, "")
		site.send(second, first, cart, site.did(told, event.Click, 3, told.DecisionID))
		// A stored one that is asked for again, twice.
		site.list("returner", "?fresh=true&k=2", "")
		stored := site.list("returner", "?k=2&shown=true&surface=cart", "2")
		site.list("returner", "?k=2&shown=true&surface=home", "2")

		reward := func(rec event.Recommendation, position int, surface string, examination float64, by *event.Interaction, value float64, attribution string) event.Reward {
			out := event.Reward{DecisionID: rec.DecisionID, UserID: rec.UserID, ItemID: rec.Items[position-1].ItemID, Position: position, Surface: surface,
				Source: event.Graph, DecidedAt: rec.GeneratedAt, Examination: examination, Value: value, Attribution: attribution}
			if by != nil {
				out.Type, out.EventID = by.Type, by.EventID
			}
			return out
		}
		want := []event.Reward{
			reward(declared, 1, "home", 1, nil, 0, event.ByNothing),
			reward(declared, 2, "home", 1, &click, 1, event.ByDecision),
			reward(declared, 3, "home", 0, nil, 0, event.ByNothing),
			reward(after, 1, "", 1, nil, 0, event.ByNothing),
			reward(after, 2, "", 1, nil, 0, event.ByNothing),
			reward(told, 1, "test", 1, &cart, 2, event.ByWindow),
			reward(told, 2, "test", 0, nil, 0, event.ByNothing),
			reward(stored, 1, "cart", 1, nil, 0, event.ByNothing),
			reward(stored, 2, "cart", 1, nil, 0, event.ByNothing),
		}
		got := p.rewards(len(want))
		key := func(r event.Reward) string { return fmt.Sprint(r.DecisionID, r.Position) }
		for _, rs := range [][]event.Reward{want, got} {
			slices.SortFunc(rs, func(a, b event.Reward) int { return strings.Compare(key(a), key(b)) })
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(event.Reward{}, "Timestamp")); diff != "" {
			t.Errorf("rewards (-want +topic):\n%s", diff)
		}
		for _, r := range got {
			if r.DecisionID == told.DecisionID && r.Timestamp != min(first.Timestamp, second.Timestamp)+event.Time((window+lateness).Milliseconds()) {
				t.Errorf("final at %v, first shown at %v or %v", r.Timestamp, first.Timestamp, second.Timestamp)
			}
		}
	})
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// rewardSite is an app that shows lists and reports what becomes of them, over HTTP.
type rewardSite struct {
	*place
	api string
	n   int
}

// history gives the graph something to recommend from: users who like the same things.
func (s *rewardSite) history() {
	s.Helper()
	var items, likes []kafka.Message
	at := event.At(time.Now().Add(-time.Hour))
	for i := range 12 {
		item := fmt.Sprint("film", i)
		raw, err := event.Encode(event.Item{ItemID: item, Title: "Film " + item})
		if err != nil {
			s.Fatal(err)
		}
		items = append(items, kafka.Message{Key: []byte(item), Value: raw})
		for u, user := range []string{"ann", "ben", "cid", "reader", "blind", "teller", "returner"} {
			if u >= 3 && i >= 4 { // the ones asked for know a third of it
				continue
			}
			raw, err := event.Encode(event.Interaction{EventID: user + item, UserID: user, ItemID: item, Type: event.Like, Timestamp: at + event.Time(i)})
			if err != nil {
				s.Fatal(err)
			}
			likes = append(likes, kafka.Message{Key: []byte(user), Value: raw})
		}
	}
	s.publish(broker.Items, items...)
	s.publish(broker.Interactions, likes...)
	s.eventually("the graph does not know what to recommend", func() (bool, string) {
		for _, user := range []string{"reader", "blind", "teller", "returner"} {
			if rec, _ := s.ask(user, "?fresh=true&k=5"); len(rec.Items) != 5 {
				return false, fmt.Sprintf("%+v", rec)
			}
		}
		return true, ""
	})
}

func (s *rewardSite) ask(user, query string) (rec event.Recommendation, header http.Header) {
	s.Helper()
	res, err := http.Get(s.api + "/v1/users/" + user + "/recommendations" + query)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		s.Fatalf("%s of %s: %s %v: %s", query, user, res.Status, err, body)
	}
	s.decode(string(body), &rec)
	return rec, res.Header
}

// list asks for a list, and wants this many impressions to be declared with it.
func (s *rewardSite) list(user, query, shown string) event.Recommendation {
	s.Helper()
	rec, header := s.ask(user, query)
	if rec.DecisionID == "" || header.Get("R2rec-Shown") != shown {
		s.Fatalf("%s of %s: decision %q, %s shown, want %s", query, user, rec.DecisionID, header.Get("R2rec-Shown"), shown)
	}
	return rec
}

// did is something that the user of a list does now to the item in a slot.
func (s *rewardSite) did(rec event.Recommendation, what event.Type, position int, decision string) event.Interaction {
	s.n++
	return event.Interaction{EventID: fmt.Sprint("did-", s.n), UserID: rec.UserID, ItemID: rec.Items[position-1].ItemID, Type: what,
		Timestamp: event.At(time.Now()), DecisionID: decision, Position: &position, Surface: "test"}
}

func (s *rewardSite) send(events ...event.Interaction) {
	s.Helper()
	raw, err := json.Marshal(events)
	if err != nil {
		s.Fatal(err)
	}
	res, err := http.Post(s.api+"/v1/events", "application/json", bytes.NewReader(raw))
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(res.Body)
		s.Fatalf("events: %s: %s", res.Status, body)
	}
}

// rewards reads until n rewards are there; there must not be more.
func (p *place) rewards(n int) (out []event.Reward) {
	p.Helper()
	c, err := broker.New(p.kafka)
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	p.eventually("the rewards do not come", func() (bool, string) {
		offsets, err := c.Offsets(p.Context(), broker.Rewards)
		var have int64
		for _, o := range offsets {
			have += o.Last
		}
		return have >= int64(n), fmt.Sprintf("%d of %d: %v", have, n, err)
	})
	offsets, err := c.Offsets(p.Context(), broker.Rewards)
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	for part, o := range offsets {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: p.kafka.Brokers, Topic: c.Topic(broker.Rewards), Partition: part, MaxWait: 100 * time.Millisecond})
		defer r.Close()
		for range o.Last {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				p.Fatal(err)
			}
			reward, err := event.DecodeReward(m.Value)
			if err != nil || string(m.Key) != reward.UserID {
				p.Fatalf("reward %s of %s: %v", m.Value, m.Key, err)
			}
			out = append(out, reward)
		}
	}
	return out
}
