// Package lm reads rankings out of language models. It holds what does not depend on who runs the model: the kinds of
// failure, the arithmetic of the readouts, and the calibration. Each server has a package below this one (ollama).
//
// The readout that any model has is letters: the model is asked for the letter of one of the candidates, and its
// log-probabilities of all letters at that position are the ranking. Letters turns a server's most likely tokens into
// one log-share a letter, Calibrate takes away what the model would have said without having read anything, and
// ByCandidate brings the letters back into the order of the context. Of a model that learned to say yes or no where a
// candidate's line ends, Verdict reads the odds there.
//
// A Writer goes on with texts, and a TextLearner learns how they go on; a Thinker has a model write why before it answers.
//
// What it promises: nothing that a model or its server says is trusted. Whatever tokens and numbers come in, what comes
// out is a finite log-probability for each candidate, or an error that wraps one of the four below.
//
// What it leaves to others: building prompts (internal/iot) and deciding what to serve when there is an error (the
// reasoner).
package lm

import "errors"

// The ways in which a model fails. Every error of this package and of those below it wraps one of them, except where
// the caller gave up first: then it wraps context.Canceled.
var (
	// ErrUnavailable: no answer. The server cannot be reached, fails, refuses or is too slow (then the error wraps
	// context.DeadlineExceeded too). Trying later may help.
	ErrUnavailable = errors.New("the model is unavailable")
	// ErrModelMissing: the server is there, but has no such model. Somebody has to install it.
	ErrModelMissing = errors.New("the server does not have the model")
	// ErrPromptTooLong: the prompt does not fit into the model's context, and was not answered.
	ErrPromptTooLong = errors.New("the prompt is too long for the model")
	// ErrNonsense: there is an answer, but nothing that ranks. It has a method Nonsense() bool that answers true, for
	// callers that do not import this package.
	ErrNonsense error = nonsense{}
)

type nonsense struct{}

func (nonsense) Error() string { return "the model's answer ranks nothing" }

// Nonsense tells callers that know only the method what this error is.
func (nonsense) Nonsense() bool { return true }
