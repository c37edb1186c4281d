package graphcache

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/r2rec/r2rec/internal/event"
)

// rated is a user's rating of an item.
func rated(user, item string, value float64, at event.Time) event.Interaction {
	return event.Interaction{UserID: user, ItemID: item, Type: event.Rating, Value: &value, Timestamp: at}
}

// TestALaterRatingTakesALikeBack: what was rated 5 and later 3 is liked no more, in whatever order the two arrive.
func TestALaterRatingTakesALikeBack(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		five, three := rated("", "a", 5, noon), rated("", "a", 3, noon+1)
		bought, disliked := event.Interaction{ItemID: "a", Type: event.Purchase, Timestamp: noon + 1}, rated("", "a", 2, noon+1)
		cart := event.Interaction{ItemID: "a", Type: event.Cart, Timestamp: noon + 1}
		for i, tc := range []struct {
			log  []event.Interaction
			kind string
		}{
			{[]event.Interaction{five, three}, "seen"},
			{[]event.Interaction{rated("", "a", 3, noon-1), five}, "rating"},
			{[]event.Interaction{three, rated("", "a", 5, noon+1)}, "seen"}, // in the same millisecond
			{[]event.Interaction{three, cart}, "seen"},
			{[]event.Interaction{three, bought}, "purchase"},
			{[]event.Interaction{three, disliked}, "dislike"},
		} {
			likes := 0
			if tc.kind == "rating" || tc.kind == "purchase" {
				likes = 1
			}
			for way, batches := range [][][]event.Interaction{
				{tc.log}, {{tc.log[1], tc.log[0]}}, {tc.log[:1], tc.log[1:]}, {tc.log[1:], tc.log[:1], tc.log[1:]},
			} {
				user := fmt.Sprint("u", i, "-", way)
				for _, batch := range batches {
					batch = slices.Clone(batch)
					for j := range batch {
						batch[j].UserID = user
					}
					f.interactions(batch...)
				}
				s, err := c.Snapshot(t.Context(), Query{User: user, History: 9})
				f.must(err)
				around, err := c.AroundUser(t.Context(), user, 9)
				f.must(err)
				if s.Context.Likes != likes || len(s.Context.History) != likes || around.Edges != 1 || around.Shown[0].Kind != tc.kind {
					t.Errorf("%d, arriving by way %d: %d likes, history %+v, %d edges %+v; want %d likes and one edge, %s",
						i, way, s.Context.Likes, s.Context.History, around.Edges, around.Shown, likes, tc.kind)
				}
			}
		}
	})
}

// TestWhatWasSeenIsNotOffered: not by chains, not as a trend, not by exploration, and not as a like of others.
func TestWhatWasSeenIsNotOffered(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "new", "seen", "known")...)
		f.interactions(append(likes("u", "a", "b"), rated("u", "seen", 3, noon))...)
		for i := range 5 {
			v := fmt.Sprint("v", i)
			f.interactions(likes(v, "a", "b", "seen", "new")...)
			f.interactions(rated(v, "known", 3, noon)) // which nobody chose
		}
		f.must(c.RefreshTrends(t.Context()))
		if trends := slices.Sorted(slices.Values(c.currentTrends().recent)); !slices.Equal(trends, []string{"a", "b", "new", "seen"}) {
			t.Errorf("chosen lately are %v, want what anybody chose, and not what was only seen", trends)
		}
		s := snapshotOf(t, c, "u")
		if got := candidateIDs(s); !slices.Equal(got, []string{"new"}) {
			t.Errorf("candidates are %v, want new alone: u has dealt with all others that somebody chose", got)
		}
		for _, ch := range s.Context.Chains {
			if ch.ItemID != "new" {
				t.Errorf("chain %+v leads to what was seen", ch)
			}
		}
		f.interactions(rated("u", "new", 3.5, noon-1_000*day)) // long before all else, and yet
		if got := candidateIDs(snapshotOf(t, c, "u")); len(got) != 0 {
			t.Errorf("candidates are %v, want none: all were seen", got)
		}
	})
}

