package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

func createTopic(t *testing.T, c *broker.Client, topic string, partitions int, config ...string) {
	t.Helper()
	var entries []kafka.ConfigEntry
	for kv := range slices.Chunk(config, 2) {
		entries = append(entries, kafka.ConfigEntry{ConfigName: kv[0], ConfigValue: kv[1]})
	}
	client := &kafka.Client{Addr: kafka.TCP(c.Brokers()...), Transport: c.Transport}
	res, err := client.CreateTopics(bounded(t), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: c.Topic(topic), NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}}})
	if err == nil {
		err = res.Errors[c.Topic(topic)]
	}
	if err != nil {
		t.Fatal(err)
	}
}

func configs(t *testing.T, c *broker.Client, topic string) map[string]string {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(c.Brokers()...), Transport: c.Transport}
	res, err := client.DescribeConfigs(bounded(t), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic(topic)}}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range res.Resources {
		if r.Error != nil {
			t.Fatal(r.Error)
		}
		for _, e := range r.ConfigEntries {
			out[e.ConfigName] = e.ConfigValue
		}
	}
	return out
}

func partitions(t *testing.T, c *broker.Client) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, topic := range broker.AllTopics {
		offsets, err := c.Offsets(bounded(t), topic)
		if err != nil {
			t.Fatal(err)
		}
		out[topic] = len(offsets)
	}
	return out
}

// Several processes that start at once all find the topics made, with the right shape; and a second start is a no-op.
func TestEnsureTopicsMakesThemOnce(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx := bounded(t)
		var wg sync.WaitGroup
		for range 4 {
			c := newClient(t, s)
			wg.Go(func() {
				if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 5}); err != nil {
					t.Errorf("racing: %v", err)
				}
			})
		}
		wg.Wait()
		c := newClient(t, s)
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 9}); err != nil {
			t.Errorf("again: %v", err)
		}
		want := map[string]int{broker.Interactions: 5, broker.Items: 5, broker.Users: 5, broker.Decisions: 5, broker.Rewards: 5,
			broker.Adapters: 1, broker.DeadLetters: 1}
		if got := partitions(t, c); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("partitions %v, want %v", got, want)
		}
		for topic, entry := range map[string][2]string{
			broker.Interactions: {"cleanup.policy", "delete"},
			broker.Items:        {"cleanup.policy", "compact"},
			broker.Users:        {"cleanup.policy", "compact"},
			broker.Adapters:     {"retention.ms", "-1"},
			broker.Decisions:    {"retention.ms", "3456000000"},
			broker.Rewards:      {"retention.ms", "3456000000"},
			broker.DeadLetters:  {"max.message.bytes", "2359296"},
		} {
			if got := configs(t, c, topic)[entry[0]]; got != entry[1] {
				t.Errorf("%s: %s = %q, want %q", topic, entry[0], got, entry[1])
			}
		}
		if got, err := c.Retention(ctx, broker.Interactions); err != nil || got.For >= 0 || !got.Decided {
			t.Errorf("interactions are kept %+v, %v; want for ever", got, err)
		}
		if got := configs(t, c, broker.Adapters)["cleanup.policy"]; got != "delete" {
			t.Errorf("adapters: cleanup.policy = %q, want delete: the log is never compacted", got)
		}
	})
}

// Decisions follow the partitions of interactions that somebody else made, and the other way round.
func TestEnsureTopicsFollowsTheTopicsThatExist(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		for _, existing := range []string{broker.Interactions, broker.Decisions} {
			s := s
			s.TopicPrefix += existing + "-first-"
			c := newClient(t, s)
			createTopic(t, c, existing, 3)
			if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 5}); err != nil {
				t.Fatal(err)
			}
			got := partitions(t, c)
			if got[broker.Interactions] != 3 || got[broker.Decisions] != 3 || got[broker.Items] != 5 {
				t.Errorf("%s had 3 partitions: got %v, want 3 for both and 5 for items", existing, got)
			}
		}
	})
}

