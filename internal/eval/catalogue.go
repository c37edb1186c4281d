package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"
)

// Sizes that metrics over the whole catalogue are named after.
const (
	topList    = 10  // slots of a list that is shown
	popularOne = 100 // one in so many of the items with a positive is of the most popular, rounded up
)

var recallSizes = []int{20, 100, 500}

// RetrieveMost is how many items Catalogue looks at: set Config.Retrieve to it.
const RetrieveMost = 500

// CatalogueRow holds means over cases where the answer has to be found in the whole catalogue. The intervals are by
// resampling users, as everywhere.
type CatalogueRow struct {
	N      int        // cases
	Recall []Interval // share of cases whose answer the candidate stage has among its first 20, 100 and 500
	HR10   Interval   // share of cases whose answer the final ranking has among its first 10
	NDCG10 Interval
}

// CatalogueReport tells what rankings of the whole catalogue are worth.
type CatalogueReport struct {
	Name                      string
	All, ColdUsers, ColdItems CatalogueRow

	Items int // with at least one event before the last case
	// Coverage is the share of Items that stand in the top 10 of at least one case.
	Coverage float64
	// Popular is the share of the slots of all top 10s that hold one of the 1 % of items with the most positives before
	// the case. Where that border runs through items with equally many, each counts for its share of the places left.
	Popular float64
	// Touched is the share of these slots that hold an item which the user had touched before: it should be 0.
	Touched float64
}

// Catalogue measures what was retrieved for each case, best first: stage is the list of the candidate stage, ranked that
// of the final ranking; they may be the same. It goes through the stream once more, for what was popular and known at
// each case.
func Catalogue(ctx context.Context, events Stream, cases []Case, name string, stage, ranked [][]string, cfg Config, o Options) (*CatalogueReport, error) {
	if len(cases) == 0 {
		return nil, errors.New("measure the catalogue: there is no case")
	}
	for _, lists := range [][][]string{stage, ranked} {
		if len(lists) != len(cases) {
			return nil, fmt.Errorf("measure the catalogue: %d lists of %s for %d cases", len(lists), quote(name), len(cases))
		}
	}
	shown := make([][]string, len(cases))
	for i := range shown {
		shown[i] = ranked[i][:min(topList, len(ranked[i]))]
	}
	report := &CatalogueReport{Name: name}
	background := o.Background
	if background == nil {
		var err error
		if background, err = Survey(ctx, events, cases, cfg); err != nil {
			return nil, fmt.Errorf("measure the catalogue: %w", err)
		}
	}
	if err := report.slots(ctx, events, cases, shown, cfg); err != nil {
		return nil, fmt.Errorf("measure the catalogue: %w", err)
	}
	all := make([]int, len(cases))
	for i := range all {
		all[i] = i
	}
	places, stagePlaces := answerPlaces(cases, shown), answerPlaces(cases, stage)
	row := func(at []int) CatalogueRow {
		b := NewBootstrap(users(pick(cases, at)), o.Resamples, o.Seed)
		r := CatalogueRow{
			N:      len(at),
			HR10:   b.Mean(Hit(topList).Each(pick(places, at))),
			NDCG10: b.Mean(Gain(topList).Each(pick(places, at))),
		}
		for _, k := range recallSizes {
			r.Recall = append(r.Recall, b.Mean(Hit(k).Each(pick(stagePlaces, at))))
		}
		return r
	}
	report.All, report.ColdUsers, report.ColdItems = row(all), row(background.ColdUsers()), row(background.ColdItems())
	return report, nil
}

// answerPlaces gives the place of each case's answer in its list, from 1; infinite where it is not there.
func answerPlaces(cases []Case, lists [][]string) []float64 {
	places := make([]float64, len(cases))
	for i, list := range lists {
		places[i] = math.Inf(1)
		if at := slices.Index(list, cases[i].Positive); at >= 0 {
			places[i] = float64(at + 1)
		}
	}
	return places
}