// TestChainsLeadOverNoSeenEdge: none starts from an item that the user has only seen, goes by a neighbour who has only
// seen what the user likes, or ends in what the neighbour has only seen.
func TestChainsLeadOverNoSeenEdge(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("a", "b", "s", "start", "middle", "end", "good")...)
		f.interactions(append(likes("u", "a", "b"), rated("u", "s", 3, noon))...)
		f.interactions(likes("starts", "a", "s", "start")...)                                    // shares one like, and what u has seen
		f.interactions(append(likes("meets", "a", "middle"), rated("meets", "b", 3, noon+1))...) // shares one like, and has seen the other
		f.interactions(append(likes("like-minded", "a", "b", "s", "good"), rated("like-minded", "end", 3, noon+9))...)
		s := snapshotOf(t, c, "u")
		if got := candidateIDs(s); !slices.Equal(got, []string{"good"}) {
			t.Errorf("candidates are %v, want good alone", got)
		}
		var chains []string
		for _, ch := range s.Context.Chains {
			chains = append(chains, fmt.Sprintf("%s>%s>%s shared %d", ch.Via, ch.Neighbour, ch.ItemID, ch.Shared))
		}
		slices.Sort(chains)
		if want := []string{"a>like-minded>good shared 2", "b>like-minded>good shared 2"}; !slices.Equal(chains, want) {
			t.Errorf("chains are %v, want %v", chains, want)
		}

		f.interactions(append(likes("u", "c"), rated("like-minded", "c", 3, noon))...)
		around, err := c.AroundUser(t.Context(), "u", 9)
		f.must(err)
		for _, shown := range around.Shown {
			if shown.ID == "c" && (shown.Kind != "like" || len(shown.Also) > 0) {
				t.Errorf("c is shown as %+v, want nobody who chose it, too: the like-minded user has only seen it", shown)
			}
		}
		if d := cmp.Diff([]LikeMinded{{"like-minded", 2}}, around.LikeMinded); d != "" {
			t.Errorf("like-minded (-want +got):\n%s", d)
		}
		f.interactions(rated("like-minded", "b", 3, noon+9)) // now the others share as much
		around, err = c.AroundUser(t.Context(), "u", 9)
		f.must(err)
		if len(around.LikeMinded) != 0 {
			t.Errorf("like-minded are %+v, want nobody: one like in common is not enough", around.LikeMinded)
		}
	})
}

// TestSeenIsEvidenceOfAnyKindOnly: ratings in the place of the small world's dislikes are worth what those are, in what
// counts edges of every kind, and nothing where choices are counted.
func TestSeenIsEvidenceOfAnyKindOnly(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(smallCatalogue()...)
		var liked, others []event.Interaction
		for _, in := range smallWorld() {
			if in.Type == event.Dislike {
				others = append(others, rated(in.UserID, in.ItemID, 3, in.Timestamp))
			} else {
				liked = append(liked, in)
			}
		}
		ask := func() (event.Context, event.Evidence) {
			s, err := c.Snapshot(t.Context(), Query{User: "u", Items: []string{"x"}, Chains: 5, History: 9, At: noon + 11*day})
			f.must(err)
			return s.Context, s.Context.Candidates[0].Evidence
		}
		f.interactions(liked...)
		_, before := ask()
		f.interactions(others...)
		all, after := ask()
		if d := cmp.Diff(handmade(), after, cmpopts.EquateApprox(1e-12, 0)); d != "" {
			t.Errorf("evidence of x (-by hand +got):\n%s", d)
		}
		if all.Likes != 2 || len(all.History) != 2 || all.Idle != 86400 {
			t.Errorf("%d likes, history %+v, idle %v; want two and a day", all.Likes, all.History, all.Idle)
		}
		if !(after.SimilarAny > before.SimilarAny && after.After[2] > before.After[2] && after.Popularity == before.Popularity+1) {
			t.Errorf("who has seen things says nothing: before %+v, after %+v", before, after)
		}
	})
}

// TestTrendsCountChoices: what many have only seen is no trend.
func TestTrendsCountChoices(t *testing.T) {
	open(t, func(t *testing.T, c *Cache) {
		f := &feed{T: t, c: c}
		f.items(catalogue("hot", "seen")...)
		f.interactions(append(likes("u1", "hot", "seen"), likes("u2", "hot")...)...)
		for i := range 5 {
			f.interactions(rated(fmt.Sprint("v", i), "seen", 3, noon))
		}
		f.must(c.RefreshTrends(t.Context()))
		if top := c.currentTrends().top; !slices.Equal(top, []string{"hot", "seen"}) {
			t.Errorf("trends are %v, want hot, which two chose, before seen, which one did", top)
		}
	})
}

// TestALikedLengthCountsChoices: of a list's edges those that were only seen are in its whole length alone.
func TestALikedLengthCountsChoices(t *testing.T) {
	list := node{edges: []Edge{{ID: "a", Kind: Like}, {ID: "b", Kind: Seen}, {ID: "c", Kind: Cart}, {ID: "d", Kind: Hide}}, degree: 8}
	var strangers index
	audience := strangers.audience(list)
	for what, lengths := range map[string]func() (liked, all float64){"read by id": list.lengths, "read by number": audience.lengths} {
		if liked, all := lengths(); liked != 4 || all != 8 {
			t.Errorf("%s: lengths are %v and %v, want 4, as half of what was read, and 8", what, liked, all)
		}
	}
}
