package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// Clients that nobody here wrote: where the real servers run, events come from a Python producer, and the document is
// read by a Python app.

// python runs one of deploy/dev's clients; ok is false where the development servers are not up.
func (p *place) python(script, stdin string, args ...string) (out string, ok bool) {
	p.Helper()
	dev := os.Getenv("R2REC_TEST_DEV")
	if dev == "" || !strings.HasSuffix(p.Name(), "/real") {
		return "", false
	}
	cmd := exec.CommandContext(p.Context(), filepath.Join(dev, "clients", "python"), append([]string{filepath.Join(dev, "clients", script)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.Output()
	if err != nil {
		p.Fatalf("%s: %v\n%s", script, err, errs.String())
	}
	return string(stdout), true
}

func (p *place) produce(raw []byte, user string) {
	p.Helper()
	_, ok := p.python("producer.py", string(raw)+"\n", strings.Join(p.kafka.Brokers, ","), "--topic", p.kafka.TopicPrefix+broker.Interactions)
	if !ok {
		p.publish(broker.Interactions, kafka.Message{Key: []byte(user), Value: raw})
	}
}

// readAsApp wants apps to read from Redis what the command printed.
func (p *place) readAsApp(rec event.Recommendation) {
	p.Helper()
	var app struct {
		Recommendation event.Recommendation
		Top            [][2]any
	}
	if out, ok := p.python("app.py", "", p.redisArgs()[1], rec.UserID); ok {
		p.decode(out, &app)
	} else {
		doc, err := p.rdb.Get(p.Context(), event.RecommendationKey("r2:", rec.UserID)).Result()
		if err != nil {
			p.Fatal(err)
		}
		p.decode(doc, &app.Recommendation)
		for _, id := range p.rdb.ZRangeArgs(p.Context(), redis.ZRangeArgs{Key: event.TopKey("r2:", rec.UserID), Start: 0, Stop: -1, Rev: true}).Val() {
			app.Top = append(app.Top, [2]any{id})
		}
	}
	if diff := cmp.Diff(rec, app.Recommendation); diff != "" {
		p.Errorf("an app reads another document than was made:\n%s", diff)
	}
	if len(app.Top) == 0 || app.Top[0][0] != rec.Items[0].ItemID {
		p.Errorf("an app reads the ranking %v, want %s first", app.Top, rec.Items[0].ItemID)
	}
}
