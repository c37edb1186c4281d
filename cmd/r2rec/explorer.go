package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
)

// explorer shows the page what the graph holds.
type explorer struct {
	*graphcache.Generations
	active activity
	counts func(ctx context.Context) (graphcache.Stats, error) // of the graph; takes as long as reading every list's length
	asked  chan struct{}                                       // holds one token when somebody wants counts

	mu    sync.Mutex
	stats web.Stats
	err   error
}

var errNotCounted = errors.New("the graph was not counted yet")

func newExplorer(graph *graphcache.Generations) *explorer {
	return &explorer{Generations: graph, counts: graph.Stats, asked: make(chan struct{}, 1), err: errNotCounted}
}

// Stats answers with the last counts, and has the graph counted anew.
func (e *explorer) Stats(context.Context) (web.Stats, error) {
	select {
	case e.asked <- struct{}{}:
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats, e.err
}

// run counts the graph where somebody asked since, until ctx ends. After each count it rests for two seconds, or twenty times
// what that took.
func (e *explorer) run(ctx context.Context) {
	for {
		select {
		case <-e.asked:
		case <-ctx.Done():
			return
		}
		begun := time.Now()
		s, err := e.counts(ctx)
		e.mu.Lock()
		e.stats, e.err = web.Stats{Users: s.Users, Items: s.Items, Edges: s.UserEdges}, err
		e.mu.Unlock()
		rest := 2 * time.Second
		if err == nil {
			rest = max(rest, 20*time.Since(begun))
		}
		if !waitFor(ctx, rest) {
			return
		}
	}
}

func (e *explorer) Titles(ctx context.Context, ids []string) (map[string]string, error) {
	items, err := e.Items(ctx, ids)
	titles := make(map[string]string, len(items))
	for id, it := range items {
		titles[id] = it.Title
	}
	return titles, err
}

func (e *explorer) Traces(ctx context.Context, user string) (web.Traces, error) {
	t, err := e.Generations.Traces(ctx, user)
	return web.Traces{ForgetBefore: t.Before, Newest: t.Newest, Edges: t.Edges + t.Settled, Later: t.Later, Lists: t.Lists, Documents: t.Documents, Pending: t.Joins}, err
}

func (e *explorer) ActiveUsers(n int) []web.ActiveUser { return e.active.latest(n) }

// activity remembers who did something lately.
type activity struct {
	mu    sync.Mutex
	users map[string]*web.ActiveUser
}

const (
	rememberedUsers = 500
	worthLookingAt  = 5 // events; below that there is little to recommend from
)

func (a *activity) saw(batch []event.Interaction) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil {
		a.users = map[string]*web.ActiveUser{}
	}
	for _, in := range batch {
		if in.Type == event.Impression || in.Type == event.View { // of which the graph keeps nothing
			continue
		}
		u := a.users[in.UserID]
		if u == nil {
			u = &web.ActiveUser{UserID: in.UserID}
			a.users[in.UserID] = u
		}
		u.Events++
		u.LastAt = max(u.LastAt, in.Timestamp)
	}
	if len(a.users) > 2*rememberedUsers {
		for _, u := range a.byTime()[rememberedUsers:] {
			delete(a.users, u.UserID)
		}
	}
}

// forget drops a user who did nothing since.
func (a *activity) forget(u event.User) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.users[u.UserID]; known != nil && known.LastAt < u.ForgetBefore {
		delete(a.users, u.UserID)
	}
}

func (a *activity) byTime() []*web.ActiveUser {
	us := make([]*web.ActiveUser, 0, len(a.users))
	for _, u := range a.users {
		us = append(us, u)
	}
	slices.SortFunc(us, func(x, y *web.ActiveUser) int {
		return cmp.Or(cmp.Compare(y.LastAt, x.LastAt), cmp.Compare(x.UserID, y.UserID))
	})
	return us
}

// latest n users with something to go by, the latest first.
func (a *activity) latest(n int) []web.ActiveUser {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []web.ActiveUser
	for _, u := range a.byTime() {
		if u.Events >= worthLookingAt && len(out) < n {
			out = append(out, *u)
		}
	}
	return out
}
