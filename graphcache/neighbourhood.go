package graphcache

import (
	"context"

	"github.com/r2rec/r2rec/internal/event"
)

// Neighbourhood is a node with what lies around it, for people to look at.
type Neighbourhood struct {
	ID         string       `json:"id"`
	Title      string       `json:"title,omitempty"` // of an item that the catalogue knows
	Edges      int64        `json:"edges"`           // in its list
	Shown      []Shown      `json:"shown"`           // the newest of them, newest first
	LikeMinded []LikeMinded `json:"like_minded,omitempty"`
}

// Shown is one edge.
type Shown struct {
	ID     string     `json:"id"` // of the item, or of the user
	Title  string     `json:"title,omitempty"`
	Kind   string     `json:"kind"`
	At     event.Time `json:"at"`
	Degree int64      `json:"degree"` // length of the list at the other end
	// Also are those who stand at the other end, too: like-minded users who chose the item, or what else the user did.
	Also []Also `json:"also,omitempty"`
}

// Also is an edge at the other end of a shown one.
type Also struct {
	ID    string     `json:"id"`
	Title string     `json:"title,omitempty"`
	Kind  string     `json:"kind"`
	At    event.Time `json:"at"`
}

// LikeMinded is a user who chose the same, as a recommendation finds them.
type LikeMinded struct {
	ID     string `json:"id"`
	Shared int    `json:"shared"` // items that both chose, of those whose lists are read
}

// alsoShown is how many edges at the other end of each are shown.
const alsoShown = 3

// AroundUser shows a user's newest n edges, the like-minded users behind them, strongest first, and which of those chose
// each item, in at most four round trips.
func (c *Cache) AroundUser(ctx context.Context, user string, n int) (Neighbourhood, error) {
	w := &walk{Cache: c, q: Query{User: user, Chains: 1}}
	if err := w.readUser(ctx); err != nil {
		return Neighbourhood{}, err
	}
	if err := w.readItems(ctx); err != nil {
		return Neighbourhood{}, err
	}
	out := Neighbourhood{ID: user, Edges: int64(len(w.edges)), Shown: []Shown{}}
	place := map[string]int{}
	for i, m := range likeMinded(w.taste, c.opt.Read) {
		place[m.id] = i
		if len(out.LikeMinded) < n {
			out.LikeMinded = append(out.LikeMinded, LikeMinded{m.id, len(m.shared)})
		}
	}
	lists := map[string]node{}
	for _, r := range w.taste.roots {
		lists[r.ID] = r.list
	}
	shown := w.edges[:min(n, len(w.edges))]
	if err := w.addLists(ctx, lists, shown, c.itemKey); err != nil {
		return Neighbourhood{}, err
	}
	titles, err := c.Items(ctx, idsOf(shown))
	if err != nil {
		return Neighbourhood{}, err
	}
	for _, e := range shown {
		l := lists[e.ID]
		s := Shown{ID: e.ID, Title: titles[e.ID].Title, Kind: e.Kind.String(), At: e.At, Degree: l.degree}
		for _, o := range l.edges {
			if _, alike := place[o.ID]; alike && o.Kind.Positive() && len(s.Also) < alsoShown {
				s.Also = append(s.Also, Also{ID: o.ID, Kind: o.Kind.String(), At: o.At})
			}
		}
		out.Shown = append(out.Shown, s)
	}
	return out, nil
}

// AroundItem shows the newest n users in an item's list and what else they did last, in three round trips.
func (c *Cache) AroundItem(ctx context.Context, item string, n int) (Neighbourhood, error) {
	w := &walk{Cache: c, q: Query{User: item}}
	own := map[string]node{}
	if err := w.addLists(ctx, own, []Edge{{ID: item}}, c.itemKey); err != nil {
		return Neighbourhood{}, err
	}
	list := own[item]
	shown := list.edges[:min(n, len(list.edges))]
	lists := map[string]node{}
	if err := w.addLists(ctx, lists, shown, c.userKey); err != nil {
		return Neighbourhood{}, err
	}
	out := Neighbourhood{ID: item, Edges: list.degree, Shown: []Shown{}}
	wanted := []string{item}
	for _, e := range shown {
		s := Shown{ID: e.ID, Kind: e.Kind.String(), At: e.At, Degree: lists[e.ID].degree}
		for _, o := range lists[e.ID].edges {
			if o.ID != item && len(s.Also) < alsoShown {
				s.Also = append(s.Also, Also{ID: o.ID, Kind: o.Kind.String(), At: o.At})
				wanted = append(wanted, o.ID)
			}
		}
		out.Shown = append(out.Shown, s)
	}
	titles, err := c.Items(ctx, wanted)
	if err != nil {
		return Neighbourhood{}, err
	}
	out.Title = titles[item].Title
	for i := range out.Shown {
		for j := range out.Shown[i].Also {
			a := &out.Shown[i].Also[j]
			a.Title = titles[a.ID].Title
		}
	}
	return out, nil
}

// addLists reads those lists of nodes that are not there yet.
func (w *walk) addLists(ctx context.Context, lists map[string]node, of []Edge, key func(id string) string) error {
	reads := map[string]*listRead{}
	err := w.trip(ctx, "the lists of neighbours", func(b *batch) {
		for _, e := range of {
			if _, there := lists[e.ID]; !there {
				reads[e.ID] = b.list(ctx, key(e.ID), 0)
			}
		}
	})
	for id, r := range reads {
		lists[id] = r.node()
	}
	return err
}

func idsOf(edges []Edge) []string {
	ids := make([]string, len(edges))
	for i, e := range edges {
		ids[i] = e.ID
	}
	return ids
}
