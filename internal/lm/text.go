package lm

import (
	"context"

	"github.com/r2rec/r2rec/internal/iot"
)

// WriteOptions say how a text goes on.
type WriteOptions struct {
	Most        int      // tokens, at most; 1 or more
	Temperature float64  // 0: always the likeliest token
	Seed        uint64   // the same seed, text and options give the same texts
	Stop        []string // strings that end a text, and are no part of it
	// Guide says how a text has to go on; without Next the model is free. A model that a server runs is guided only where the guide says after what it has
	// something to say (iot.Guide.Closes).
	Guide iot.Guide
}

// Written is how a model went on with a text.
type Written struct {
	Text     string    // without what ended it
	Tokens   []int32   // all that were drawn, a token that ended the text among them
	LogProbs []float64 // of each, nats, by the model over its whole vocabulary, whatever the temperature
	Given    []bool    // of each token: by the guide, and not drawn
	Whole    bool      // it came to an end by itself: at a stop string, or at a token that ends texts
}

// Writer is a model that goes on with texts.
type Writer interface {
	// Write goes on with a text n times, each time drawn anew: text i is the same whatever n is. The error wraps one of
	// this package's, or the context's where the caller gave up.
	Write(ctx context.Context, text string, n int, o WriteOptions) ([]Written, error)
}

// TextLesson is a text and the ways in which it went on. It is read once for all of them.
type TextLesson struct {
	Text          string
	Continuations []Continuation
}

// Continuation is one way in which a text went on, and what is to be learned from it.
type Continuation struct {
	Tokens    []int32
	Objective TextObjective // nil: the cross-entropy, the mean over the tokens
}

// TextObjective is a loss of the log-probabilities of a continuation's tokens, nats. It writes the gradient of the loss by
// each. It is called once a step, from any goroutine.
type TextObjective func(logProbs, gradient []float64) (float64, error)

// TextLearner is a model that learns how texts go on, step by step.
type TextLearner interface {
	// LearnTexts takes one step that lowers the mean over the lessons of the mean over their continuations of the loss.
	LearnTexts(ctx context.Context, batch []TextLesson) (Progress, error)
}
