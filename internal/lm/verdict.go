package lm

import (
	"fmt"
	"slices"
)

// Verdict reads the log-odds of yes against no out of the most likely tokens where a candidate's line ends, of a model that
// learned to say one of these, " yes" or " no", there (the readout verdicts). One that the server did not state is taken to
// be e times less likely than the least likely token that it did; stated tells whether it stated both. Errors and mass, which
// is that of the two together, are those of Letters.
func Verdict(top []Token, minMass float64) (odds float64, stated bool, mass float64, err error) {
	logs, of, mass, err := weigh(top, 2, minMass, func(token string) int { return slices.Index(verdicts, token) })
	if err != nil {
		return 0, false, mass, fmt.Errorf("read a verdict: %w", err)
	}
	return logs[0] - logs[1], of[0] && of[1], mass, nil
}

// verdicts are the tokens of the readout verdicts.
var verdicts = []string{" yes", " no"}