// slots goes through the stream and measures whose items stand in the lists that are shown.
func (r *CatalogueReport) slots(ctx context.Context, events Stream, cases []Case, shown [][]string, cfg Config) error {
	positives := popularity{of: map[string]int{}, having: map[int]int{}}
	touched := map[string]map[string]bool{} // user of a case -> items
	for _, c := range cases {
		touched[c.User] = map[string]bool{}
	}
	seen, covered := map[string]bool{}, map[string]bool{}
	slots, popular, again := 0.0, 0.0, 0.0
	for s, err := range steps(events, cases, cfg) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for _, in := range s.events {
			seen[in.ItemID] = true
			if items, asked := touched[in.UserID]; asked {
				items[in.ItemID] = true
			}
			if IsPositive(in) {
				positives.add(in.ItemID)
			}
		}
		for _, i := range s.ask {
			border, share := positives.border()
			for _, id := range shown[i] {
				slots++
				covered[id] = true
				if touched[cases[i].User][id] {
					again++
				}
				switch n := positives.of[id]; {
				case border == 0: // nobody likes anything yet
				case n > border:
					popular++
				case n == border:
					popular += share
				}
			}
		}
	}
	maps.DeleteFunc(covered, func(id string, _ bool) bool { return !seen[id] })
	r.Items = len(seen)
	r.Coverage = float64(len(covered)) / float64(len(seen))
	r.Popular, r.Touched = popular/slots, again/slots
	return nil
}

// popularity counts the positives of items.
type popularity struct {
	of     map[string]int
	having map[int]int // a number of positives, larger than 0: how many items have it
}

func (p *popularity) add(id string) {
	n := p.of[id]
	p.of[id]++
	p.having[n+1]++
	if n == 0 {
		return
	}
	if p.having[n]--; p.having[n] == 0 {
		delete(p.having, n)
	}
}

// border gives the number of positives of the last of the most popular items, and the share of the items with exactly
// that many which still have a place among them; 0 where no item has a positive.
func (p *popularity) border() (positives int, share float64) {
	left := (len(p.of) + popularOne - 1) / popularOne
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(p.having))) {
		if p.having[n] >= left {
			return n, float64(left) / float64(p.having[n])
		}
		left -= p.having[n]
	}
	return 0, 0
}

// Figures gives the report for machines: recall20, recall100, recall500 and hr10 with _low and _high, ndcg10, coverage10,
// popular_share10 and touched_share10; recall, hr10 and ndcg10 again for cold users and cold items, with cold_users_ and
// cold_items_ before them. What cannot be known is left out.
func (r *CatalogueReport) Figures() []Figure {
	var figures []Figure
	add := func(metric string, value float64, unit string) {
		figures = append(figures, Figure{Metric: metric, Value: value, Unit: unit, Ranker: r.Name})
	}
	interval := func(metric string, i Interval) {
		add(metric, i.Mean, "share")
		add(metric+"_low", i.Low, "share")
		add(metric+"_high", i.High, "share")
	}
	for _, part := range []struct {
		prefix string
		row    CatalogueRow
	}{{"", r.All}, {"cold_users_", r.ColdUsers}, {"cold_items_", r.ColdItems}} {
		for i, k := range recallSizes {
			interval(fmt.Sprintf("%srecall%d", part.prefix, k), part.row.Recall[i])
		}
		interval(part.prefix+"hr10", part.row.HR10)
		add(part.prefix+"ndcg10", part.row.NDCG10.Mean, "mean")
	}
	add("coverage10", r.Coverage, "share")
	add("popular_share10", r.Popular, "share")
	add("touched_share10", r.Touched, "share")
	return known(figures)
}

// WriteTable writes the report for people.
func (r *CatalogueReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, from the whole catalogue of %d items\n", printable(r.Name, 40), r.Items)
	fmt.Fprint(t, "\tcases")
	for _, k := range recallSizes {
		fmt.Fprintf(t, "\trecall@%d\t95 %%", k)
	}
	fmt.Fprintln(t, "\tHR@10\t95 %\tNDCG@10")
	for _, part := range []struct {
		title string
		row   CatalogueRow
	}{{"all", r.All}, {"cold users", r.ColdUsers}, {"cold items", r.ColdItems}} {
		fmt.Fprintf(t, "%s\t%d", part.title, part.row.N)
		for _, recall := range append(slices.Clone(part.row.Recall), part.row.HR10) {
			fmt.Fprintf(t, "\t%s\t%s", share(recall.Mean), bounds(recall, share))
		}
		fmt.Fprintf(t, "\t%s\n", share(part.row.NDCG10.Mean))
	}
	fmt.Fprintf(t, "top 10: %s of the items are shown to somebody, %s of the slots hold the 1 %% most popular, %s hold what the user knows\n",
		share(r.Coverage), share(r.Popular), share(r.Touched))
	return t.Flush()
}
