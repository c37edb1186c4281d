// Package fusion weighs the graph's evidence against itself: a small neural network, fitted on what users chose, that
// turns the evidence of a list of candidates into one score each. It ranks where no language model is there or none
// answers, and a softmax over its scores is a choice model: the probability that a user who sees the list chooses each.
//
// The network sees a candidate only relative to the others of its list (half as popular as the most popular one, never
// how popular), because sizes within a list carry over from catalogue to catalogue and absolute counts do not. Beside
// that it knows three things about the whole list: how much the user liked so far, how long the user was idle, and how
// the candidates were drawn. Its output is the mean over an ensemble of networks with one hidden layer and a linear path
// around it, each fitted from another start by maximum likelihood of the chosen candidate.
//
// Latent factors are not everywhere: nobody may have learned any yet, and a new user has none. So a model that was fitted
// with them carries a second ensemble, fitted to the same lists without, for the lists that have no such evidence.
//
// The package promises that scores depend neither on the order of the candidates nor on the unit of an evidence, that
// they are finite whatever the evidence holds, and that a fit with one seed gives the same bytes on any number of threads.
// It reads no clock, no file and no server. Collecting evidence is graphcache's job, drawing a slate from the scores the
// reasoner's, and saying how good they are internal/eval's.
package fusion

import (
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/parallel"
)

// List is a list of candidates as the graph saw it for one user at one moment.
type List struct {
	Evidence []event.Evidence // one a candidate
	Likes    int              // the user's positive edges
	Idle     float64          // seconds since the user's newest edge; 0: there is none

	// Draw says how the candidates were drawn: 0 uniformly from the catalogue, 1 in proportion to popularity, between
	// them a mixture; held to the range -1 to 2. Among candidates drawn by popularity, being popular says nothing more
	// about being chosen; one network serves both because it is told. A server finds its candidates, and says 0.
	Draw float64
}

// FromContext gives the list of a context. It shares no memory with the context.
func FromContext(c event.Context) List {
	l := List{Evidence: make([]event.Evidence, len(c.Candidates)), Likes: c.Likes, Idle: c.Idle, Draw: c.Draw}
	for i := range c.Candidates {
		l.Evidence[i] = c.Candidates[i].Evidence
	}
	return l
}

// Model is a fitted fusion. It never changes, so that many goroutines may use one.
type Model struct {
	training Training
	removed  map[Group]bool
	members  []*network
	plain    []*network // for lists without evidence of latent factors; nil: the members are, too
}

// Training says how the model was fitted.
func (m *Model) Training() Training {
	t := m.training
	t.Without = append([]Group(nil), t.Without...)
	return t
}

// Scores gives one score a candidate, in their order: the log-odds of being chosen from this list, up to a constant of
// the list. A softmax over them gives the shares. Values that are not positive finite numbers count as absent evidence,
// so that every score is finite.
func (m *Model) Scores(l List) []float64 {
	scores := make([]float64, len(l.Evidence))
	rows := make([]float64, len(l.Evidence)*columns)
	encode(l, m.removed, rows)
	members := m.members
	if m.plain != nil && !l.hasLatent() {
		members = m.plain
	}
	parallel.Parts(len(scores), scoredAtOnce, func(from, to int) {
		act := make([]float64, members[0].units)
		for _, n := range members {
			for i := from; i < to; i++ {
				scores[i] += n.score(rows[i*columns:(i+1)*columns], act) / float64(len(members))
			}
		}
	})
	return scores
}

// scoredAtOnce is how many candidates are worth another goroutine: some 0.15 ms of work.
const scoredAtOnce = 50
