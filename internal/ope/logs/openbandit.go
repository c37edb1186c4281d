package logs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/ope"
)

// Impression is one row of the Open Bandit Dataset: an item that was drawn for a position.
type Impression struct {
	User       string // rows with equal user_features are taken as one user's: the data set names none, and this is the careful reading
	Item       int
	Position   int
	Click      float64 // 1 or 0
	Propensity float64 // probability of drawing this item for this position
}

var impression = []string{"item_id", "position", "click"}

// most is the largest item and position that is taken for one.
const most = 1_000_000

func (t *table) impressions() (*Log, error) {
	propensity := "propensity_score"
	if !t.has(propensity) {
		propensity = "action_prob"
	}
	var features []string
	for _, name := range t.names {
		if strings.HasPrefix(name, "user_feature") {
			features = append(features, name)
		}
	}
	l := &Log{}
	known := map[string]string{} // users, each kept once
	for {
		more, err := t.next()
		if err != nil || !more {
			return l, err
		}
		var im Impression
		for _, f := range []struct {
			name string
			into *int
		}{{"item_id", &im.Item}, {"position", &im.Position}} {
			if *f.into, err = strconv.Atoi(t.text(f.name)); err != nil || *f.into < 0 || *f.into > most {
				return nil, t.wrong(f.name, fmt.Sprintf("an integer from 0 to %d", most))
			}
		}
		if im.Click, err = t.number("click"); err != nil || im.Click != 0 && im.Click != 1 {
			return nil, t.wrong("click", "0 or 1")
		}
		if im.Propensity, err = t.number(propensity); err != nil || !(im.Propensity > 0 && im.Propensity <= 1) {
			return nil, t.wrong(propensity, "a probability above 0 and up to 1")
		}
		parts := make([]string, len(features))
		for i, name := range features {
			parts[i] = t.text(name)
		}
		im.User = strings.Join(parts, " ")
		if len(features) == 0 {
			im.User = fmt.Sprint("line ", t.line()) // nothing tells who
		}
		if u, ok := known[im.User]; ok {
			im.User = u
		} else {
			known[im.User] = im.User
		}
		l.Impressions = append(l.Impressions, im)
	}
}

// cell is an item at a position.
type cell struct{ item, position int }

// Judged are the decisions of one log as samples of another log's policy.
type Judged struct {
	Samples  []ope.Sample
	Missing  float64 // share of the judged policy's draws that the log never made: nothing is known of them
	Observed float64 // click rate in the judged policy's own log
}

// prior is how many impressions at the overall click rate are put to those of each item and position, by the model of the
// reward.
const prior = 100

// Judge turns the impressions of a log into samples that judge the policy by which another log was drawn: its probability
// of an item at a position is the share of that item in its own log at that position, as Open Bandit's policies look at
// nothing else. The model of the reward is the click rate of the item at the position, drawn to that of all; it is fitted
// on the users of the other folds.
func Judge(log, of []Impression, folds int) (Judged, error) {
	switch {
	case len(log) == 0 || len(of) == 0:
		return Judged{}, errors.New("a log has no impressions")
	case folds < 2:
		return Judged{}, fmt.Errorf("%d folds: want 2 or more, a model must not judge the users it was fitted on", folds)
	}
	target, logged := shares(of), shares(log)
	j := Judged{}
	for _, im := range of {
		j.Observed += im.Click / float64(len(of))
		if _, ok := logged[cell{im.Item, im.Position}]; !ok {
			j.Missing += 1 / float64(len(of))
		}
	}
	models := make([]clicks, folds)
	for fold := range models {
		models[fold] = fit(log, target, logged, func(user string) bool { return ope.Fold(user, folds) != fold })
	}
	for _, im := range log {
		at, m := cell{im.Item, im.Position}, models[ope.Fold(im.User, folds)]
		j.Samples = append(j.Samples, ope.Sample{User: im.User, Reward: im.Click, Logged: im.Propensity, Target: target[at],
			Q: m.of(at), V: m.target[im.Position], VLogged: m.logged[im.Position]})
	}
	return j, nil
}

// shares are those of the items at each position.
func shares(log []Impression) map[cell]float64 {
	n, at := map[cell]float64{}, map[int]float64{}
	for _, im := range log {
		n[cell{im.Item, im.Position}]++
		at[im.Position]++
	}
	for c := range n {
		n[c] /= at[c.position]
	}
	return n
}

// clicks is a model of the click rate, and what it predicts of two policies at each position.
type clicks struct {
	rate           float64
	clicks, shown  map[cell]float64
	target, logged map[int]float64
}

func (m clicks) of(c cell) float64 { return (m.clicks[c] + prior*m.rate) / (m.shown[c] + prior) }

func fit(log []Impression, target, logged map[cell]float64, may func(user string) bool) clicks {
	m := clicks{clicks: map[cell]float64{}, shown: map[cell]float64{}, target: map[int]float64{}, logged: map[int]float64{}}
	n := 0.
	for _, im := range log {
		if may(im.User) {
			c := cell{im.Item, im.Position}
			m.clicks[c] += im.Click
			m.shown[c]++
			m.rate += im.Click
			n++
		}
	}
	m.rate /= max(1, n)
	m.predict(target, m.target)
	m.predict(logged, m.logged)
	return m
}

// predict sums in one order, so that every run gives the same bits.
func (m clicks) predict(policy map[cell]float64, values map[int]float64) {
	cells := slices.SortedFunc(maps.Keys(policy), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.item, b.item))
	})
	for _, c := range cells {
		values[c.position] += policy[c] * m.of(c)
	}
}
