package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// Stopped while Kafka takes its time with the request, which it stores in the end, forget does not say that nothing happens.
func TestForgetIsStoppedBeforeKafkaAnswers(t *testing.T) {
	t.Parallel()
	fake := fakeKafka(t)
	p := newPlace(t, broker.Settings{Brokers: fake.ListenAddrs()}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan struct{})
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		stop()
		<-ended
		return nil, nil, false
	})
	var out, errs bytes.Buffer
	code := run(ctx, p.everywhere("forget", "u", "--json"), &out, &errs)
	close(ended)
	if said := errs.String(); code != exitStopped || out.Len() > 0 || !strings.Contains(said, "whether the request is in Kafka is not known") {
		t.Errorf("exit code %d, %q, %s", code, out.String(), said)
	}
	kc, err := broker.New(p.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	p.eventually("Kafka has no request", func() (bool, string) {
		parts, err := kc.Offsets(t.Context(), broker.Users)
		if err != nil {
			return false, err.Error()
		}
		n := 0
		err = kc.Read(t.Context(), broker.Users, parts, func(kafka.Message) error { n++; return nil })
		return n > 0, fmt.Sprint(n, err)
	})
}
