package web

import (
	"hash/maphash"
	"slices"
	"strconv"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
)

// decisions keeps the newest decisions, found by id and by user. It is a bounded memory for the page and for `why`;
// the lasting record is the topic `decisions`.
type decisions struct {
	mu     sync.RWMutex
	ring   []event.Decision // ring[next] is the oldest once it is full
	next   int
	byID   map[string]int // index in ring
	byUser map[string]int // index of the user's newest

	seed      maphash.Seed
	forgotten map[uint64]event.Time // by a hash of the user: decisions older than this are not taken in
	order     []uint64              // its keys, oldest first
}

// forgottenUsers is how many of those who were forgotten last are remembered, by a hash: a decision can be on its way when
// its user is forgotten.
const forgottenUsers = 4096

func newDecisions(size int) *decisions {
	return &decisions{ring: make([]event.Decision, 0, size), byID: map[string]int{}, byUser: map[string]int{},
		seed: maphash.MakeSeed(), forgotten: map[uint64]event.Time{}}
}

func (r *decisions) add(d event.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Timestamp < r.forgotten[maphash.String(r.seed, d.UserID)] {
		return
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, d)
	} else {
		r.drop(r.next)
		r.ring[r.next] = d
	}
	if d.DecisionID != "" { // empty: it could not be logged
		r.byID[d.DecisionID] = r.next
	}
	r.byUser[d.UserID] = r.next
	r.next = (r.next + 1) % cap(r.ring)
}

// drop takes slot i out of both indexes, unless they point to a newer decision by now.
func (r *decisions) drop(i int) {
	old := r.ring[i]
	if r.byID[old.DecisionID] == i {
		delete(r.byID, old.DecisionID)
	}
	if r.byUser[old.UserID] == i {
		delete(r.byUser, old.UserID)
	}
	r.ring[i] = event.Decision{}
}

func (r *decisions) decision(id string) (event.Decision, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i, ok := r.byID[id]
	if !ok {
		return event.Decision{}, false
	}
	return r.ring[i], true
}

func (r *decisions) latest(user string) (event.Decision, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i, ok := r.byUser[user]
	if !ok {
		return event.Decision{}, false
	}
	return r.ring[i], true
}

// forget drops the user's decisions that are older than u.ForgetBefore, those that are still to come included.
func (r *decisions) forget(u event.User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := maphash.String(r.seed, u.UserID)
	if _, ok := r.forgotten[key]; !ok {
		if len(r.order) == forgottenUsers {
			delete(r.forgotten, r.order[0])
			r.order = r.order[1:]
		}
		r.order = append(r.order, key)
	}
	r.forgotten[key] = max(r.forgotten[key], u.ForgetBefore)
	for i, d := range r.ring {
		if d.UserID == u.UserID && d.Timestamp < u.ForgetBefore {
			r.drop(i)
		}
	}
}

// notForgotten leaves out what users did who are forgotten; the batch itself stays as it is.
func (r *decisions) notForgotten(batch []event.Interaction) []event.Interaction {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.forgotten) == 0 {
		return batch
	}
	stays := func(in event.Interaction) bool { return in.Timestamp >= r.forgotten[maphash.String(r.seed, in.UserID)] }
	for i, in := range batch {
		if stays(in) {
			continue
		}
		kept := slices.Clone(batch[:i])
		for _, in := range batch[i+1:] {
			if stays(in) {
				kept = append(kept, in)
			}
		}
		return kept
	}
	return batch
}

// redact replaces the ids of other users by numbers: those that the document rec uses for them, where it cites them,
// and further ones for the rest. The decision that was logged to Kafka keeps the ids.
func redact(rec event.Recommendation, d event.Decision) event.Decision {
	numbers, last := citedNeighbours(rec, d)
	chains := make([]event.Chain, len(d.Context.Chains))
	for i, c := range d.Context.Chains {
		n, ok := numbers[c.Neighbour]
		if !ok {
			last++
			n = last
			numbers[c.Neighbour] = n
		}
		c.Neighbour = strconv.Itoa(n)
		chains[i] = c
	}
	d.Context.Chains = chains
	return d
}

// citedNeighbours maps the id of a like-minded user to its number in rec, and returns the largest number there. The
// n-th reason of an item in rec is the n-th step for that item in the thought, and so are their chains.
func citedNeighbours(rec event.Recommendation, d event.Decision) (map[string]int, int) {
	steps := map[string][]event.Step{}
	for _, s := range d.Thought.Steps {
		steps[s.ItemID] = append(steps[s.ItemID], s)
	}
	numbers, last := map[string]int{}, 0
	for _, item := range rec.Items {
		for i, reason := range item.Reasons {
			for j, shown := range reason.Chains {
				last = max(last, shown.Neighbour)
				if i >= len(steps[item.ItemID]) || j >= len(steps[item.ItemID][i].Chains) {
					continue
				}
				cited := steps[item.ItemID][i].Chains[j] - 1
				if cited < 0 || cited >= len(d.Context.Chains) {
					continue
				}
				if c := d.Context.Chains[cited]; c.Via == shown.Via {
					numbers[c.Neighbour] = shown.Neighbour
				}
			}
		}
	}
	return numbers, last
}
