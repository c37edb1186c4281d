package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// barWidth is how many cells a share of 1 takes in the terminal.
const barWidth = 20

// printRecommendation shows a list and its reasoning. Titles come from outside: Clean keeps them from moving the cursor.
func printRecommendation(w io.Writer, rec event.Recommendation, d event.Decision) error {
	var b strings.Builder
	who := "by the graph"
	if rec.Source == event.Reasoned {
		who = "by " + iot.Clean(rec.Model) + " over the graph's evidence"
	}
	fmt.Fprintf(&b, "Recommended for user %s, ranked %s (%s)\n", iot.Clean(rec.UserID), who, rec.Source)
	if rec.Note != "" {
		fmt.Fprintf(&b, "Note: %s\n", rec.Note)
	}
	if h := d.Context.History; len(h) > 0 {
		var titles []string
		for _, it := range h[:min(5, len(h))] {
			titles = append(titles, iot.Clean(it.Title))
		}
		fmt.Fprintf(&b, "Liked lately: %s\n", strings.Join(titles, ", "))
	}
	top := 0.0
	for _, it := range rec.Items {
		top = max(top, it.Score)
	}
	for _, it := range rec.Items {
		cells := 0
		if top > 0 {
			cells = int(it.Score/top*barWidth + 0.5)
		}
		fmt.Fprintf(&b, "\n%2d. %s\n    %s%s %4.1f %%  %s\n", it.Position, iot.Clean(it.Title),
			strings.Repeat("█", cells), strings.Repeat("░", barWidth-cells), 100*it.Score, iot.Clean(strings.Join(it.Categories, ", ")))
		for _, r := range it.Reasons {
			fmt.Fprintf(&b, "    - %s\n", iot.Clean(r.Text))
			for _, ch := range r.Chains {
				fmt.Fprintf(&b, "        you > %s > like-minded user %d > this\n", iot.Clean(ch.ViaTitle), ch.Neighbour)
			}
		}
	}
	if rec.DecisionID != "" {
		fmt.Fprintf(&b, "\nDecision %s (send it back with clicks)\n", rec.DecisionID)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
