package learn

import (
	"errors"
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Continuation is a way in which a text went on.
type Continuation struct {
	Tokens    []int32
	Objective TokenObjective // nil: the mean cross-entropy of the tokens
}

// TokenObjective is a loss of the log-probabilities of a continuation's tokens, in nats. It writes the gradient of the loss
// by each. An error says what does not fit them.
type TokenObjective func(logProbs, gradient []float64) (float64, error)

// Continue is the example of a text that goes on in several ways: its loss is the mean of theirs. A text that goes on once
// is a prompt and its completion.
func Continue(text []int32, ways []Continuation) (Example, error) {
	if len(text) == 0 || len(ways) == 0 {
		return Example{}, errors.New("learn: a text that goes on has at least one token, and one continuation")
	}
	e := Example{Tokens: text, Want: []int{len(text) - 1}}
	at := len(text)
	for i, w := range ways {
		if len(w.Tokens) == 0 {
			return Example{}, fmt.Errorf("learn: continuation %d has no token", i)
		}
		read := w.Tokens[:len(w.Tokens)-1] // what comes after the last is not asked
		e.Branches = append(e.Branches, read)
		for range read {
			e.Want = append(e.Want, at)
			at++
		}
	}
	e.Loss = func(z kernel.Matrix) (float64, error) { return continued(z, ways) }
	return e, nil
}

// continued is the loss of the logits after a text's last token, the first row, and after those of each continuation but
// its last; each row becomes its gradient.
func continued(z kernel.Matrix, ways []Continuation) (float64, error) {
	logSums := make([]float64, z.Rows)
	for r := range logSums {
		row := z.Row(r)
		top := float64(kernel.Max(row))
		sum := 0.
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		logSums[r] = top + math.Log(sum)
	}
	loss, row := 0., 1
	type told struct {
		row   int
		token int32
		by    float64
	}
	var all []told
	total := make([]float64, z.Rows) // of the gradients by the log-probabilities at a row
	for i, w := range ways {
		logs, by := make([]float64, len(w.Tokens)), make([]float64, len(w.Tokens))
		rows := make([]int, len(w.Tokens))
		for j, id := range w.Tokens {
			if j > 0 {
				rows[j] = row
				row++
			}
			if id < 0 || int(id) >= z.Cols {
				return 0, fmt.Errorf("token %d of continuation %d is %d of %d", j, i, id, z.Cols)
			}
			logs[j] = float64(z.Row(rows[j])[id]) - logSums[rows[j]]
		}
		objective := w.Objective
		if objective == nil {
			objective = crossEntropy
		}
		l, err := objective(logs, by)
		if err != nil {
			return 0, fmt.Errorf("continuation %d: %w", i, err)
		}
		loss += l / float64(len(ways))
		for j, id := range w.Tokens {
			g := by[j] / float64(len(ways))
			total[rows[j]] += g
			all = append(all, told{rows[j], id, g})
		}
	}
	if row != z.Rows {
		return 0, fmt.Errorf("%d rows of logits for continuations that take %d", z.Rows, row)
	}
	for r := range total { // by a logit, the log of a softmax changes by 1 for its own token, less each one's share
		x := z.Row(r)
		kernel.ExpSum(x, 1, float32(logSums[r]))
		kernel.Scale(x, float32(-total[r]))
	}
	for _, t := range all {
		z.Row(t.row)[t.token] += float32(t.by)
	}
	return loss, nil
}

// crossEntropy is the mean over the tokens.
func crossEntropy(logs, by []float64) (loss float64, err error) {
	for j, l := range logs {
		loss -= l / float64(len(logs))
		by[j] = -1 / float64(len(logs))
	}
	return loss, nil
}
