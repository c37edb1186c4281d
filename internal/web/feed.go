package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/r2rec/r2rec/internal/event"
)

// The kinds of messages on the feed, which are the event names on /v1/stream.
const (
	kindPhase    = "phase"    // Phase; kept for who comes later
	kindStats    = "stats"    // statsMessage; kept
	kindHealth   = "health"   // healthMessage; kept
	kindLoop     = "loop"     // LoopState, when it changes; kept
	kindApplied  = "applied"  // appliedMessage: a sample of what was applied, and every event that came over HTTP
	kindDecision = "decision" // decisionMessage
	kindDropped  = "dropped"  // droppedMessage: this subscriber was too slow
)

// Phase says what feeds the loop at the moment.
type Phase struct {
	Name  PhaseName `json:"name"`
	Text  string    `json:"text,omitempty"`  // what exactly is replayed, such as "MovieLens latest-small"
	Done  int64     `json:"done,omitempty"`  // events replayed so far
	Total int64     `json:"total,omitempty"` // events to replay
}

// PhaseName names a phase.
type PhaseName string

// A demo first replays recorded history, which is simulated traffic, and is live after that. Without a demo there is
// only live traffic.
const (
	Replaying PhaseName = "replaying"
	Live      PhaseName = "live"
)

type appliedMessage struct {
	EventID    string     `json:"event_id"`
	UserID     string     `json:"user_id"`
	ItemID     string     `json:"item_id"`
	Title      string     `json:"title,omitempty"` // absent: not in the catalogue
	Type       event.Type `json:"type"`
	Value      *float64   `json:"value,omitempty"`
	Timestamp  event.Time `json:"timestamp"`
	DecisionID string     `json:"decision_id,omitempty"`
	Own        bool       `json:"own,omitempty"`       // it came in over HTTP
	Simulated  bool       `json:"simulated,omitempty"` // a simulated user did it
}

type decisionMessage struct {
	DecisionID string       `json:"decision_id"`
	UserID     string       `json:"user_id"`
	Timestamp  event.Time   `json:"timestamp"`
	Surface    string       `json:"surface,omitempty"`
	Source     event.Source `json:"source"`
	Fallback   string       `json:"fallback,omitempty"`
	Model      string       `json:"model,omitempty"`
	Items      int          `json:"items"`
}

type statsMessage struct {
	Stats
	Applied   int64   `json:"applied"`           // events applied since the start
	PerSecond float64 `json:"events_per_second"` // since the message before
	Decisions int64   `json:"decisions"`         // decisions made since the start
}

type healthMessage struct {
	Components []Component `json:"components"`
}

type droppedMessage struct {
	Dropped int64 `json:"dropped"` // messages that this subscriber missed since the last such message
}

// message is one encoded message of the feed.
type message struct {
	kind string
	data []byte // one line of JSON
}

const (
	subscriberQueue = 256  // messages that may wait for one subscriber
	sampleQueue     = 64   // sampled events that may wait for their titles
	watchedEvents   = 4096 // events that came over HTTP and are looked for among the applied ones
)

// Feed tells subscribers what happens in the loop. Who reports to it never waits: a message to a full queue is dropped
// and counted. Events are sampled, because a stream of a hundred thousand a second is not for eyes; those that came in
// over HTTP are always told, because somebody waits for them. The zero value is not usable; see NewFeed.
type Feed struct {
	applied   atomic.Int64
	decisions atomic.Int64
	unsampled atomic.Int64
	missed    atomic.Int64

	samples chan sample // to be given titles and sent

	mu          sync.RWMutex
	subscribers map[*subscriber]struct{}
	kept        map[string]message

	watchMu sync.Mutex
	watched map[string]struct{} // event ids
	order   []string            // the same, oldest first
	watches atomic.Int64        // len(watched), so that nobody locks where nothing is watched
}

type sample struct {
	interaction event.Interaction
	own         bool
}

type subscriber struct {
	queue   chan message
	dropped atomic.Int64
}

// NewFeed returns a feed without subscribers.
func NewFeed() *Feed {
	return &Feed{
		samples:     make(chan sample, sampleQueue),
		subscribers: map[*subscriber]struct{}{},
		kept:        map[string]message{},
		watched:     map[string]struct{}{},
	}
}

