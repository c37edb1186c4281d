package iot

import (
	"regexp"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// citing is the beginning of a reason, up to where its citation ends.
var citing = regexp.MustCompile(`^` + citationForm + `$`)

// Guide has what a model writes after Thinking name the candidate to which the chains lead that it has cited: by what is
// written it says what has to come next, and "" where the model is free. The letter says nothing that the citation has not
// said, and to look it up is what small models fail at. Where the chains are not of the prompt, or lead to several
// candidates, there is nothing to say, and ReadReply will drop the line.
func (p Prompt) Guide(c event.Context) func(written string) string {
	return func(written string) string {
		line := strings.TrimLeft(written[strings.LastIndexByte(written, '\n')+1:], " ")
		m := citing.FindStringSubmatch(line)
		if m == nil {
			return ""
		}
		led := -1
		for _, n := range cited(m[1]) {
			if !p.shows(c, n) {
				return ""
			}
			to := candidateOf(c, c.Chains[n-1].ItemID)
			if to < 0 || led >= 0 && to != led {
				return ""
			}
			led = to
		}
		return " " + string(p.Letters[led]) + ":"
	}
}
