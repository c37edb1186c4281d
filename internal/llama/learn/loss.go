package learn

import (
	"fmt"
	"math"

	"github.com/r2rec/r2rec/internal/llama/kernel"
)

// Loss turns the logits at the wanted positions (rows) of the asked tokens (columns) into a loss in nats and, in place,
// into that loss's gradient. An error says what does not fit the logits.
type Loss func(logits kernel.Matrix) (float64, error)

// NextToken is the mean cross-entropy of the next token at each wanted position: targets has one a row, by column.
func NextToken(targets []int32) Loss {
	return func(z kernel.Matrix) (float64, error) {
		if len(targets) != z.Rows {
			return 0, fmt.Errorf("%d next tokens for %d positions", len(targets), z.Rows)
		}
		loss := 0.
		for r, target := range targets {
			if target < 0 || int(target) >= z.Cols {
				return 0, fmt.Errorf("next token %d is column %d of %d", r, target, z.Cols)
			}
			row := z.Row(r)
			top := kernel.Max(row)
			at := float64(row[target] - top)
			sum := kernel.ExpSum(row, 1, top)
			loss += (math.Log(float64(sum)) - at) / float64(len(targets))
			kernel.Scale(row, 1/sum)
			row[target]--
			kernel.Scale(row, 1/float32(len(targets)))
		}
		return loss, nil
	}
}

// Objective is a loss of the candidates' scores, in nats; a softmax over the scores is a policy. It writes the gradient,
// one a candidate. An error says what does not fit the candidates.
type Objective func(scores, gradient []float64) (float64, error)

// Lines applies an objective to the readout of the same name: one wanted position a candidate, whose score is the
// difference of the logits of two tokens.
func Lines(o Objective) Loss {
	return func(z kernel.Matrix) (float64, error) {
		if z.Cols != 2 {
			return 0, fmt.Errorf("readout lines takes the logits of 2 tokens at each position, and has %d", z.Cols)
		}
		scores, gradient := make([]float64, z.Rows), make([]float64, z.Rows)
		for r := range scores {
			scores[r] = float64(z.Row(r)[0]) - float64(z.Row(r)[1])
		}
		loss, err := o(scores, gradient)
		if err != nil {
			return 0, err
		}
		for r, g := range gradient {
			z.Row(r)[0], z.Row(r)[1] = float32(g), -float32(g)
		}
		return loss, nil
	}
}

// Verdicts is Lines for a model that is to say the one or the other token, yes or no, at each position: logits are of the
// whole vocabulary. To the objective it adds the mean over the positions of -log (p(yes) + p(no)): scores alone would leave it to
// chance what the model says beside the two, and a server states only its most likely tokens.
func Verdicts(yes, no int32, o Objective) Loss {
	return func(z kernel.Matrix) (float64, error) {
		for _, id := range []int32{yes, no} {
			if id < 0 || int(id) >= z.Cols {
				return 0, fmt.Errorf("a verdict is token %d of %d", id, z.Cols)
			}
		}
		scores, gradient := make([]float64, z.Rows), make([]float64, z.Rows)
		for r := range scores {
			scores[r] = float64(z.Row(r)[yes]) - float64(z.Row(r)[no])
		}
		loss, err := o(scores, gradient)
		if err != nil {
			return 0, err
		}
		for r, g := range gradient {
			other := said(z.Row(r), []int32{yes, no})
			loss += other / float64(z.Rows)
			kernel.Scale(z.Row(r), 1/float32(z.Rows))
			z.Row(r)[yes] += float32(g)
			z.Row(r)[no] -= float32(g)
		}
		return loss, nil
	}
}

// said is -log Σ p(ids) of a row of logits, and turns the row into its gradient.
func said(row []float32, ids []int32) float64 {
	scores := make([]float64, len(ids))
	for i, id := range ids {
		scores[i] = float64(row[id])
	}
	top := kernel.Max(row)
	sum := kernel.ExpSum(row, 1, top) // row becomes exponentials
	all, these := math.Log(float64(sum))+float64(top), logSum(scores)
	kernel.Scale(row, 1/sum)
	for i, id := range ids {
		row[id] -= float32(math.Exp(scores[i] - these))
	}
	return all - these
}

// Letters applies an objective to the readout of the same name: one wanted position, with the logits of the whole
// vocabulary, of which ids are the candidates' tokens. To the objective it adds -log Σ p(ids), that the answer is one of
// them at all: scores alone would leave it to chance what the model says beside them, and a server states only its most
// likely tokens. With Chosen that makes the cross-entropy of the token over the vocabulary.
func Letters(ids []int32, o Objective) Loss {
	return func(z kernel.Matrix) (float64, error) {
		if z.Rows != 1 {
			return 0, fmt.Errorf("readout letters takes the logits at 1 position, and has %d", z.Rows)
		}
		row := z.Row(0)
		scores, gradient := make([]float64, len(ids)), make([]float64, len(ids))
		for i, id := range ids {
			if id < 0 || int(id) >= len(row) {
				return 0, fmt.Errorf("letter %d is token %d of %d", i, id, len(row))
			}
			scores[i] = float64(row[id])
		}
		loss, err := o(scores, gradient)
		if err != nil {
			return 0, err
		}
		loss += said(row, ids)
		for i, id := range ids {
			row[id] += float32(gradient[i])
		}
		return loss, nil
	}
}

// Chosen is the cross-entropy of the candidate that was chosen: maximum likelihood of a choice model.
func Chosen(i int) Objective {
	return func(scores, gradient []float64) (float64, error) {
		if i < 0 || i >= len(scores) {
			return 0, fmt.Errorf("candidate %d was chosen of %d", i, len(scores))
		}
		logs := logSoftmax(scores)
		for j, l := range logs {
			gradient[j] = math.Exp(l)
		}
		gradient[i]--
		return -logs[i], nil
	}
}

func logSoftmax(x []float64) []float64 {
	sum := logSum(x)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - sum
	}
	return out
}

// logSum is log Σ exp(x).
func logSum(x []float64) float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}
