package rltrainer

import (
	"fmt"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

// Asked is a prompt for a trainer elsewhere: how it is read, what may be answered, and what each answer is worth. The slices
// are one an answer, in the order of the candidates. It names no user.
type Asked struct {
	Prompt string  `json:"prompt"`
	Tokens []int32 `json:"prompt_tokens"`  // as the model that serves reads it: a trainer that reads others must not go on
	Ends   []int   `json:"ends,omitempty"` // index of the token that ends each candidate's line, by which lines and verdicts are read

	Completions []string  `json:"completions"`
	Values      []float64 `json:"values"`

	Chosen int     `json:"chosen"` // index of what was chosen of all that was shown; -1: nothing was
	Weight float64 `json:"weight"` // that the choice counts; 1 on average
}

// Reader reads prompts as the model that is to learn does: its tokens, and which of them end the candidates' lines, in the
// order of the letters, if any do.
type Reader func(iot.Prompt) (tokens []int32, ends []int, err error)

func (read Reader) asked(p iot.Prompt) (a Asked, err error) {
	a.Prompt = p.Text
	var ends []int
	if a.Tokens, ends, err = read(p); err != nil {
		return a, err
	}
	a.Completions = make([]string, len(p.Order))
	if ends != nil {
		a.Ends = make([]int, len(p.Order))
	}
	for line, candidate := range p.Order {
		a.Completions[candidate] = " " + string(rune(p.Letters[candidate]))
		if ends != nil {
			a.Ends[candidate] = ends[line]
		}
	}
	return a, nil
}

// Exported is one rollout for a trainer elsewhere. A value is R̂, the doubly robust one, see Prepare; a weight is that of
// Choices.
type Exported struct {
	DecisionID string     `json:"decision_id"`
	Timestamp  event.Time `json:"timestamp"`
	Asked

	Completion     string  `json:"completion"`      // the answer that was acted on: what stood in slot 1
	LogProbability float64 `json:"log_probability"` // with which it was drawn: of the final policy, graph's share and temperature included
	Reward         float64 `json:"reward"`          // that slot 1 earned

	Reference []float64 `json:"reference"` // log-share that the serving model gave each answer
}

// ExportedCase is a case for a trainer elsewhere: what was chosen is worth 1, all else 0.
type ExportedCase struct {
	Case string `json:"case"` // its name, as whoever wrote it chose it
	Asked
}

// ExportCase is a case and its example, read by a prompt of the version with the seed.
func ExportCase(id string, e Example, promptVersion int, seed uint64, read Reader) (ExportedCase, error) {
	x := ExportedCase{Case: id}
	p, err := iot.Build(promptVersion, e.Context, seed)
	if err == nil {
		x.Asked, err = read.asked(p)
	}
	if err != nil {
		return x, fmt.Errorf("export case %.80q: %w", id, err)
	}
	x.Values, x.Chosen, x.Weight = make([]float64, len(x.Completions)), e.Chosen, 1
	x.Values[e.Chosen] = 1
	if e.Weight != 0 {
		x.Weight = e.Weight
	}
	return x, nil
}
