package eval

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/policy"
)

// Scored is a case as rankers scored it.
type Scored struct {
	Case     string               `json:"case"`
	At       event.Time           `json:"at"`               // when it was asked, Unix milliseconds
	Positive int                  `json:"positive"`         // index of the candidate that was chosen
	Scores   map[string][]float64 `json:"scores"`           // by ranker, one a candidate
	Taught   []string             `json:"taught,omitempty"` // rankers that were taught the answer: see Result
}

// ScoredCases are the results of a run, case by case.
func ScoredCases(cases []Case, results []Result) []Scored {
	out := make([]Scored, len(cases))
	for i, c := range cases {
		out[i] = Scored{Case: c.ID, At: c.At, Positive: slices.Index(c.Candidates, c.Positive), Scores: make(map[string][]float64, len(results))}
		for _, r := range results {
			out[i].Scores[r.Name] = r.Scores[i]
			if c.At < r.Taught {
				out[i].Taught = append(out[i].Taught, r.Name)
			}
		}
	}
	return out
}

// WriteScores writes one JSON object a line.
func WriteScores(w io.Writer, scored []Scored) error {
	out := json.NewEncoder(w)
	for _, s := range scored {
		if err := out.Encode(s); err != nil {
			return fmt.Errorf("write the scores of case %q: %w", s.Case, err)
		}
	}
	return nil
}

// ReadScores reads what WriteScores wrote. The error names the line.
func ReadScores(path string) (scored []Scored, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var s Scored
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		for ranker, scores := range s.Scores {
			if s.Positive < 0 || s.Positive >= len(scores) {
				return nil, fmt.Errorf("%s:%d: positive is %d, and %s scored %d candidates", path, n, s.Positive, ranker, len(scores))
			}
		}
		scored = append(scored, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(scored) == 0 {
		return nil, fmt.Errorf("%s has no cases", path)
	}
	return scored, nil
}

// PoolName is the ranker that joins two others as the server does.
const PoolName = "pool"

// Pool are the final scores of a logarithmic pool of the two rankers' shares (policy.Pool): weight is the model's part.
func (s Scored) Pool(graph, model string, weight float64) ([]float64, error) {
	g, m := s.Scores[graph], s.Scores[model]
	if len(g) == 0 || len(g) != len(m) {
		return nil, fmt.Errorf("case %q: %s scored %d candidates and %s %d: a pool takes the scores of both", s.Case, graph, len(g), model, len(m))
	}
	out := make([]float64, len(g))
	for i, final := range policy.Pool(policy.Exp(policy.LogSoftmax(g)), policy.LogSoftmax(m), weight) {
		out[i] = final.Final
	}
	return out, nil
}

// PoolPoint is what a weight is worth.
type PoolPoint struct {
	Weight       float64 // of the model
	CrossEntropy float64 // of what was chosen, mean over the cases, nats
	HR1          float64
}

// PoolCurve measures weights from 0 to 1 by hundredths on cases. The one of the least cross-entropy is best, which is its
// index: HR@1 of some hundred cases jumps by chance.
func PoolCurve(scored []Scored, graph, model string) (curve []PoolPoint, best int, err error) {
	if len(scored) == 0 {
		return nil, 0, errors.New("a pool's weight is learned from cases, and there are none")
	}
	for step := range 101 {
		p := PoolPoint{Weight: float64(step) / 100}
		for _, s := range scored {
			final, err := s.Pool(graph, model, p.Weight)
			if err != nil {
				return nil, 0, err
			}
			if s.Positive < 0 || s.Positive >= len(final) {
				return nil, 0, fmt.Errorf("case %q: candidate %d was chosen of %d", s.Case, s.Positive, len(final))
			}
			p.CrossEntropy -= final[s.Positive] / float64(len(scored))
			if rank(final, s.Positive) == 1 {
				p.HR1 += 1 / float64(len(scored))
			}
		}
		if math.IsNaN(p.CrossEntropy) {
			return nil, 0, fmt.Errorf("a pool of weight %v has no cross-entropy: a ranker gives what was chosen no share", p.Weight)
		}
		if curve = append(curve, p); p.CrossEntropy < curve[best].CrossEntropy {
			best = step
		}
	}
	return curve, best, nil
}

// PoolResult is the pool of two of the results of a run.
func PoolResult(cases []Case, results []Result, graph, model string, weight float64) (Result, error) {
	r := Result{Name: PoolName}
	for _, s := range ScoredCases(cases, results) {
		final, err := s.Pool(graph, model, weight)
		if err != nil {
			return Result{}, err
		}
		r.Scores, r.Ranks = append(r.Scores, final), append(r.Ranks, rank(final, s.Positive))
	}
	for _, of := range results {
		if of.Name == graph || of.Name == model {
			r.Taught = max(r.Taught, of.Taught)
		}
	}
	return r, nil
}
