package main

import (
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/eval/live"
	"github.com/r2rec/r2rec/internal/fusion"
)

// A language model is asked over factors of the times that the fusion is asked over.
func TestFactorsOfTheGraphThatAModelIsAskedOver(t *testing.T) {
	for name, c := range map[string]struct {
		f       evalFit
		without bool
		want    live.GrowOptions
	}{
		"as it grows":               {evalFit{}, false, live.GrowOptions{}},
		"up to the fit":             {evalFit{FitBefore: "1000000000"}, false, live.GrowOptions{LearnBefore: 1_000_000_000_000}},
		"once":                      {evalFit{LearnBefore: "1000000000"}, false, live.GrowOptions{LearnBefore: 1_000_000_000_000, Once: true}},
		"none, as none is shown":    {evalFit{}, true, live.GrowOptions{NoFactors: true}},
		"none, as the fusion is":    {evalFit{FitBefore: "1000000000", Without: []fusion.Group{fusion.Latent}}, false, live.GrowOptions{LearnBefore: 1_000_000_000_000, NoFactors: true}},
		"others are left out of it": {evalFit{Without: []fusion.Group{fusion.User}}, false, live.GrowOptions{}},
	} {
		if got, err := c.f.grow(c.without); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
	if _, err := (evalFit{LearnBefore: "noon"}).grow(false); err == nil || !strings.HasPrefix(err.Error(), "--learn-before: ") {
		t.Errorf("a time that is none: %v", err)
	}
}
