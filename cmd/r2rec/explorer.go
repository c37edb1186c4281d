package main

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/web"
)

// explorer shows the page what the graph holds. Counting reads every list's length, so a count is kept for as long as
// twenty times what it took, and at least two seconds.
type explorer struct {
	*graphcache.Generations
	active activity

	mu    sync.Mutex
	stats web.Stats
	until time.Time
}

func (e *explorer) Stats(ctx context.Context) (web.Stats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	begun := time.Now()
	if begun.Before(e.until) {
		return e.stats, nil
	}
	s, err := e.Generations.Stats(ctx)
	if err != nil {
		return web.Stats{}, err
	}
	e.stats = web.Stats{Users: s.Users, Items: s.Items, Edges: s.UserEdges}
	e.until = time.Now().Add(max(2*time.Second, 20*time.Since(begun)))
	return e.stats, nil
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
