package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// dev runs one of the development kit's commands, such as "down ollama".
func dev(t *testing.T, command string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("R2REC_TEST_DEV"), command), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", command, args, err, out)
	}
}

// TestModelComesAndGoes stops the real Ollama under a running server and starts it again: lists go on, first by the
// graph, then reasoned again, without a restart of r2rec.
func TestModelComesAndGoes(t *testing.T) {
	for _, name := range []string{"R2REC_TEST_DEV", "R2REC_TEST_OLLAMA", "R2REC_TEST_MODEL"} {
		if os.Getenv(name) == "" {
			if os.Getenv(embeddedtest.EnvRequire) == "1" {
				t.Fatal(name + " is not set")
			}
			t.Skip(name + " is not set: no real Ollama to stop and start")
		}
	}
	t.Cleanup(func() { // the other suites need it
		if out, err := exec.Command(filepath.Join(os.Getenv("R2REC_TEST_DEV"), "up"), "ollama").CombinedOutput(); err != nil {
			t.Errorf("start Ollama again: %v\n%s", err, out)
		}
	})
	p := newPlace(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	p.model = []string{"--ollama", os.Getenv("R2REC_TEST_OLLAMA"), "--model", os.Getenv("R2REC_TEST_MODEL"), "--model-timeout", "2m"}

	// Three users with like taste, and one who knows half of it.
	events, items := "user_id,item_id,rating,timestamp\n", "item_id,title,categories\n"
	for i := range 8 {
		items += fmt.Sprintf("f%d,Film %d,Drama\n", i, i)
		for u := range 4 {
			if u < 3 || i < 4 {
				events += fmt.Sprintf("u%d,f%d,5,%d\n", u, i, 1_600_000_000+60*i+u)
			}
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"events.csv": events, "items.csv": items} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.do(append([]string{"import", dir, "--json"}, p.kafkaArgs()...)...)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	args := append([]string{"serve", "--consume", "--listen", address, "--control-share", "0", "--explore-share", "0", "--log-level", "error"}, p.model...)
	p.start(append(append(args, p.kafkaArgs()...), p.redisArgs()...)...)

	fresh := func() (rec event.Recommendation, err error) {
		resp, err := http.Get("http://" + address + "/v1/users/u3/recommendations?fresh=true&k=3")
		if err != nil {
			return rec, err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return rec, fmt.Errorf("%s: %s: %v", resp.Status, raw, err)
		}
		return event.DecodeRecommendation(raw)
	}
	by := func(source event.Source) func() (bool, string) {
		return func() (bool, string) {
			rec, err := fresh()
			return err == nil && rec.Source == source && len(rec.Items) == 3, fmt.Sprintf("%s %q, %d items, %v", rec.Source, rec.Note, len(rec.Items), err)
		}
	}
	p.eventually("the model does not reason", by(event.Reasoned))
	dev(t, "down", "ollama")
	rec, err := fresh()
	if err != nil || rec.Source != event.Graph || len(rec.Items) != 3 || !strings.Contains(rec.Note, "model") {
		t.Errorf("with the model down: source %s, note %q, %d items, %v; want the graph's three, marked so", rec.Source, rec.Note, len(rec.Items), err)
	}
	dev(t, "up", "ollama")
	p.eventually("the model does not reason again", by(event.Reasoned))
}
