package iot

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/r2rec/r2rec/internal/event"
)

// What a model writes after Prompt.Thinking: lines of the form "[3, 7] B: words", and "Answer: B".
const (
	thoughtHeading = "Thought:\n"
	// MaxReasons is the most lines of a thought that are read.
	MaxReasons = 4
	// maxReasonRunes bounds the words of a line.
	maxReasonRunes = 240
)

// More faults, which only what a model wrote can have.
const (
	Malformed  Fault = "malformed"   // the line is not of the form
	OtherTitle Fault = "other_title" // its words name an item of the prompt that the cited chains do not touch
	// OtherCategory is the fault of words that name a category of the prompt's items that none has which the cited chains touch.
	OtherCategory Fault = "other_category"
	TooMany       Fault = "too_many"   // it comes after MaxReasons others
	BrokenOff     Fault = "broken_off" // the model had no more tokens to finish it
)

// citationForm is a line's beginning: the numbers of chains.
const citationForm = `\[(\d{1,4}(?:, ?\d{1,4}){0,9})\]`

var (
	reasonForm = regexp.MustCompile(`^` + citationForm + ` ([A-T]): (.+)$`)
	answerForm = regexp.MustCompile(`^Answer: ?([A-T])[.)]?$`)
)

// Reply is what is left of what a model wrote.
type Reply struct {
	// Thought has the reasons that are grounded: each cites chains that stand in the prompt and lead to the candidate whose
	// letter it names, and its words name no item and no category beside those that the chains touch.
	Thought event.Thought
	// Shortened is of how many of these the end was cut off, since it claimed a category that their items are known not to be of.
	Shortened int
	// Dropped are the other lines: one *UngroundedError each.
	Dropped []error
	// Answer is the index of the context's candidate that it chose; -1: none.
	Answer int
}

// Thinking is what a model goes on from that is to say why before it answers. It takes a prompt of version Thoughts.
func (p Prompt) Thinking() string { return strings.TrimSuffix(p.Text, answer) + thoughtHeading }

// After is the prompt with a thought before its last line, so that the next token is a letter as before. Without a step it
// is the prompt itself. The content stays that of the prompt.
func (p Prompt) After(t event.Thought, c event.Context) Prompt {
	if len(t.Steps) > 0 {
		p.Text = p.Thinking() + p.reasons(t, c) + answer
		p.Digest = digest(p.Text)
	}
	return p
}

// Asked is the prompt that a decision's model read, with what it wrote before it answered. The error is that of Build.
func Asked(d event.Decision) (Prompt, error) {
	p, err := Build(d.Model.PromptVersion, d.Context, d.Seed)
	if err != nil {
		return p, err
	}
	return p.After(event.Thought{Steps: d.Said}, d.Context), nil
}

// WriteReply is what a model is to write after Thinking: a thought, and the letter of a candidate.
func (p Prompt) WriteReply(t event.Thought, c event.Context, candidate int) string {
	return p.reasons(t, c) + answer + " " + string(p.Letters[candidate])
}

// reasons writes a thought's steps, one a line. Steps about no candidate are left out.
func (p Prompt) reasons(t event.Thought, c event.Context) string {
	var b strings.Builder
	for _, s := range t.Steps {
		i := c.Candidate(s.ItemID)
		if i < 0 || len(s.Chains) == 0 {
			continue
		}
		b.WriteByte('[')
		for k, n := range s.Chains {
			if k > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString("] " + string(p.Letters[i]) + ": " + s.Text + "\n")
	}
	return b.String()
}

// ReadReply reads what a model wrote after Thinking. Whatever it is, what comes back is grounded in the prompt and the
// context that it was built from. whole says that it came to its end; else its last line is dropped.
func (p Prompt) ReadReply(c event.Context, text string, whole bool) Reply {
	broken := ""
	if !whole {
		end := strings.LastIndexByte(text, '\n') + 1
		text, broken = text[:end], text[end:]
	}
	r := Reply{Thought: event.Thought{By: event.Reasoned, Steps: []event.Step{}}, Answer: -1}
	n := 0
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if m := answerForm.FindStringSubmatch(line); m != nil {
			if j := int(m[1][0] - 'A'); j < len(p.Order) {
				r.Answer = p.Order[j]
			}
			break // what comes after the answer explains nothing
		}
		n++
		s, cut, err := p.reason(c, line)
		if err == nil && len(r.Thought.Steps) == MaxReasons {
			err = &UngroundedError{Fault: TooMany}
		}
		if err != nil {
			err.Step, err.ItemID = n, s.ItemID
			r.Dropped = append(r.Dropped, err)
			continue
		}
		r.Thought.Steps = append(r.Thought.Steps, s)
		if cut {
			r.Shortened++
		}
	}
	if strings.TrimSpace(broken) != "" && r.Answer < 0 {
		r.Dropped = append(r.Dropped, &UngroundedError{Step: n + 1, Fault: BrokenOff})
	}
	return r
}

