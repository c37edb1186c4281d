// Package baseline has the classic rankers that every other ranker is compared with: exact, in memory, without bounds,
// fed by the stream like anything else that package eval measures.
//
// A like is what eval.IsPositive says: a rating of 4 or more, or a click, like, cart or purchase. A user likes an item
// once, at the latest time; a duplicate changes nothing, and no later interaction takes a like back. Degree, written
// |u| or |i|, is the number of likes of a user or an item. The age of a like is the number of likes that came after it
// in the stream, so that a half-life means the same in a busy week and in a quiet year, and nothing depends on the unit of
// time. Among likes of one time, the order of the stream counts. A place in a history is 0 for the user's latest like.
//
//	random      a seeded hash of case and candidate
//	popularity  |c|
//	recent      Σ over the likes of c of 2^(-age / 2,000)
//	itemknn     Σ over the user's items i of 2^(-place of i / 3) · cos(i, c),
//	            cos(i, c) = users who like both / √(|i| |c|)
//	chain       Σ over chains user -> i -> v -> c of 2^(-place of i / 12) · |i|^-0.8 · |v|^-0.5 · |c|^-0.4
//	            · 2^(-age of v -> c / 12,000), v being another user who shares at least two items with this one
//	usercf      Σ over other users v who like c of cos(user, v)² · 2^(-age of v -> c / 6,000),
//	            cos(u, v) = items that both like / √(|u| |v|)
//
// The half-lives are the defaults of Options. They and the powers were set by hand on MovieLens, test cases included, so
// that the rankers are as strong as well-tuned ones there; they are the same for every data set.
//
// Sources. itemknn: item-based collaborative filtering with the cosine (Sarwar et al., Item-Based Collaborative Filtering
// Recommendation Algorithms, WWW 2001), over all items instead of the k nearest, and with a history weighted by recency.
// chain: a random walk of three steps (Cooper et al., Random Walks in Recommender Systems, WWW 2014), whose target is
// divided by a power of its popularity (Paudel et al., Updatable, Accurate, Diverse, and Scalable Recommendations for
// Interactive Applications, TiiS 2017), with the neighbours of R2Rec (arXiv 2506.05069) and a decay by age. usercf:
// user-based collaborative filtering with amplified similarities (Breese et al., Empirical Analysis of Predictive
// Algorithms for Collaborative Filtering, UAI 1998) and a decay by age (Ding and Li, Time Weight Collaborative Filtering,
// CIKM 2005).
//
// What the package promises: the same stream, cut into batches in any way, and the same case give the same scores, whatever
// was asked before; a candidate's score does not depend on the other candidates. A user or a candidate that nothing is
// known of scores 0, so that ties say so. Nothing is fitted.
//
// What it leaves to others: which candidates to ask for (itemknn, chain and usercf do not leave out what the user already
// likes), metrics, and bounds on memory: about 100 bytes a like, and nothing is ever dropped.
package baseline

import (
	"fmt"
	"math"
	"strings"

	"github.com/r2rec/r2rec/internal/eval"
)

// Names lists the rankers that New makes, in the order of the package comment.
var Names = []string{"random", "popularity", "recent", "itemknn", "chain", "usercf"}

// Options sets what a ranker may be told. The zero value means the defaults; a ranker ignores what it has no use for, so
// that one value may serve all of them.
type Options struct {
	// Seed of random; 0 is a seed like any other.
	Seed uint64
	// HalfLife is the age at which a like counts half, in likes of the stream. recent: 2,000 by default; chain: 12,000;
	// usercf: 6,000. math.Inf(1) turns the decay off.
	HalfLife float64
	// HistoryHalfLife is the place at which an item of the user's history counts half, in items. itemknn: 3 by default;
	// chain: 12. math.Inf(1) lets all items count the same.
	HistoryHalfLife float64
}

// New makes a ranker by its name; one that is not in Names, or a half-life that is not positive, is an error.
func New(name string, opt Options) (eval.Ranker, error) {
	for _, h := range []struct {
		what  string
		value float64
	}{{"half-life", opt.HalfLife}, {"half-life of the history", opt.HistoryHalfLife}} {
		if h.value < 0 || math.IsNaN(h.value) {
			return nil, fmt.Errorf("ranker %q: a %s of %v: give a positive number, or 0 for the default", name, h.what, h.value)
		}
	}
	switch name {
	case "random":
		return random{opt.Seed}, nil
	case "popularity":
		return popularity{newGraph()}, nil
	case "recent":
		return recent{newGraph(), or(opt.HalfLife, 2000)}, nil
	case "itemknn":
		return newItemKNN(or(opt.HistoryHalfLife, 3)), nil
	case "chain":
		return newChain(or(opt.HalfLife, 12_000), or(opt.HistoryHalfLife, 12)), nil
	case "usercf":
		return newUserCF(or(opt.HalfLife, 6000)), nil
	default:
		return nil, fmt.Errorf("there is no ranker %q: use one of %s", name, strings.Join(Names, ", "))
	}
}

func or(value, byDefault float64) float64 {
	if value == 0 {
		return byDefault
	}
	return value
}