// Applied reports events that the consumer is done with: a fresh recommendation sees their effect. Those that are not
// edges of the graph, such as views, belong to it too. It never blocks, costs next to nothing for a batch that nobody
// watches, and does not keep the batch.
func (f *Feed) Applied(batch []event.Interaction) {
	f.applied.Add(int64(len(batch)))
	own := -1
	for i := range batch {
		if f.watches.Load() > 0 && f.unwatch(batch[i].EventID) {
			own = i
			f.sample(sample{batch[i], true})
		}
	}
	// The newest of a batch is sample enough: under load batches come many times a second, otherwise they are short. That
	// something was shown is no news.
	newest := len(batch) - 1
	for newest >= 0 && batch[newest].Type == event.Impression {
		newest--
	}
	if newest >= 0 && newest != own && f.watching() {
		f.sample(sample{batch[newest], false})
	}
}

func (f *Feed) sample(s sample) {
	select {
	case f.samples <- s:
	default:
		if !s.own {
			f.unsampled.Add(1)
			return
		}
		// Somebody waits for this one: it takes the place of the oldest.
		select {
		case <-f.samples:
			f.unsampled.Add(1)
		default:
		}
		select {
		case f.samples <- s:
		default:
			f.unsampled.Add(1)
		}
	}
}

// SetPhase tells subscribers, also later ones, what feeds the loop.
func (f *Feed) SetPhase(p Phase) { f.send(kindPhase, p, true) }

func (f *Feed) decided(d event.Decision) {
	f.decisions.Add(1)
	m := decisionMessage{
		DecisionID: d.DecisionID, UserID: d.UserID, Timestamp: d.Timestamp, Surface: d.Surface,
		Source: d.Source, Fallback: d.Fallback, Items: len(d.Slate),
	}
	if d.Model != nil {
		m.Model = d.Model.Name
	}
	f.send(kindDecision, m, false)
}

// watch asks that the event be told when it is applied. The oldest watch is given up for a new one over the limit.
func (f *Feed) watch(eventID string) {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	if _, ok := f.watched[eventID]; ok {
		return
	}
	if len(f.order) == watchedEvents {
		delete(f.watched, f.order[0])
		f.order = f.order[1:]
	}
	f.watched[eventID] = struct{}{}
	f.order = append(f.order, eventID)
	f.watches.Store(int64(len(f.watched)))
}

// unwatch tells whether the event was watched, and ends that.
func (f *Feed) unwatch(eventID string) bool {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	if _, ok := f.watched[eventID]; !ok {
		return false
	}
	delete(f.watched, eventID)
	for i, id := range f.order {
		if id == eventID {
			f.order = append(f.order[:i], f.order[i+1:]...)
			break
		}
	}
	f.watches.Store(int64(len(f.watched)))
	return true
}

func (f *Feed) watching() bool { return f.streams() > 0 }

// subscribe returns a subscriber whose queue begins with the kept messages; nil: there are already limit of them.
func (f *Feed) subscribe(limit int) *subscriber {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.subscribers) >= limit {
		return nil
	}
	s := &subscriber{queue: make(chan message, subscriberQueue)}
	for _, kind := range []string{kindPhase, kindHealth, kindStats, kindLoop} {
		if m, ok := f.kept[kind]; ok {
			s.queue <- m
		}
	}
	f.subscribers[s] = struct{}{}
	return s
}

func (f *Feed) unsubscribe(s *subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subscribers, s)
}

// send encodes v once and queues it for every subscriber.
func (f *Feed) send(kind string, v any, keep bool) {
	m := encode(kind, v)
	if keep {
		f.keep(m)
	}
	f.queue(m)
}

// change sends what is kept where it says something new.
func (f *Feed) change(kind string, v any) {
	if m := encode(kind, v); f.keep(m) {
		f.queue(m)
	}
}

// keep keeps a message for who comes later, and tells whether it differs from the one before.
func (f *Feed) keep(m message) (differs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	differs = !bytes.Equal(f.kept[m.kind].data, m.data)
	f.kept[m.kind] = m
	return differs
}

func (f *Feed) queue(m message) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for s := range f.subscribers {
		select {
		case s.queue <- m:
		default:
			s.dropped.Add(1)
			f.missed.Add(1)
		}
	}
}

func encode(kind string, v any) message {
	data, err := json.Marshal(v)
	if err != nil {
		// Only a number that JSON cannot carry leads here; the message stays visible as what it was.
		data, _ = json.Marshal(map[string]string{"error": fmt.Sprintf("encode %s: %v", kind, err)})
	}
	return message{kind, data}
}

func (f *Feed) streams() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.subscribers)
}
