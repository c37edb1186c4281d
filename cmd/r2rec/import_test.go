package main

import (
	"bytes"
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/dataset"
)

// fakeKafka is a Kafka whose answers a test decides.
func fakeKafka(t *testing.T) *kfake.Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return fake
}

// Stopped on the way, import says how much of the data set is in Kafka, and whether it can be run again.
func TestImportIsStopped(t *testing.T) {
	t.Parallel()
	fake := fakeKafka(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	fake.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if topics := r.(*kmsg.ProduceRequest).Topics; len(topics) > 0 && topics[0].Topic == broker.Interactions {
			stop()
		}
		return nil, nil, false
	})
	var out, errs bytes.Buffer
	code := run(ctx, []string{"import", "--partitions", "1", "--kafka", strings.Join(fake.ListenAddrs(), ",")}, &out, &errs)
	want := regexp.MustCompile(`acknowledged 9125 items and (\d+) interactions; the same command sends all of them again`)
	said := want.FindStringSubmatch(errs.String())
	if code != exitStopped || said == nil || out.Len() > 0 {
		t.Fatalf("exit code %d, %q, %q; want %d and %q", code, out.String(), errs.String(), exitStopped, want)
	}
	d, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	_, all := d.Len()
	if n, err := strconv.Atoi(said[1]); err != nil || n >= all {
		t.Errorf("%s interactions are acknowledged of %d, %v: it was stopped when the first of them came", said[1], all, err)
	}
}

// Stopped while Kafka does not answer, import ends long before its last attempt to write has failed.
func TestImportIsStoppedWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	fake := fakeKafka(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	attempts := 0
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		attempts++
		stop()
		return nil, nil, true
	})
	var out, errs bytes.Buffer
	code := run(ctx, []string{"import", "--partitions", "1", "--kafka", strings.Join(fake.ListenAddrs(), ",")}, &out, &errs)
	fake.Close()
	if code != exitStopped || !strings.Contains(errs.String(), "acknowledged 0 items and 0 interactions") {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
	if attempts == 0 || attempts > 4 {
		t.Errorf("it ended after %d attempts", attempts)
	}
}
