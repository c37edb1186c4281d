package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/redis/go-redis/v9"
)

// A process that only consumes tells how it is to those who watch over it, and nothing else.
func TestConsumeIsWatchedOver(t *testing.T) {
	t.Parallel()
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	address := p.freeAddress()
	p.start(p.everywhere("consume", "--log-level", "error", "--monitor", address, "--allowed-host", "rec.example.com:443")...)
	s := site{p, "http://" + address}
	p.eventually("the consumer is not ready", func() (bool, string) {
		code, body := s.ask("GET", "/readyz", "")
		ready := code == 200
		for _, name := range []string{"kafka", "redis", "consumer", "rewards"} {
			ready = ready && strings.Contains(body, `"name":"`+name+`"`)
		}
		return ready, body
	})
	p.eventually("there are no metrics", func() (bool, string) { // those of a partition come with its first look at Kafka
		code, body := s.ask("GET", "/metrics", "")
		return code == 200 && strings.Contains(body, "\nr2rec_consumer_") && strings.Contains(body, "\nr2rec_joiner_") && strings.Contains(body, "\ngo_goroutines "), body
	})
	if code, _ := s.ask("GET", "/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	for host, want := range map[string]int{"rec.example.com": 200, "evil.example.com": 421} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != want {
			t.Errorf("asked by the name %s: %d, want %d", host, res.StatusCode, want)
		}
	}
	for _, path := range []string{"/v1/users", "/"} {
		if code, body := s.ask("GET", path, ""); code != 404 || !strings.Contains(body, "/healthz, /readyz and /metrics") {
			t.Errorf("%s: %d, %s", path, code, body)
		}
	}
	if log := p.ends(exitMisused, "consume", "--monitor", "nowhere"); !strings.Contains(log, `--monitor "nowhere": want host:port`) {
		t.Error(log)
	}
}