// reason reads one line; cut says that it claimed too much at its end.
func (p Prompt) reason(c event.Context, line string) (s event.Step, cut bool, e *UngroundedError) {
	m := reasonForm.FindStringSubmatch(line)
	if m == nil || int(m[2][0]-'A') >= len(p.Order) {
		return s, false, &UngroundedError{Fault: Malformed}
	}
	s = event.Step{ItemID: c.Candidates[p.Order[m[2][0]-'A']].ItemID, Text: shorten(Clean(m[3]), maxReasonRunes)}
	for _, n := range cited(m[1]) {
		switch {
		case !p.shows(c, n):
			return s, false, &UngroundedError{Fault: UnknownChain, Chain: n}
		case c.Chains[n-1].ItemID != s.ItemID:
			return s, false, &UngroundedError{Fault: OtherItem, Chain: n}
		case !slices.Contains(s.Chains, n):
			s.Chains = append(s.Chains, n)
		}
	}
	switch {
	case s.Text == "":
		return s, false, &UngroundedError{Fault: NoWords}
	case p.namesOthers(s, c):
		return s, false, &UngroundedError{Fault: OtherTitle}
	}
	text, cut := withoutClaims(s, c)
	if text == "" {
		return s, false, &UngroundedError{Fault: OtherCategory}
	}
	s.Text = text
	return s, cut, nil
}

// cited are the numbers of a citation.
func cited(numbers string) (all []int) {
	for number := range strings.SplitSeq(numbers, ",") {
		n, _ := strconv.Atoi(strings.TrimSpace(number)) // the form lets only numbers through
		all = append(all, n)
	}
	return all
}

// shows tells whether the prompt has chain n of its context.
func (p Prompt) shows(c event.Context, n int) bool {
	return n <= len(c.Chains) && slices.ContainsFunc(p.Content.Chains, func(l ChainLine) bool { return l.Number == n })
}

// namesOthers tells whether a step's words name an item of the prompt that its chains do not touch.
func (p Prompt) namesOthers(s event.Step, c event.Context) bool {
	var shown []string
	for _, h := range c.History[:len(p.Content.Likes)] {
		shown = append(shown, h.ItemID)
	}
	for _, it := range c.Candidates {
		shown = append(shown, it.ItemID)
	}
	for _, l := range p.Content.Chains {
		if l.Number <= len(c.Chains) {
			shown = append(shown, c.Chains[l.Number-1].Via)
		}
	}
	return namesAny(s, c, shown)
}

// namesLost tells whether a step's words name an item, or claim a category, that only those of its chains bear out that are not
// kept.
func namesLost(s event.Step, c event.Context, kept []int) bool {
	var lost []string
	for _, n := range s.Chains {
		if n >= 1 && n <= len(c.Chains) && !slices.Contains(kept, n) {
			lost = append(lost, c.Chains[n-1].Via)
		}
	}
	if len(lost) == 0 {
		return false
	}
	s.Chains = kept
	_, others, _ := claims(s, c)
	return len(others) > 0 || namesAny(s, c, lost)
}

// namesAny tells whether a step's words name one of these items, unless its chains touch it. Of titles of which one is part
// of the other ("Toy Story 2", "Toy Story") the words name the longer, where it stands in them.
func namesAny(s event.Step, c event.Context, items []string) bool {
	titles := wholeTitles(c)
	own := map[string]bool{}
	for _, id := range touched(s, c) {
		for _, form := range spoken(titles[id]) {
			own[form] = true
		}
	}
	forms := slices.Collect(maps.Keys(own))
	for _, id := range items {
		for _, form := range spoken(titles[id]) {
			if utf8.RuneCountInString(form) >= minNamedRunes && !own[form] {
				forms = append(forms, form)
			}
		}
	}
	words := strings.ToLower(s.Text)
	for _, form := range longestFirst(forms) {
		without := cutOut(words, form)
		if without != words && !own[form] {
			return true
		}
		words = without
	}
	return false
}

