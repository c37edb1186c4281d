package lm

import (
	"fmt"
	"math"
	"strings"
)

// MaxLetters is the most letters that a readout has: servers state at most the 20 most likely tokens.
const MaxLetters = 20

// DefaultMinMass is the least probability that all letters, or a verdict's yes and no, must have together. Below it the model was about to say
// something else, and how it weighs letters that it does not mean to say ranks nothing.
const DefaultMinMass = .01

// missingMargin is how much less likely, in nats, a letter that the server did not state is taken to be than the least
// likely token that it did. The truth is at most the latter.
const missingMargin = 1

// tolerance is how far a server's probabilities may sum to more than 1: they are rounded to 32 bits.
const tolerance = 1e-3

// Token is one alternative at a position, and its log-probability (natural, at most 0).
type Token struct {
	Text    string
	Logprob float64
}

// Letters reads a distribution over the first n letters out of the most likely tokens at the answer's position. It
// returns the log-share of each letter (they are finite, and their exponentials sum to 1), which of them the server stated,
// and the probability that all letters had together before that.
//
// A token counts for a letter if the letter, in upper case, is all that is left of it without the spaces, quotes,
// brackets and asterisks around it and a closing full stop, colon, comma or bracket: "A", " A", "A.", "(A)" and "**A"
// are one letter, "a" and "An" are none. Their probabilities add up. A letter without any token is taken to be e times
// less likely than the least likely token stated.
//
// The error wraps ErrNonsense if there are no tokens, a number is not a log-probability, or the letters have less than
// minMass together (0 means DefaultMinMass, less than 0 that there is no least).
func Letters(top []Token, n int, minMass float64) (shares []float64, stated []bool, mass float64, err error) {
	return readLetters(top, n, minMass, letterOf)
}

// LearnedLetters is Letters for a model with an adapter, which learned to answer with one token a letter: the letter after
// one space, " A". Nothing else counts here, as nothing else did there, so that the shares are those that were learned.
// stated tells which letters the server stated a probability of: the others have none but the floor.
func LearnedLetters(top []Token, n int, minMass float64) (shares []float64, stated []bool, mass float64, err error) {
	return readLetters(top, n, minMass, learnedLetterOf)
}

func readLetters(top []Token, n int, minMass float64, letterOf func(string) int) (shares []float64, stated []bool, mass float64, err error) {
	if n < 1 || n > MaxLetters {
		return nil, nil, 0, fmt.Errorf("read %d letters: the readout has 1 to %d", n, MaxLetters)
	}
	shares, stated, mass, err = weigh(top, n, minMass, letterOf)
	if err != nil {
		return nil, nil, mass, fmt.Errorf("read %d letters: %w", n, err)
	}
	Normalise(shares)
	return shares, stated, mass, nil
}

// Reading is what a model answers to one prompt, in the order of the letters.
type Reading struct {
	Shares []float64 // log-shares
	Stated []bool    // by the server: of the others it is known only that they are less likely than all that it stated. Nil: all
}

func (r Reading) stated(i int) bool { return r.Stated == nil || r.Stated[i] }

