package learn_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/r2rec/r2rec/internal/llama/kernel"
	"github.com/r2rec/r2rec/internal/llama/learn"
)

func normal(r *rand.Rand, n int, deviation float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = deviation * r.NormFloat64()
	}
	return x
}

// logShares are log-probabilities.
func logShares(scores []float64) []float64 {
	sum := 0.
	for _, s := range scores {
		sum += math.Exp(s)
	}
	out := make([]float64, len(scores))
	for i, s := range scores {
		out[i] = s - math.Log(sum)
	}
	return out
}

func TestObjectives(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 20; n++ {
		scores, weights := normal(r, n, 2), normal(r, n, 1)
		logs := logShares(scores)
		for name, c := range map[string]struct {
			objective learn.Objective
			want      float64
		}{
			"chosen":  {learn.Chosen(n / 2), -logs[n/2]},
			"squares": {squares(weights), sumOfSquares(scores, weights)},
		} {
			gradient := make([]float64, n)
			got, err := c.objective(scores, gradient)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-c.want) > 1e-12 {
				t.Errorf("%s of %d candidates: the loss is %v, want %v", name, n, got, c.want)
			}
			for i := range scores {
				const h = 1e-5
				move := func(by float64) float64 {
					moved := append([]float64(nil), scores...)
					moved[i] += by
					loss, err := c.objective(moved, make([]float64, n))
					if err != nil {
						t.Fatal(err)
					}
					return loss
				}
				if slope := (move(h) - move(-h)) / (2 * h); math.Abs(gradient[i]-slope) > 1e-8 {
					t.Errorf("%s of %d candidates: the gradient of score %d is %v, by differences %v", name, n, i, gradient[i], slope)
				}
			}
		}
	}
}

// squares is half of the sum of the weighted squares of the scores: an objective of somebody else.
func squares(weights []float64) learn.Objective {
	return func(scores, gradient []float64) (float64, error) {
		for i, s := range scores {
			gradient[i] = weights[i] * s
		}
		return sumOfSquares(scores, weights), nil
	}
}

func sumOfSquares(scores, weights []float64) (sum float64) {
	for i, s := range scores {
		sum += weights[i] * s * s / 2
	}
	return sum
}

// Scores that exponentials cannot hold are no worse than others.
func TestObjectivesOfLargeScores(t *testing.T) {
	gradient := make([]float64, 3)
	loss, err := learn.Chosen(1)([]float64{4000, 3999, -5000}, gradient)
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + math.Log1p(math.Exp(-1)); math.Abs(loss-want) > 1e-12 {
		t.Errorf("the loss is %v, want %v", loss, want)
	}
	if want := 1/(1+math.Exp(-1)) - 0; math.Abs(gradient[0]-want) > 1e-12 || gradient[2] != 0 {
		t.Errorf("the gradient is %v, want %v, %v, 0", gradient, want, -want)
	}
}

// logits are rows x cols, each row within a wider one.
func logits(r *rand.Rand, rows, cols int) kernel.Matrix {
	m := kernel.Matrix{Data: make([]float32, rows*(cols+3)), Rows: rows, Cols: cols, Stride: cols + 3}
	for i := range m.Data {
		m.Data[i] = float32(2 * r.NormFloat64())
	}
	return m
}

func clone(m kernel.Matrix) kernel.Matrix {
	m.Data = append([]float32(nil), m.Data...)
	return m
}