// wholeTitles are what a prompt calls everything in a context, however long.
func wholeTitles(c event.Context) map[string]string {
	titles := make(map[string]string, len(c.History)+len(c.Candidates))
	for _, ch := range c.Chains {
		titles[ch.Via] = wholeTitle("", ch.Via) // of an item that is not in the history: the prompt has its id
	}
	for _, h := range c.History {
		titles[h.ItemID] = wholeTitle(h.Title, h.ItemID)
	}
	for _, it := range c.Candidates {
		titles[it.ItemID] = wholeTitle(it.Title, it.ItemID)
	}
	return titles
}

// minNamedRunes is how long a title is at least that words are searched for: shorter ones, such as "M", are also words.
const minNamedRunes = 4

var (
	yearForm    = regexp.MustCompile(` \(\d{4}\)$`)
	articleForm = regexp.MustCompile(`^(.+), (the|a|an)$`)
)

func withoutYear(title string) string { return yearForm.ReplaceAllString(title, "") }

// spoken are the ways in which a title may stand in a sentence: in lower case and without a year at its end, as long as
// the two lengths to which prompts shorten titles, and with an article before it that a catalogue has behind it.
func spoken(title string) []string {
	title = strings.ToLower(title)
	forms := []string{}
	for _, runes := range []int{utf8.RuneCountInString(title), maxTitleRunes, layouts[Thoughts].titleRunes} {
		form := withoutYear(strings.TrimRight(shorten(title, max(1, runes)), "…"))
		if form == "" || slices.Contains(forms, form) {
			continue
		}
		forms = append(forms, form)
		if m := articleForm.FindStringSubmatch(form); m != nil {
			forms = append(forms, m[2]+" "+m[1])
		}
	}
	return forms
}

// Names tells whether a step's words name the candidate that it is about.
func Names(s event.Step, c event.Context) bool {
	i := c.Candidate(s.ItemID)
	if i < 0 {
		return false
	}
	words := strings.ToLower(s.Text)
	return slices.ContainsFunc(spoken(wholeTitle(c.Candidates[i].Title, s.ItemID)), func(form string) bool { return cutOut(words, form) != words })
}

// cutOut replaces whole words in a text by marks that no title has, one a rune.
func cutOut(text, words string) string {
	if words == "" {
		return text
	}
	var b strings.Builder
	for at := 0; at < len(text); {
		i := strings.Index(text[at:], words)
		if i < 0 {
			b.WriteString(text[at:])
			break
		}
		start, end := at+i, at+i+len(words)
		before, _ := utf8.DecodeLastRuneInString(text[:start])
		first, _ := utf8.DecodeRuneInString(words)
		last, _ := utf8.DecodeLastRuneInString(words)
		after, _ := utf8.DecodeRuneInString(text[end:])
		if joined(before, first) || joined(last, after) {
			b.WriteString(text[at:end])
		} else {
			b.WriteString(text[at:start] + strings.Repeat("\n", utf8.RuneCountInString(words)))
		}
		at = end
	}
	return b.String()
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// joined tells whether two runes side by side stand in one word. Scripts that put no spaces between words say nothing.
func joined(a, b rune) bool {
	spaceless := func(r rune) bool {
		return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
	}
	return wordRune(a) && wordRune(b) && !spaceless(a) && !spaceless(b)
}

// Masked is a thought as it can still be said of a masked context: what rests on chains that are gone, or names what only these
// bear out, falls, and the numbers of the others become those of the masked context, whose list is shorter.
func Masked(t event.Thought, c, masked event.Context) event.Thought {
	kept := t
	kept.Steps = []event.Step{}
	for _, s := range t.Steps {
		var left, chains []int // their numbers in the one and the other
		for _, n := range s.Chains {
			if k := sameChain(c, n, masked); k > 0 {
				left, chains = append(left, n), append(chains, k)
			}
		}
		if len(chains) > 0 && !namesLost(s, c, left) {
			s.Chains, s.Contributions = chains, nil
			kept.Steps = append(kept.Steps, s)
		}
	}
	return kept
}

// sameChain is the number in another context of chain n of a context; 0: it is not there.
func sameChain(c event.Context, n int, other event.Context) int {
	if n < 1 || n > len(c.Chains) {
		return 0
	}
	was := c.Chains[n-1]
	return 1 + slices.IndexFunc(other.Chains, func(ch event.Chain) bool {
		return ch.Via == was.Via && ch.Neighbour == was.Neighbour && ch.ItemID == was.ItemID
	})
}
