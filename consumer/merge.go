package consumer

import "github.com/r2rec/r2rec/internal/event"

// side is what is known of one of the two topics that are merged: which record comes next, or that none has come up to a
// time. Times are Kafka's, in milliseconds.
type side struct {
	last int64 // the latest of the records that were taken
	next int64 // of the record that comes next, where has
	has  bool
	upTo int64 // where not has: a record still to come is not older
}

// earliest is the least time that the next record can have. Within a topic, times never run back: a record that is older
// than one before it counts as recorded with it.
func (s side) earliest() int64 {
	if s.has {
		return max(s.last, s.next)
	}
	return max(s.last, s.upTo)
}

// merge is the order in which the records of both topics are worked on: by Kafka's time, an interaction as if it were
// recorded hold later, at the same time the decision first. It depends on the two logs alone, and not on how fast either
// is read; so whatever depends on the order of records gives the same in every run.
type merge struct {
	hold                    int64 // milliseconds
	decisions, interactions side
}

// which topic is to be read next.
type which int

const (
	neither which = iota // more has to be known of one of them
	fromDecisions
	fromInteractions
)

func (m *merge) next() which {
	d, i := m.decisions.earliest(), m.interactions.earliest()+m.hold
	switch {
	case m.decisions.has && d <= i:
		return fromDecisions
	case m.interactions.has && i < d:
		return fromInteractions
	}
	return neither
}

// take takes the next record and gives its place in the order, a time.
func (m *merge) take(w which) int64 {
	s, later := &m.decisions, int64(0)
	if w == fromInteractions {
		s, later = &m.interactions, m.hold
	}
	s.last, s.has = s.earliest(), false
	return s.last + later
}

// reached is the least place that a record still to come can have.
func (m *merge) reached() int64 {
	return min(m.decisions.earliest(), m.interactions.earliest()+m.hold)
}

// clock is the event time of a partition: no interaction that is older by more than the lateness counts. It is the
// latest timestamp seen, none taken for later than Kafka's time of its record; and it is never further behind Kafka's
// time than the lateness, so that a topic in which nothing happens does not hold back the other.
type clock struct {
	now, lateness, hold int64
}

// saw moves the clock to an interaction with this timestamp, recorded at that Kafka time.
func (c *clock) saw(at event.Time, recorded int64) { c.now = max(c.now, min(int64(at), recorded)) }

// reached moves the clock to a place in the order of the merge.
func (c *clock) reached(place int64) { c.now = max(c.now, place-c.hold-c.lateness) }
