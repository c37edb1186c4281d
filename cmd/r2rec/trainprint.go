package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/rltrainer"
)

// printRound shows how a round went, and where the whole of it stands.
func printRound(w io.Writer, dir string, r *rltrainer.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	if r.Began != 0 {
		row("round", "look %d since a promotion last held for all users, beginning with %s", r.Round, adapters.Name(r.Parent))
		row("read", "%d decisions, %d rewards%s", r.Read.Decisions, r.Read.Rewards, some(", %d broken records", r.Read.Refused))
		row("to learn from", "%d decisions of %d users; %d newer ones for the gate", r.Training, r.Users, r.Held)
		if len(r.Dropped) > 0 {
			var parts []string
			for _, why := range slices.SortedFunc(maps.Keys(r.Dropped), func(a, b rltrainer.Reason) int {
				return cmp.Or(cmp.Compare(r.Dropped[b], r.Dropped[a]), cmp.Compare(a, b))
			}) {
				parts = append(parts, fmt.Sprintf("%d %s", r.Dropped[why], why))
			}
			row("left out", "%s", strings.Join(parts, ", "))
		}
	}
	if len(r.Policy) > 0 {
		first, last := r.Smoothed()
		row("click model", "squared error %.4f, of the mean alone %.4f", r.Clicks.Error, r.Clicks.Constant)
		if r.Fitted.Steps > 0 {
			row("fitted", "%d steps on %d choices, cross-entropy %.3f to %.3f", r.Fitted.Steps, r.Fitted.Choices, r.Fitted.First, r.Fitted.Last)
		}
		row("policy", "%d steps, reward %.4f to %.4f, KL %.4f, entropy %.3f to %.3f, gradient %.3g%s", len(r.Policy), first.Reward, last.Reward, last.KL, first.Entropy, last.Entropy,
			last.Gradient, some(", %d steps skipped", r.Skipped))
	}
	if n := len(r.Thoughts); n > 0 {
		first, last := r.SmoothedThoughts()
		row("click model", "squared error %.4f, of the mean alone %.4f", r.Clicks.Error, r.Clicks.Constant)
		row("thoughts", "%d steps, reward %.4f to %.4f, of answers %.4f to %.4f, KL %.4f a token, gradient %.3g%s", n, first.Reward, last.Reward, first.Worth, last.Worth, last.KL, last.Gradient,
			some(", %d steps skipped", r.Skipped))
		row("", "answered %.0f %% to %.0f %%, lines grounded %.0f %% to %.0f %%, %.0f tokens a reply", 100*first.Answered, 100*last.Answered, 100*first.Grounded, 100*last.Grounded, last.Tokens)
	}
	if g := r.Gate; g != nil {
		row("gate", "%d decisions of %d users, needed %d; effective sample %.0f %%, %.1f %% clipped, alpha %.4f", g.Decisions, g.Users, g.Needed, 100*g.Effective/float64(g.Decisions), 100*g.Clipped, g.Alpha)
		row("", "SNIPS %s, DR %s; both lower bounds have to be above %g", bounds(g.SNIPS), bounds(g.DR), g.Margin)
	}
	if c := r.Change; c != nil {
		row("slot 1", "another item is likeliest in %.1f %% of these decisions, entropy %.3f to %.3f nats", 100*c.Reordered, c.EntropyBefore, c.EntropyAfter)
	}
	verdict := string(r.Verdict)
	if r.Adapter != "" {
		verdict += ": " + adapters.Name(r.Adapter)
	}
	row("verdict", "%s", verdict)
	row("why", "%s", r.Reason)
	if r.Began != 0 {
		row("report", "%s.json, .svg", rltrainer.ReportPath(dir, r))
	}
	return t.Flush()
}

// some says it only where there is something.
func some(format string, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}
