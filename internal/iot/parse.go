package iot

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Parsed is what a prompt says, line by line.
type Parsed struct {
	Likes      []string // titles, newest first
	Candidates []ParsedCandidate
	Chains     []ParsedChain
}

// ParsedCandidate is a lettered line.
type ParsedCandidate struct {
	Letter     byte
	Title      string
	Categories []string
	Digits     [4]byte // chains, recent, popularity, category; 0 to 9
}

// ParsedChain is a numbered line.
type ParsedChain struct {
	Number int // in the context; 1 is the first
	Via    string
	Shared int
	Letter byte
}

var (
	likeForm      = regexp.MustCompile(`^- "([^"]+)"$`)
	candidateForm = regexp.MustCompile(`^([A-T])\. "([^"]+)"(?: \[([^\]]+)\])? chains (\d) recent (\d) popularity (\d) category (\d)$`)
	chainForm     = regexp.MustCompile(`^([1-9]\d{0,8})\. liked "([^"]+)" -> a like-minded user \((\d{1,4}) shared\) -> ([A-T])$`)
)

// Parse reads a prompt back. It accepts exactly what Build writes: every line must be one that Build could have put at
// its place, the letters must run from A without a gap, chain numbers must rise and lead to a letter that is there.
func Parse(text string) (Parsed, error) {
	var p Parsed
	rest, ok := strings.CutPrefix(text, task)
	if !ok {
		return p, errors.New("parse prompt: it does not begin with the task")
	}
	sections := strings.Split(strings.TrimPrefix(rest, "\n"), "\n\n")
	last := len(sections) - 1
	seen := 0
	for i, section := range sections[:last] {
		lines := strings.Split(section, "\n")
		var read func(string) error
		order := 0
		switch lines[0] {
		case likesHeading:
			order, read = 1, p.readLike
		case candidatesHeading:
			order, read = 2, p.readCandidate
		case chainsHeading:
			order, read = 3, p.readChain
		}
		if order <= seen || len(lines) < 2 {
			return p, fmt.Errorf("parse prompt: section %d, %q, is empty, unknown or out of order", i+1, lines[0])
		}
		seen = order
		for _, line := range lines[1:] {
			if err := read(line); err != nil {
				return p, fmt.Errorf("parse prompt: line %q of section %q %w", line, lines[0], err)
			}
		}
	}
	if len(p.Candidates) == 0 {
		return p, errors.New("parse prompt: it has no candidates")
	}
	if want := replyLine(len(p.Candidates)) + "\n" + answer; sections[last] != want {
		return p, fmt.Errorf("parse prompt: it ends in %q, not in %q", sections[last], want)
	}
	return p, nil
}

var errForm = errors.New("is not of this section's form")

// match is what the groups of a form found in a line of printing characters.
func match(form *regexp.Regexp, line string) []string {
	if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil
	}
	return form.FindStringSubmatch(line)
}

func (p *Parsed) readLike(line string) error {
	m := match(likeForm, line)
	if m == nil {
		return errForm
	}
	p.Likes = append(p.Likes, m[1])
	return nil
}

func (p *Parsed) readCandidate(line string) error {
	m := match(candidateForm, line)
	if m == nil {
		return errForm
	}
	c := ParsedCandidate{Letter: m[1][0], Title: m[2]}
	if c.Letter != letter(len(p.Candidates)) {
		return errors.New("has a letter out of turn")
	}
	if m[3] != "" {
		c.Categories = strings.Split(m[3], ", ")
	}
	for k := range c.Digits {
		c.Digits[k] = m[4+k][0] - '0'
	}
	p.Candidates = append(p.Candidates, c)
	return nil
}

func (p *Parsed) readChain(line string) error {
	m := match(chainForm, line)
	if m == nil {
		return errForm
	}
	c := ParsedChain{Via: m[2], Letter: m[4][0]}
	c.Number, _ = strconv.Atoi(m[1]) // the form lets only numbers through that fit
	c.Shared, _ = strconv.Atoi(m[3])
	if len(p.Chains) > 0 && c.Number <= p.Chains[len(p.Chains)-1].Number {
		return errors.New("has a number out of turn")
	}
	if int(c.Letter-'A') >= len(p.Candidates) {
		return errors.New("leads to a letter that no candidate has")
	}
	p.Chains = append(p.Chains, c)
	return nil
}
