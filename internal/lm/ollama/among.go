package ollama

import "github.com/r2rec/r2rec/internal/lm"

// among are the log-shares of those candidates that are kept, among themselves. A server states 20 tokens, and a letter
// that is not one of them has no answer: leaving it out of one distribution changes all other shares of it, so that it is
// left out of those it is compared with as well.
func among(shares []float64, keep []bool) []float64 {
	var out []float64
	for i, s := range shares {
		if keep[i] {
			out = append(out, s)
		}
	}
	if len(out) > 0 {
		lm.Normalise(out)
	}
	return out
}
