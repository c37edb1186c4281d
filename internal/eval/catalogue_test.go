package eval

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/r2rec/r2rec/internal/event"
)

func TestSurveyCountsEarlierPositives(t *testing.T) {
	events := []event.Interaction{}
	for i := range 12 {
		events = append(events, click(i, "u", fmt.Sprint("i", i)))
	}
	events = append(events,
		rated(click(20, "u", "hit"), 5), rated(click(20, "v", "hit"), 3), // the second is no positive
		rated(click(21, "w", "hit"), 4),
	)
	cases := []Case{
		ask("late", "u", 21, "hit", "x"), ask("nobody", "stranger", 30, "new", "x"), ask("tenth", "u", 10, "hit", "x"), ask("ninth", "u", 9, "i3", "x"),
	}
	got, err := Survey(t.Context(), stream(events...), cases, Config{Batch: 5})
	want := &Background{UserPositives: []int{13, 0, 10, 9}, ItemPositives: []int{1, 0, 0, 1}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff([]int{1, 3}, got.ColdUsers()); diff != "" {
		t.Errorf("cold users (-want +got):\n%s", diff)
	}
	got.ItemPositives[2] = ColdItem
	if diff := cmp.Diff([]int{0, 1, 3}, got.ColdItems()); diff != "" {
		t.Errorf("cold items (-want +got):\n%s", diff)
	}
}

// numbered gives n item ids, from prefix0.
func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(prefix, i)
	}
	return ids
}

