// Package eval measures rankers on questions with a known answer: whether what a user chose next stands first among
// twenty candidates, and what a whole catalogue's ranking is worth.
//
// A run streams a data set's interactions, in the order of time, through any number of rankers at once (Run). A case is
// asked when exactly the interactions strictly before its time have been observed; one with the case's own timestamp is
// not before it. Verify proves that for a sample, by deleting everything later. The answer is hidden from the ranker.
// What comes out is the rank of the right answer, from 1, ties averaged; everything else is made from such ranks: HR@k,
// NDCG@k and MRR (Metrics), intervals and paired differences by resampling users (Bootstrap), figures for machines, a
// table and a picture (Report), and files of ranks to compare with later (ReadRanks, WriteRanks).
//
// What it promises: the same data, cases, seed and rankers give the same figures; and an error about a file names its
// line, field and value.
//
// What it leaves to others: reading data sets (package dataset), the rankers (package baseline has those to compare
// with), and when a ranker fits its parameters: that is the ranker's own business, as it observes.
package eval

import (
	"context"

	"github.com/r2rec/r2rec/internal/event"
)

// Case is one question: which of the candidates did the user choose at that time?
type Case struct {
	ID         string
	User       string
	At         event.Time // when the user chose; only what is strictly before it may be known
	Candidates []string   // two or more, each once
	Positive   string     // the one that was chosen; empty when a ranker is asked
}

// Ranker is fed the stream in the order of time and asked between two events. Its methods are called one at a time.
type Ranker interface {
	// Observe takes the next interactions of the stream, in the order of time. The batch is shared with other rankers:
	// it may be kept, and must not be changed.
	Observe(ctx context.Context, batch []event.Interaction) error
	// Scores gives one score a candidate, larger is better, from what was observed and from the case alone: neither the
	// cases asked before nor the sizes of the batches may matter. NaN is an error.
	Scores(ctx context.Context, c Case) ([]float64, error)
}

// Retriever finds items in the whole catalogue. Run asks those rankers that are retrievers, where its Config says so.
type Retriever interface {
	// Retrieve finds at most k items for a user at a time, from what was observed; never one that it knows the user touched.
	Retrieve(ctx context.Context, user string, at event.Time, k int) (Retrieval, error)
}

// Retrieval is what a Retriever found: the same items twice, or those it kept of them. In each list an item stands once.
type Retrieval struct {
	Stage  []string // in the order of the stage that proposes candidates
	Ranked []string // in the order in which they would be shown
}

// LikedFrom is the lowest rating by which a user likes an item, as in the protocol by which cases are drawn.
const LikedFrom = 4.0

// IsPositive tells whether an interaction says that the user likes the item: a rating of LikedFrom or more, or a choice
// without a rating. Cases are drawn from positives, and popularity and coldness are counted in them.
func IsPositive(in event.Interaction) bool {
	switch in.Type {
	case event.Rating:
		return in.Value != nil && *in.Value >= LikedFrom
	case event.Click, event.Like, event.Cart, event.Purchase:
		return true
	default: // views and impressions say nothing, dislikes and hides the contrary
		return false
	}
}
