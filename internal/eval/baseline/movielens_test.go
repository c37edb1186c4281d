package baseline_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/eval/baseline"
	"github.com/r2rec/r2rec/internal/event"
)

// What is known of the rankers holds on real data.
func TestOrderOnMovieLens(t *testing.T) {
	data, err := dataset.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	cases := draw(t, data, 400)
	var rankers []eval.Named
	for _, name := range baseline.Names {
		rankers = append(rankers, eval.Named{Name: name, Ranker: ranker(t, name, baseline.Options{Seed: 1})})
	}
	results, err := eval.Run(t.Context(), data.Interactions(), cases, rankers, eval.Config{})
	if err != nil {
		t.Fatal(err)
	}
	hits := map[string]float64{} // HR@1
	for _, r := range results {
		for _, rank := range r.Ranks {
			if rank <= 1 {
				hits[r.Name] += 1 / float64(len(cases))
			}
		}
		t.Logf("%-10s %.3f", r.Name, hits[r.Name])
	}
	for _, pair := range [][2]string{
		{"popularity", "random"}, {"recent", "popularity"}, {"itemknn", "popularity"}, {"chain", "itemknn"}, {"usercf", "popularity"},
	} {
		if better, worse := hits[pair[0]], hits[pair[1]]; better < worse+.02 {
			t.Errorf("HR@1 is %.3f for %s and %.3f for %s: want it higher by .02 at least", better, pair[0], worse, pair[1])
		}
	}
	if h := hits["random"]; h < .02 || h > .09 {
		t.Errorf("HR@1 of random is %.3f: one in twenty is chance", h)
	}
}

// draw makes cases out of late likes of users with five likes before, each with 19 films from those known by then that
// the user never rates.
func draw(t *testing.T, data *dataset.Dataset, n int) []eval.Case {
	var likes []event.Interaction
	touched := map[[2]string]bool{}
	var films []string // in the order of their first rating
	known := map[string]bool{}
	filmsAt := map[event.Time]int{} // how many films were rated before that time
	for in, err := range data.Interactions() {
		if err != nil {
			t.Fatal(err)
		}
		touched[[2]string{in.UserID, in.ItemID}] = true
		if _, seen := filmsAt[in.Timestamp]; !seen {
			filmsAt[in.Timestamp] = len(films)
		}
		if !known[in.ItemID] {
			known[in.ItemID] = true
			films = append(films, in.ItemID)
		}
		if eval.IsPositive(in) {
			likes = append(likes, in)
		}
	}
	rng := rand.New(rand.NewPCG(20261123, 0))
	var late []event.Interaction
	before := map[string]int{}
	for i, in := range likes {
		if i >= len(likes)*9/10 && before[in.UserID] >= 5 && slices.Contains(films[:filmsAt[in.Timestamp]], in.ItemID) {
			late = append(late, in)
		}
		before[in.UserID]++
	}
	rng.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
	if len(late) < n {
		t.Fatalf("there are %d late likes: cannot draw %d cases", len(late), n)
	}
	var cases []eval.Case
	for i, in := range late[:n] {
		candidates := []string{in.ItemID}
		for len(candidates) < 20 {
			film := films[rng.IntN(filmsAt[in.Timestamp])]
			if !touched[[2]string{in.UserID, film}] && !slices.Contains(candidates, film) {
				candidates = append(candidates, film)
			}
		}
		cases = append(cases, eval.Case{
			ID: fmt.Sprintf("case-%d", i), User: in.UserID, At: in.Timestamp, Candidates: candidates, Positive: in.ItemID,
		})
	}
	return cases
}
