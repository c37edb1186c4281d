package reasoner

import (
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// document is what apps show of a decision.
func document(d event.Decision, snap GraphSnapshot) event.Recommendation {
	rec := event.Recommendation{
		Version: event.RecommendationVersion, UserID: d.UserID, DecisionID: d.DecisionID, GeneratedAt: d.Timestamp,
		Source: d.Source, Note: note(d, snap), Items: make([]event.RecommendedItem, len(d.Slate)),
	}
	if d.Model != nil {
		rec.Model, rec.Adapter = d.Model.Name, d.Model.Adapter
	}
	if m := d.Thought.Masking; m != nil && m.Measured > 0 {
		rec.MeasuredBy = m.By
	}
	known := make(map[string]event.Candidate, len(d.Context.Candidates))
	for _, c := range d.Context.Candidates {
		known[c.ItemID] = c
	}
	reasons, final := iot.Reasons(d.Context, d.Thought, d.Slate), finalScores(d)
	for i, s := range d.Slate {
		c := known[s.ItemID]
		rec.Items[i] = event.RecommendedItem{Position: s.Position, ItemID: c.ItemID, Title: c.Title, Categories: c.Categories,
			Score: final[c.ItemID], Reasons: reasons[i]}
	}
	return rec
}

// empty is the document where there is nothing to show.
func (r *Reasoner) empty(d event.Decision, snap GraphSnapshot) event.Recommendation {
	why := "the graph holds no item to recommend yet: publish interactions and items"
	if snap.NoEntry > 0 {
		why = fmt.Sprintf("%d candidates have no catalogue entry: publish their items", snap.NoEntry)
	}
	return event.Recommendation{Version: event.RecommendationVersion, UserID: d.UserID, GeneratedAt: d.Timestamp,
		Source: event.Graph, Note: why, Items: []event.RecommendedItem{}}
}

// note says in words what a reader of the list should know.
func note(d event.Decision, snap GraphSnapshot) string {
	switch {
	case snap.Context.Likes == 0:
		return "nothing is known about this user yet: what is popular at the moment"
	case d.Fallback != "" && d.Fallback != FallbackControl:
		return "ranked by the graph: " + d.Fallback
	}
	return ""
}

// finalScores is each candidate's share of the ranking, by item.
func finalScores(d event.Decision) map[string]float64 {
	m := make(map[string]float64, len(d.Scores))
	for i, s := range d.Scores {
		m[d.Context.Candidates[i].ItemID] = math.Exp(s.Final)
	}
	return m
}