// Calibrate takes a model's bias out of its log-shares: prior is its answer for the same letters where the prompt says
// nothing about any of them (contextual calibration, Zhao et al. 2021, "Calibrate before use", in its diagonal form). A model
// that always answers the same ranks nothing by that. The result is log-shares in the order of the letters.
//
// A letter that the prior alone did not state was raised by the prompt to where it stands, from the floor or from below: its
// difference is a bound from below, up to the floor's margin. One that the answer did not state has none: its difference is a
// bound from above at best, and where the prior did not state it either it compares two floors, which say how far down each
// list went and nothing about the letter. So it never comes before a letter that the answer stated.
//
// The error wraps ErrNonsense if a share is not finite, or the answer states no letter.
func Calibrate(answer, prior Reading) ([]float64, error) {
	n := len(answer.Shares)
	if n == 0 || len(prior.Shares) != n || answer.Stated != nil && len(answer.Stated) != n || prior.Stated != nil && len(prior.Stated) != n {
		return nil, fmt.Errorf("calibrate %d log-shares (%d stated or not) by %d (%d): want as many of each", n, len(answer.Stated), len(prior.Shares), len(prior.Stated))
	}
	out, least := make([]float64, n), math.Inf(1)
	for i := range out {
		out[i] = answer.Shares[i] - prior.Shares[i]
		if math.IsNaN(out[i]) || math.IsInf(out[i], 0) {
			return nil, fmt.Errorf("calibrate log-share %g by %g: %w", answer.Shares[i], prior.Shares[i], ErrNonsense)
		}
		if answer.stated(i) {
			least = min(least, out[i])
		}
	}
	if math.IsInf(least, 1) {
		return nil, fmt.Errorf("calibrate %d log-shares, none of which the server stated: %w", n, ErrNonsense)
	}
	for i := range out {
		switch {
		case answer.stated(i):
		case prior.stated(i):
			out[i] = min(out[i], least)
		default:
			out[i] = least
		}
	}
	Normalise(out)
	return out, nil
}

// weigh sums up what the most likely tokens give to each of n answers, as logarithms; of an answer that none of them is, it
// is a floor. answerOf is the answer that a token is, or less than 0.
func weigh(top []Token, n int, minMass float64, answerOf func(string) int) (logs []float64, stated []bool, mass float64, err error) {
	if len(top) == 0 {
		return nil, nil, 0, fmt.Errorf("no alternatives were stated: %w", ErrNonsense)
	}
	if minMass == 0 {
		minMass = DefaultMinMass
	}
	p := make([]float64, n)
	least, total := 0., 0.
	for _, t := range top {
		if !(t.Logprob <= tolerance) || math.IsInf(t.Logprob, 0) { // NaN as well
			return nil, nil, 0, fmt.Errorf("token %.20q has the log-probability %g: %w", t.Text, t.Logprob, ErrNonsense)
		}
		least = min(least, t.Logprob)
		total += math.Exp(t.Logprob)
		if i := answerOf(t.Text); i >= 0 && i < n {
			p[i] += math.Exp(t.Logprob)
			mass += math.Exp(t.Logprob)
		}
	}
	if total > 1+tolerance {
		return nil, nil, 0, fmt.Errorf("the tokens' probabilities sum to %g: %w", total, ErrNonsense)
	}
	if mass < minMass {
		return nil, nil, mass, fmt.Errorf("together they have probability %.2g, and %.2g is the least that ranks (most likely: %.20q): %w",
			mass, minMass, mostLikely(top), ErrNonsense)
	}
	logs, stated = make([]float64, n), make([]bool, n)
	for i := range p {
		logs[i] = least - missingMargin
		if p[i] > 0 {
			logs[i], stated[i] = max(math.Log(p[i]), logs[i]), true
		}
	}
	return logs, stated, mass, nil
}

// letterOf is the letter that a token says, 0 for A; -1: none.
func letterOf(token string) int {
	const before, after = " \t\n\u2581\u0120\"'([{*", " \t\n\"')]}*.:,;"
	token = strings.TrimRight(strings.TrimLeft(token, before), after)
	if len(token) != 1 || token[0] < 'A' || token[0] > 'Z' {
		return -1
	}
	return int(token[0] - 'A')
}

// learnedLetterOf is the letter of a token that an adapter learned to answer with; -1: it is no such token.
func learnedLetterOf(token string) int {
	if len(token) != 2 || token[0] != ' ' || token[1] < 'A' || token[1] > 'Z' {
		return -1
	}
	return int(token[1] - 'A')
}

func mostLikely(top []Token) string {
	best := top[0]
	for _, t := range top {
		if t.Logprob > best.Logprob {
			best = t
		}
	}
	return best.Text
}

// Normalise turns log-weights into log-shares in place (log-softmax).
func Normalise(x []float64) {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	for i := range x {
		x[i] = x[i] - top - math.Log(sum)
	}
}
