package baseline

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/r2rec/r2rec/internal/eval"
	"github.com/r2rec/r2rec/internal/event"
)

// random scores by chance: the floor under every other ranker.
type random struct{ seed uint64 }

// Observe has nothing to remember.
func (random) Observe(ctx context.Context, _ []event.Interaction) error { return ctx.Err() }

// Scores are uniform in [0, 1).
func (r random) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scores := make([]float64, len(c.Candidates))
	for i, candidate := range c.Candidates {
		// The length keeps apart a case "a" with the candidate "bc" and a case "ab" with "c".
		key := binary.BigEndian.AppendUint64(nil, r.seed)
		key = binary.BigEndian.AppendUint64(key, uint64(len(c.ID)))
		key = append(append(key, c.ID...), candidate...)
		hash := sha256.Sum256(key)
		scores[i] = float64(binary.BigEndian.Uint64(hash[:])>>11) / (1 << 53)
	}
	return scores, nil
}

// popularity counts the users who like an item.
type popularity struct{ *graph }

func (p popularity) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scores := make([]float64, len(c.Candidates))
	for i, candidate := range c.Candidates {
		scores[i] = float64(len(listOf(candidate, p.items, p.byItem)))
	}
	return scores, nil
}

// recent is popularity where every like is halved with its age.
type recent struct {
	*graph
	halfLife float64 // in likes of the stream
}

func (r recent) Scores(ctx context.Context, c eval.Case) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scores := make([]float64, len(c.Candidates))
	for i, candidate := range c.Candidates {
		for _, e := range listOf(candidate, r.items, r.byItem) {
			scores[i] += halved(r.age(e), r.halfLife)
		}
	}
	return scores, nil
}