// A topic that was made without a retention has the brokers' own, and is told apart from one for which it was decided.
func TestRetention(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		c := newClient(t, s)
		createTopic(t, c, broker.Interactions, 1)
		left, err := c.Retention(bounded(t), broker.Interactions)
		if err != nil || left.Decided || left.For <= 0 {
			t.Errorf("made by nobody who decided: %+v, %v", left, err)
		}
		if err := c.EnsureTopics(bounded(t), broker.Topics{}); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Retention(bounded(t), broker.Rewards); err != nil || !r.Decided || r.For != 960*time.Hour {
			t.Errorf("rewards: %+v, %v", r, err)
		}
		if r, err := c.Retention(bounded(t), broker.Interactions); err != nil || r != left {
			t.Errorf("a topic that is there is left as it is: %+v, %v, was %+v", r, err, left)
		}
		if r, err := c.DeletionRetention(bounded(t), broker.Items); err != nil || !r.Decided || r.For != 876_000*time.Hour {
			t.Errorf("deletions of items: %+v, %v", r, err)
		}
		if r, err := c.DeletionRetention(bounded(t), broker.Users); err != nil || r.Decided || r.For != 24*time.Hour {
			t.Errorf("deletions of users, which nobody decided about: %+v, %v", r, err)
		}
		if r, err := c.Retention(bounded(t), broker.DeadLetters); err != nil || !r.Decided || r.For != 2160*time.Hour {
			t.Errorf("dead letters: %+v, %v", r, err)
		}
		if _, err := c.Retention(bounded(t), "nothing-such"); err == nil {
			t.Error("a topic that is not there has a retention")
		}
	})
}

// What a topic loses is told by its policy and both limits.
func TestCleanup(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		c := newClient(t, s)
		if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		createTopic(t, c, "aged", 1, "cleanup.policy", "delete", "retention.ms", "1000")
		createTopic(t, c, "sized", 1, "cleanup.policy", "delete", "retention.ms", "-1", "retention.bytes", "1000000")
		createTopic(t, c, "both", 1, "cleanup.policy", "compact,delete", "retention.ms", "1000")
		for topic, want := range map[string]struct {
			compacts, deletes bool
			said              string
		}{
			broker.Interactions: {said: "delete"},
			broker.Adapters:     {said: "delete"},
			broker.Users:        {compacts: true, said: "compact"},
			broker.Items:        {compacts: true, said: "compact"},
			broker.Rewards:      {deletes: true, said: "delete after 960h0m0s"},
			"aged":              {deletes: true, said: "delete after 1s"},
			"sized":             {deletes: true, said: "delete beyond 1000000 bytes a partition"},
			"both":              {true, true, "compact,delete after 1s"},
		} {
			if got, err := c.Cleanup(bounded(t), topic); err != nil || got.Compacts() != want.compacts || got.Deletes() != want.deletes || got.String() != want.said {
				t.Errorf("%s: %s, compacts %v, deletes %v, %v; want %+v", topic, got, got.Compacts(), got.Deletes(), err, want)
			}
		}
		if _, err := c.Cleanup(bounded(t), "nothing-such"); err == nil {
			t.Error("a topic that is not there loses records by some rule")
		}
	})
}

// Where the join reads the times of records, brokers refuse those that lie far ahead, as far as they can look; a topic that
// nobody made so is told apart, and so is one whose brokers put a time of their own beside the producer's, which is not read.
func TestTimesOfRecordsAreLookedAt(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		c := newClient(t, s)
		if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		createTopic(t, c, "appended", 1, "message.timestamp.type", "LogAppendTime", "message.timestamp.after.max.ms", "1000")
		createTopic(t, c, "unbounded", 1, "message.timestamp.after.max.ms", "9223372036854775807")
		for topic, want := range map[string]time.Duration{broker.Interactions: 5 * time.Minute, broker.Decisions: 5 * time.Minute, "appended": -1, "unbounded": -1} {
			if got, err := c.Ahead(bounded(t), topic); err != nil || got != want {
				t.Errorf("%s: records may lie %v ahead, %v; want %v", topic, got, err, want)
			}
		}
	})
}

// Brokers that do not know how to look at times get the topics all the same.
func TestTopicsOfBrokersThatDoNotLookAtTimes(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.CreateTopicsRequest)
		for _, topic := range req.Topics {
			for _, config := range topic.Configs {
				if config.Name == "message.timestamp.after.max.ms" {
					return answerAll(req, kerr.InvalidConfig), nil, true
				}
			}
		}
		return nil, nil, false
	})
	c := newClient(t, broker.Settings{Brokers: cluster.ListenAddrs()})
	if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	if d, err := c.Ahead(bounded(t), broker.Decisions); err == nil || !strings.Contains(err.Error(), "since 3.6") {
		t.Errorf("records may lie %v ahead, %v; want that the brokers do not know that", d, err)
	}
}

