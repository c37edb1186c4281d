package graphcache

import "sync"

// roomFor is how many elements are allocated at a time, 32 or 64 KiB.
const roomFor = 2048

// pools keep, between walks, what lists are read into.
type pools struct{ edges, contacts sync.Pool }

// space is what the lists of one walk are read into, used again by later walks: a quarter of the memory that a snapshot
// allocates. A nil *space gives new memory, which nobody takes back.
type space struct {
	edges    rooms[Edge]
	contacts rooms[contact]
}

func (p *pools) space() *space {
	return &space{edges: rooms[Edge]{of: &p.edges}, contacts: rooms[contact]{of: &p.contacts}}
}

// release ends the life of every list that was read into the space.
func (s *space) release() {
	s.edges.release()
	s.contacts.release()
}

// edgeRoom cuts n edges off what was allocated for many lists.
func (t *taker) edgeRoom(n int) []Edge {
	if t.space == nil {
		return cut(&t.edges, nil, n)
	}
	return cut(&t.edges, &t.space.edges, n)
}

// contactRoom is edgeRoom for contacts.
func (t *taker) contactRoom(n int) []contact {
	if t.space == nil {
		return cut(&t.contacts, nil, n)
	}
	return cut(&t.contacts, &t.space.contacts, n)
}

func cut[T any](left *[]T, from *rooms[T], n int) []T {
	if len(*left) < n {
		*left = from.take(n)
	}
	part := (*left)[:n:n]
	*left = (*left)[n:]
	return part
}

// rooms are the part of a space for lists of one kind.
type rooms[T any] struct {
	of    *sync.Pool // of *[]T with roomFor elements
	mu    sync.Mutex
	taken []*[]T
}

// take gives room for n elements and more. What stands in it is to be written over.
func (r *rooms[T]) take(n int) []T {
	if r == nil || n > roomFor {
		return make([]T, max(n, roomFor))
	}
	room, ok := r.of.Get().(*[]T)
	if !ok {
		fresh := make([]T, roomFor)
		room = &fresh
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, room)
	return *room
}

func (r *rooms[T]) release() {
	for _, room := range r.taken {
		r.of.Put(room)
	}
	r.taken = nil
}
