package iot

import (
	"regexp"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// Guide says how a text that a model writes has to go on.
type Guide struct {
	// Next is what comes next, by what is written; "": the model is free. Nil: it always is. It is safe for concurrent use.
	Next func(written string) string
	// Opens and Closes stand around what Next goes by: it has something to say only right after Closes, with Opens before it
	// on the same line. So whoever cannot ask after each token asks there. Empty: it may have something to say anywhere.
	Opens, Closes string
}

// citing is the beginning of a reason, up to where its citation ends.
var citing = regexp.MustCompile(`^` + citationForm + `$`)

// Guide has what a model writes after Thinking speak of what it has cited: once the numbers of chains stand there, what comes
// next is the letter of the candidate to which they lead, and the opening of a reason, which a teacher is led by too. By
// what is written it says what that is, and "" where the model is free: to choose chains, to say why, and to answer. What
// it gives says nothing that the citation has not said, and looking that up is what small models fail at. Where the
// chains are not of the prompt, or lead to several candidates, there is nothing to give, and ReadReply drops the line.
func (p Prompt) Guide(c event.Context) Guide {
	titles := historyTitles(c)
	return Guide{Opens: "[", Closes: "]", Next: func(written string) string {
		line := strings.TrimLeft(written[strings.LastIndexByte(written, '\n')+1:], " ")
		m := citing.FindStringSubmatch(line)
		if m == nil {
			return ""
		}
		numbers := cited(m[1])
		for _, n := range numbers {
			if !p.shows(c, n) || c.Chains[n-1].ItemID != c.Chains[numbers[0]-1].ItemID {
				return ""
			}
		}
		first := c.Chains[numbers[0]-1]
		return " " + string(p.Letters[c.Candidate(first.ItemID)]) + ": " + openingOf(c, titles, first)
	}}
}
