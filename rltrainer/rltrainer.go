// Package rltrainer teaches models to rank: from cases, real ones and made-up ones, that it shows to the graph as a server
// would have, and from what became of a server's own decisions.
//
//	events or a synthetic world -> graph -> Example -> Fit
//	decisions and rewards -> Join -> Rollout -> FitClicks, Prepare -> Task -> Improve
//	                                         -> Choices -> Example -> Fit
//	                         -> Export -> a trainer elsewhere -> Import
//	Example -> Teach -> Trace -> FitTexts; Questions -> Think: thoughts before the answer
//	                         held-out rollouts -> FitClicks, Judge -> the gate's samples
//	rewards since a roll-out began -> Watch -> forward or back
//
// What it promises: nothing after a case's moment takes part in its context; nothing is learned from a decision whose
// prompt, scores and probability cannot be computed again, and what is left out is counted by its reason; the same data,
// seed and learner give the same lessons in the same order; and whoever interrupts it gets an error and no half result.
//
// What it leaves to others: the model and its arithmetic (a lm.Learner), the graph (the interface Graph), the estimators
// and the gate's verdict (internal/ope), and measuring what came of it on test cases (internal/eval).
package rltrainer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// Graph follows a stream of events.
type Graph interface {
	// Apply joins the next interactions into the graph.
	Apply(ctx context.Context, batch []event.Interaction) error
	// Evidence is what the graph knows about these candidates of a user at a time, in their order.
	Evidence(ctx context.Context, user string, at event.Time, candidates []string) (event.Context, error)
}

// Example is what the graph knew when a user chose, and what was chosen.
type Example struct {
	Context event.Context
	Chosen  int     // index into the context's candidates
	Weight  float64 `json:",omitempty"` // how much it counts; 0 stands for 1
}

// Digest is the SHA-256 of examples or questions, in lower-case hexadecimal: it tells whether two runs learn from the same.
func Digest[T Example | Question](examples []T) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(examples); err != nil {
		return "", fmt.Errorf("digest %d examples: %w", len(examples), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Ask streams events into an empty graph and asks it every case when exactly the events strictly before it have
// happened. The examples come in the order of the cases, whose ids must differ. Records that the stream refuses are left
// out, as a consumer leaves them out.
func Ask(ctx context.Context, g Graph, events eval.Stream, cases []eval.Case, asked func(done, total int)) ([]Example, error) {
	c := &collector{graph: g, seen: make(map[string]event.Context, len(cases))}
	named := make(map[string]bool, len(cases))
	for _, k := range cases {
		if named[k.ID] {
			return nil, fmt.Errorf("ask the graph %d cases: two are called %.80q: give each its own id", len(cases), k.ID)
		}
		named[k.ID] = true
	}
	cfg := eval.Config{Refused: func(error) {}}
	if asked != nil {
		cfg.Progress = func(p eval.Progress) { asked(p.Answered, p.Total) }
	}
	if _, err := eval.Run(ctx, events, cases, []eval.Named{{Name: "graph", Ranker: c}}, cfg); err != nil {
		return nil, fmt.Errorf("ask the graph %d cases: %w", len(cases), err)
	}
	examples := make([]Example, len(cases))
	for i, k := range cases {
		examples[i] = Example{Context: c.seen[k.ID], Chosen: slices.Index(k.Candidates, k.Positive)}
	}
	return examples, nil
}

// collector keeps what the graph says where a ranker would rank.
type collector struct {
	graph Graph
	seen  map[string]event.Context // by the case's name
}

func (c *collector) Observe(ctx context.Context, batch []event.Interaction) error {
	return c.graph.Apply(ctx, batch)
}

func (c *collector) Scores(ctx context.Context, k eval.Case) ([]float64, error) {
	seen, err := c.graph.Evidence(ctx, k.User, k.At, k.Candidates)
	if err != nil {
		return nil, err
	}
	c.seen[k.ID] = seen
	return make([]float64, len(k.Candidates)), nil
}