func TestEnsureTopicsRefusesWhatDoesNotFit(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		for name, make := range map[string]map[string]int{
			"decisions": {broker.Interactions: 3, broker.Decisions: 4},
			"adapters":  {broker.Adapters: 2},
		} {
			s := s
			s.TopicPrefix += name + "-wrong-"
			c := newClient(t, s)
			for topic, n := range make {
				createTopic(t, c, topic, n)
			}
			err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 5})
			var unfit *broker.PartitionsError
			if !errors.As(err, &unfit) || unfit.Topic != c.Topic(name) {
				t.Errorf("%s: %v, want a PartitionsError of %s", name, err, c.Topic(name))
			}
		}
	})
}

// A writer that was used too early works as soon as the topics are there: its transport forgets what it had cached.
func TestWritersSeeNewTopicsAtOnce(t *testing.T) {
	embeddedtest.EachKafka(t, func(t *testing.T, s broker.Settings) {
		ctx, c := bounded(t), newClient(t, s)
		w := c.NewWriter(broker.Items)
		defer w.Close()
		if err := w.WriteMessages(ctx, kafka.Message{Key: []byte("k")}); !errors.Is(err, kafka.UnknownTopicOrPartition) {
			t.Fatalf("before the topic is there: %v, want UnknownTopicOrPartition", err)
		}
		if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteMessages(ctx, kafka.Message{Key: []byte("k")}); err != nil {
			t.Errorf("after: %v", err)
		}
	})
}

// Another process that makes the topics between our look and our request does no harm.
func TestEnsureTopicsLosesARaceGracefully(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	lost := 0
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		lost++ // once; the next request gets through
		return answerAll(r.(*kmsg.CreateTopicsRequest), kerr.TopicAlreadyExists), nil, true
	})
	c := newClient(t, broker.Settings{Brokers: cluster.ListenAddrs()})
	if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 2}); err != nil || lost != 1 {
		t.Errorf("after %d lost races: %v, want none after one", lost, err)
	}
}

// A controller that could not be reached is kafka.Unknown to kafka-go, which says nothing for good.
func TestEnsureTopicsTriesAgainAfterAnUnknownError(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	failed := 0
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		failed++ // once; the next request gets through
		return answerAll(r.(*kmsg.CreateTopicsRequest), kerr.UnknownServerError), nil, true
	})
	c := newClient(t, broker.Settings{Brokers: cluster.ListenAddrs()})
	if err := c.EnsureTopics(bounded(t), broker.Topics{Partitions: 2}); err != nil || failed != 1 {
		t.Errorf("after %d failures: %v, want none after one", failed, err)
	}
}

func answerAll(req *kmsg.CreateTopicsRequest, e *kerr.Error) kmsg.Response {
	res := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	for _, topic := range req.Topics {
		answer := kmsg.NewCreateTopicsResponseTopic()
		answer.Topic, answer.ErrorCode = topic.Topic, e.Code
		res.Topics = append(res.Topics, answer)
	}
	return res
}

// One broker that cannot keep its own default of replicas gets topics with one; several brokers are not second-guessed.
func TestReplicationFactorFallsBackOnOneBroker(t *testing.T) {
	for brokers, works := range map[int]bool{1: true, 3: false} {
		t.Run(fmt.Sprint(brokers, " brokers"), func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				req := r.(*kmsg.CreateTopicsRequest)
				for _, topic := range req.Topics {
					if topic.ReplicationFactor != -1 {
						return nil, nil, false
					}
				}
				return answerAll(req, kerr.InvalidReplicationFactor), nil, true
			})
			c := newClient(t, broker.Settings{Brokers: cluster.ListenAddrs()})
			err = c.EnsureTopics(bounded(t), broker.Topics{Partitions: 2})
			if works && err != nil {
				t.Errorf("one broker: %v, want topics with one replica", err)
			}
			if !works && (!errors.Is(err, kafka.InvalidReplicationFactor) || !strings.Contains(err.Error(), "make the topics by hand")) {
				t.Errorf("several brokers: %v, want the brokers' refusal and what to do", err)
			}
		})
	}
}