func TestLosses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	weights, letters := normal(r, 7, 1), []int32{40, 3, 5, 4, 0, 17, 20}
	for name, c := range map[string]struct {
		loss       learn.Loss
		rows, cols int
	}{
		"next token":         {learn.NextToken([]int32{4, 0, 40, 17}), 4, 41},
		"lines, chosen":      {learn.Lines(learn.Chosen(3)), 7, 2},
		"lines, squares":     {learn.Lines(squares(weights)), 7, 2},
		"verdicts, chosen":   {learn.Verdicts(40, 3, learn.Chosen(3)), 7, 41},
		"verdicts, squares":  {learn.Verdicts(0, 40, squares(weights)), 7, 41},
		"verdicts alone":     {learn.Verdicts(0, 1, learn.Chosen(1)), 3, 2},
		"letters, squares":   {learn.Letters(letters, squares(weights)), 1, 41},
		"letters, chosen":    {learn.Letters(letters, learn.Chosen(6)), 1, 41},
		"letters, one alone": {learn.Letters([]int32{3}, learn.Chosen(0)), 1, 41},
		"letters alone":      {learn.Letters([]int32{1, 0}, learn.Chosen(0)), 1, 2},
	} {
		z := logits(r, c.rows, c.cols)
		gradient := clone(z)
		loss, err := c.loss(gradient)
		if err != nil {
			t.Fatal(err)
		}
		at := func(row, col int, by float32) float64 {
			moved := clone(z)
			moved.Row(row)[col] += by
			loss, err := c.loss(moved)
			if err != nil {
				t.Fatal(err)
			}
			return loss
		}
		if again := at(0, 0, 0); again != loss {
			t.Errorf("%s: the loss is %v, then %v", name, loss, again)
		}
		for row := range z.Rows {
			for col := range z.Cols {
				const h = .1
				slope := (8*(at(row, col, h/2)-at(row, col, -h/2)) - (at(row, col, h) - at(row, col, -h))) / (6 * h)
				if got := float64(gradient.Row(row)[col]); math.Abs(got-slope) > 3e-5 {
					t.Errorf("%s: the gradient of logit %d, %d is %v, by differences %v", name, row, col, got, slope)
				}
			}
		}
	}
}

func TestTheLossOfTheNextToken(t *testing.T) {
	z := logits(rand.New(rand.NewPCG(5, 6)), 3, 50)
	targets := []int32{7, 49, 0}
	want := 0.
	for row, target := range targets {
		scores := make([]float64, z.Cols)
		for i, v := range z.Row(row) {
			scores[i] = float64(v)
		}
		want -= logShares(scores)[target] / 3
	}
	got, err := learn.NextToken(targets)(z)
	if err != nil || math.Abs(got-want) > 1e-6 {
		t.Errorf("the loss is %v, %v, want %v", got, err, want)
	}
}

// A letter that was chosen is the token that comes next: among the letters, and of all tokens.
func TestTheLossOfAChosenLetterIsThatOfItsToken(t *testing.T) {
	z := logits(rand.New(rand.NewPCG(5, 6)), 1, 50)
	gradient, wanted := clone(z), clone(z)
	want, err := learn.NextToken([]int32{9})(wanted)
	if err != nil {
		t.Fatal(err)
	}
	got, err := learn.Letters([]int32{30, 9, 2}, learn.Chosen(1))(gradient)
	if err != nil || math.Abs(got-want) > 1e-6 {
		t.Errorf("the loss is %v, %v, want %v", got, err, want)
	}
	for i, g := range gradient.Row(0) {
		if math.Abs(float64(g-wanted.Row(0)[i])) > 1e-6 {
			t.Errorf("the gradient of token %d is %v, want %v", i, g, wanted.Row(0)[i])
		}
	}
}

func TestLossesThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		loss       learn.Loss
		rows, cols int
		want       string
	}{
		"fewer next tokens":     {learn.NextToken([]int32{1}), 2, 5, "1 next tokens for 2 positions"},
		"more next tokens":      {learn.NextToken([]int32{1, 1, 1}), 2, 5, "3 next tokens for 2 positions"},
		"a next token beyond":   {learn.NextToken([]int32{1, 5}), 2, 5, "next token 1 is column 5 of 5"},
		"a next token below":    {learn.NextToken([]int32{-1, 1}), 2, 5, "next token 0 is column -1 of 5"},
		"lines of three tokens": {learn.Lines(learn.Chosen(0)), 2, 3, "readout lines takes the logits of 2 tokens at each position, and has 3"},
		"letters at two places": {learn.Letters([]int32{0}, learn.Chosen(0)), 2, 3, "readout letters takes the logits at 1 position, and has 2"},
		"nobody chosen":         {learn.Lines(learn.Chosen(2)), 2, 2, "candidate 2 was chosen of 2"},
		"less than nobody":      {learn.Letters([]int32{0, 1}, learn.Chosen(-1)), 1, 2, "candidate -1 was chosen of 2"},
		"a letter of no token":  {learn.Letters([]int32{0, 2}, learn.Chosen(0)), 1, 2, "letter 1 is token 2 of 2"},
	} {
		if _, err := c.loss(logits(rand.New(rand.NewPCG(7, 8)), c.rows, c.cols)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