func TestCatalogueByHand(t *testing.T) {
	// 200 items: two are the 1 %. Before the first case i0 has two positives, and i1 and i2 share the second place among
	// the others with one more; then i1 gets ahead of i2.
	var events []event.Interaction
	for i, id := range numbered("i", 200) {
		events = append(events, click(i, "crowd", id))
	}
	events = append(events, click(300, "u", "i0"), click(301, "v", "i1"), click(302, "v", "i2"), click(303, "w", "i0"),
		rated(click(304, "w", "i7"), 1), rated(click(305, "v", "i7"), 1), rated(click(306, "x", "i7"), 1), // known, and not liked
		click(310, "u", "i1"), click(320, "u", "after the last case"))
	cases := []Case{
		ask("x", "u", 310, "p", "n"), // not before its own time: i1 and i2 are still even, and u does not know i1
		ask("y", "v", 311, "p", "n"),
		ask("z", "w", 311, "p", "n"),
	}
	// The answer stands at places 20, 101 and 500 of the stage, and at 3 and 10 of the ranking, or not at all.
	answerAt := func(place, n int) []string {
		list := numbered("unheard of ", n)
		list[place-1] = "p"
		return list
	}
	stage := [][]string{answerAt(20, 500), answerAt(101, 500), answerAt(500, 500)}
	ranked := [][]string{
		{"i0", "i1", "p"}, // popular: 1 + 1/2 of 3; u knows i0
		{"i1", "i2", "i7", "i9", "i10", "i11", "i12", "i13", "i14", "p", "i0"}, // popular: 1 of 10; v knows i1, i2, i7; i0 is not shown
		{"i0", "i9"}, // popular: 1 of 2; w knows i0
	}
	got, err := Catalogue(t.Context(), stream(events...), cases, "m", stage, ranked, Config{}, Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range got.Figures() {
		if _, twice := figures[f.Metric]; twice || f.Ranker != "m" {
			t.Errorf("figure %+v", f)
		}
		figures[f.Metric] = f.Value
	}
	// Items that nobody had before the last case, such as p, are not of the catalogue: i0 i1 i2 i7 i9 to i14 are shown.
	for metric, want := range map[string]float64{
		"recall20": 1.0 / 3, "recall100": 1.0 / 3, "recall500": 1, "hr10": 2.0 / 3, "ndcg10": (0.5 + 1/math.Log2(11)) / 3,
		"coverage10": 10.0 / 200, "popular_share10": 3.5 / 15, "touched_share10": 5.0 / 15,
		"cold_users_recall20": 1.0 / 3, "cold_items_recall20": 1.0 / 3, "cold_users_hr10": 2.0 / 3, "cold_items_ndcg10": (0.5 + 1/math.Log2(11)) / 3,
		"recall20_low": 0, "recall20_high": 1, "recall500_low": 1, "hr10_low": 0, "hr10_high": 1,
	} {
		if value, ok := figures[metric]; !ok || !near(value, want) {
			t.Errorf("%s is %v, want %v", metric, value, want)
		}
	}
	if got.Items != 200 {
		t.Errorf("%d items", got.Items)
	}
	var out bytes.Buffer
	if err := got.WriteTable(&out); err != nil || !strings.Contains(out.String(), "m, from the whole catalogue of 200 items") ||
		strings.Count(out.String(), "\n") != 6 {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestCatalogueTellsTheColdApart(t *testing.T) {
	cases := []Case{ask("x", "u", 1, "a", "b"), ask("y", "v", 1, "b", "a"), ask("z", "u", 1, "b", "a")}
	lists := [][]string{{"a"}, {"a"}, {}}
	background := &Background{UserPositives: []int{0, 50, 0}, ItemPositives: []int{50, 50, 0}}
	got, err := Catalogue(t.Context(), stream(click(0, "u", "a")), cases, "m", lists, lists, Config{}, Options{Background: background})
	if err != nil {
		t.Fatal(err)
	}
	if got.All.N != 3 || got.ColdUsers.N != 2 || got.ColdItems.N != 1 {
		t.Errorf("%d cases, %d of cold users, %d of cold items", got.All.N, got.ColdUsers.N, got.ColdItems.N)
	}
	if got.ColdUsers.HR10.Mean != 0.5 || got.ColdItems.HR10.Mean != 0 || !near(got.All.HR10.Mean, 1.0/3) {
		t.Errorf("HR@10 of all %v, cold users %v, cold items %v", got.All.HR10, got.ColdUsers.HR10, got.ColdItems.HR10)
	}
	for _, f := range got.Figures() {
		if strings.HasPrefix(f.Metric, "cold_") && strings.HasSuffix(f.Metric, "_low") {
			t.Errorf("an interval, where all the cold cases are of one user: %+v", f)
		}
	}
}

func TestCatalogueRefuses(t *testing.T) {
	cases := []Case{ask("x", "u", 1, "a", "b")}
	for want, lists := range map[string][][]string{"0 lists of \"m\" for 1 cases": nil, "2 lists": {nil, nil}} {
		if _, err := Catalogue(t.Context(), stream(), cases, "m", lists, lists, Config{}, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Catalogue(t.Context(), stream(), nil, "m", nil, nil, Config{}, Options{}); err == nil {
		t.Error("no case was measured")
	}
	// Nobody did anything, nothing is shown: nothing is known, and nothing is claimed.
	got, err := Catalogue(t.Context(), stream(), cases, "m", [][]string{nil}, [][]string{nil}, Config{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got.Figures() {
		if math.IsNaN(f.Value) || strings.HasSuffix(f.Metric, "share10") || f.Metric == "coverage10" {
			t.Errorf("%+v", f)
		}
	}
}

func TestPopularityBorder(t *testing.T) {
	p := popularity{of: map[string]int{}, having: map[int]int{}}
	if n, _ := p.border(); n != 0 {
		t.Errorf("of nothing: %d", n)
	}
	for i, id := range numbered("i", 101) { // two places of 101 items
		for range 1 + i/98*2 { // i98, i99 and i100 have three
			p.add(id)
		}
	}
	if n, share := p.border(); n != 3 || !near(share, 2.0/3) {
		t.Errorf("from %d with %v, want from 3 with two thirds", n, share)
	}
	p.add("i100")
	if n, share := p.border(); n != 3 || !near(share, 0.5) {
		t.Errorf("from %d with %v, want from 3 with a half", n, share)
	}
	for range 5 { // six, four, three, three, two …: four places of 301 items
		p.add("i0")
	}
	for _, id := range numbered("more ", 200) {
		p.add(id)
	}
	if n, share := p.border(); n != 3 || !near(share, 1) {
		t.Errorf("from %d with %v, want from 3 with all", n, share)
	}
	p.add("more 0")
	p.add("more 1")
	for _, id := range numbered("even more ", 100) { // 401 items, five places
		p.add(id)
	}
	if n, share := p.border(); n != 2 || !near(share, 0.5) {
		t.Errorf("from %d with %v, want from 2 with a half", n, share)
	}
	p = popularity{of: map[string]int{}, having: map[int]int{}}
	for _, id := range append(numbered("i", 101), "i99", "i99", "i99", "i100", "i100", "i100") {
		p.add(id)
	}
	if n, share := p.border(); n != 4 || !near(share, 1) {
		t.Errorf("from %d with %v, want from 4 with all", n, share)
	}
}
