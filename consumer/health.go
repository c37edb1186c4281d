package consumer

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Health is how a consumer is doing at one moment.
type Health struct {
	Group      Trouble           // why the group cannot be joined
	Partitions []PartitionHealth // those this member owns, by topic and number
}

// Trouble is a failure that lasts. The zero value: there is none.
type Trouble struct {
	Doing string    // what fails
	Error string    // how it failed the last time
	Since time.Time // when it first did
}

// PartitionHealth is how a partition is doing.
type PartitionHealth struct {
	Topic     string
	Partition int
	Position  int64 // everything below it is in the graph; -1: not known yet
	End       int64 // the offset that the next record will get, as last heard; -1: not known yet
	Lag       int64 // End - Position, in offsets; 0 where unknown
	Trouble   Trouble
}

type partitionKey struct {
	topic string
	id    int
}

// health is written by the partitions' goroutines and read by anybody.
type health struct {
	now   func() time.Time
	mu    sync.Mutex
	group Trouble
	parts map[partitionKey]*partitionState
}

type partitionState struct {
	PartitionHealth
	known bool // the position may be committed
}

func newHealth(now func() time.Time) *health {
	return &health{now: now, parts: map[partitionKey]*partitionState{}}
}

func (h *health) snapshot() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := Health{Group: h.group, Partitions: make([]PartitionHealth, 0, len(h.parts))}
	for _, s := range h.parts {
		out.Partitions = append(out.Partitions, s.PartitionHealth)
	}
	slices.SortFunc(out.Partitions, func(a, b PartitionHealth) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// positions are what may be committed. A partition of which the graph has nothing yet is left out: a committed offset
// means that events were read.
func (h *health) positions() map[string]map[int]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]map[int]int64{}
	for k, s := range h.parts {
		if !s.known {
			continue
		}
		if out[k.topic] == nil {
			out[k.topic] = map[int]int64{}
		}
		out[k.topic][k.id] = s.Position
	}
	return out
}

func (h *health) own(topic string, id int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[partitionKey{topic, id}] = &partitionState{PartitionHealth: PartitionHealth{Topic: topic, Partition: id, Position: -1, End: -1}}
}

func (h *health) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.parts)
}

func (h *health) moved(topic string, id int, position, end int64, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.parts[partitionKey{topic, id}]
	s.Position, s.End, s.Lag, s.known = position, end, max(0, end-position), known
}

// failing notes a failure and tells whether it is new.
func (h *health) failing(topic string, id int, doing string, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parts[partitionKey{topic, id}].Trouble.note(doing, err, h.now)
}

// recovered ends the failure of doing, if that is what failed, and tells how long it lasted.
func (h *health) recovered(topic string, id int, doing string) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.parts[partitionKey{topic, id}].Trouble
	if t.Doing != doing {
		return 0, false
	}
	lasted := h.now().Sub(t.Since)
	*t = Trouble{}
	return lasted, true
}

func (h *health) groupFailed(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.group.note("join the group", err, h.now)
}

func (h *health) groupRecovered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.group != Trouble{}
	h.group = Trouble{}
	return was
}

func (t *Trouble) note(doing string, err error, now func() time.Time) bool {
	isNew := t.Doing != doing
	if isNew {
		*t = Trouble{Doing: doing, Since: now()}
	}
	t.Error = err.Error()
	return isNew
}
