package iot

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	likeForm      = regexp.MustCompile(`^\d{1,2}\. "([^"]+)"$`)
	chainForm     = regexp.MustCompile(`^(\d{1,4})\. (?:(\d{1,2})|"([^"]+)")>(\d{1,4})>([A-T])$`)
	figuresForm   = regexp.MustCompile(`^[A-T] (\d+)$`)
	candidateForm = regexp.MustCompile(`^[A-T]\. "([^"]+)" (?:\[([^\]]+)\] )?(\d+)$`)
)

// Parse reads a prompt back. It accepts exactly the texts that Build writes: of whatever it accepts there is a context
// for which Build gives the same bytes.
func Parse(text string) (Content, error) {
	if len(text) > MaxBytes {
		return Content{}, fmt.Errorf("parse prompt: it has %d bytes, %d are allowed", len(text), MaxBytes)
	}
	return parse(text)
}

// parse is Parse without a budget.
func parse(text string) (Content, error) {
	s := Content{Version: versionOf(text)}
	if err := s.read(text); err != nil {
		return Content{}, fmt.Errorf("parse prompt: %w", err)
	}
	if err := s.check(); err != nil {
		return Content{}, fmt.Errorf("parse prompt: %w", err)
	}
	// Headings, their order, numbers and letters are right if they are those of a prompt with this content.
	if want := s.render(); want != text {
		return Content{}, fmt.Errorf("parse prompt: %w", difference(text, want))
	}
	return s, nil
}

// versionOf is the version that a text can be of, if it is a prompt.
func versionOf(text string) int {
	for version, l := range layouts {
		if !l.worded && strings.HasPrefix(text, l.heading+"\n") {
			return version
		}
	}
	if strings.Contains(text, "\n"+thinkLine) {
		return Thoughts
	}
	return Words
}

// read takes the content of every section out of a text.
func (s *Content) read(text string) error {
	l, body := layouts[s.Version], text
	if l.worded {
		_, body, _ = strings.Cut(text, "\n\n")
	}
	for section := range strings.SplitSeq(body, "\n\n") {
		lines := strings.Split(section, "\n")
		var read func(string) bool
		switch lines[0] {
		case likesHeading:
			read = s.readLike
		case chainsHeading:
			read = s.readChain
		case l.heading:
			read = s.readCandidate
		default:
			continue
		}
		for _, line := range lines[1:] {
			if !read(line) {
				return fmt.Errorf("line %q is not of the form of the section %q", line, lines[0])
			}
		}
	}
	return nil
}

func (s *Content) readLike(line string) bool {
	m := likeForm.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	s.Likes = append(s.Likes, m[1])
	return true
}

func (s *Content) readChain(line string) bool {
	m := chainForm.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	c := ChainLine{Title: m[3], Letter: m[5][0]}
	c.Number, _ = strconv.Atoi(m[1]) // the form lets only numbers through
	c.Shared, _ = strconv.Atoi(m[4])
	if m[2] != "" {
		c.Like, _ = strconv.Atoi(m[2])
		if c.Like < 1 || c.Like > len(s.Likes) {
			return false
		}
		c.Title = s.Likes[c.Like-1]
	}
	s.Chains = append(s.Chains, c)
	return true
}

func (s *Content) readCandidate(line string) bool {
	l := layouts[s.Version]
	if !l.worded {
		m := figuresForm.FindStringSubmatch(line)
		if m == nil || len(m[1]) != l.lineDigits() {
			return false
		}
		s.Candidates = append(s.Candidates, CandidateLine{Digits: readDigits(m[1])})
		return true
	}
	m := candidateForm.FindStringSubmatch(line)
	if m == nil || len(m[3]) != l.lineDigits() {
		return false
	}
	c := CandidateLine{Title: m[1], Digits: readDigits(m[3])}
	if m[2] != "" {
		c.Categories = strings.Split(m[2], ", ")
	}
	s.Candidates = append(s.Candidates, c)
	return true
}

// readDigits takes the digits out of a text that holds nothing else.
func readDigits(text string) (digits [MaxDigits]byte) {
	for k := range text {
		digits[k] = text[k] - '0'
	}
	return digits
}

// check holds a content that was read to what contentOf can give.
func (s *Content) check() error {
	l := layouts[s.Version]
	if n := len(s.Candidates); n < 1 || n > MaxCandidates || len(s.Likes) > l.likes || len(s.Chains) > l.chains {
		return fmt.Errorf("it has %d candidates, %d likes and %d chains", n, len(s.Likes), len(s.Chains))
	}
	for _, t := range s.Likes {
		if !isTitle(t, l.titleRunes) {
			return fmt.Errorf("like %q is not clean", t)
		}
	}
	last := 0
	for _, c := range s.Chains {
		switch {
		case c.Number <= last:
			return fmt.Errorf("chain %d is out of turn", c.Number)
		case int(c.Letter-'A') >= len(s.Candidates):
			return fmt.Errorf("chain %d leads to %c, which no candidate has", c.Number, c.Letter)
		case !isTitle(c.Title, l.titleRunes):
			return fmt.Errorf("chain %d starts from %q, which is not clean", c.Number, c.Title)
		}
		last = c.Number
	}
	var largest [MaxDigits]byte
	for j, c := range s.Candidates {
		if l.worded && !isTitle(c.Title, l.titleRunes) || len(c.Categories) > l.categories ||
			slices.ContainsFunc(c.Categories, func(name string) bool { return name == "" || cleanCategory(name) != name }) {
			return fmt.Errorf("candidate %c, %q of %q, is not clean", letter(j), c.Title, c.Categories)
		}
		for k, d := range c.Digits {
			largest[k] = max(largest[k], d)
		}
	}
	for k, d := range largest {
		if l.drawn && k == len(l.figures) {
			if slices.ContainsFunc(s.Candidates, func(c CandidateLine) bool { return c.Digits[k] != d }) {
				return errors.New("its candidates were drawn in different ways, by their last digits")
			}
			continue
		}
		if d != 0 && d != 9 {
			return fmt.Errorf("no candidate has more than %d as digit %d: the largest of a list is 9", d, k+1)
		}
	}
	return nil
}

// difference names the first line at which a text leaves the one that its content is written as.
func difference(text, want string) error {
	was, should := strings.Split(text, "\n"), strings.Split(want, "\n")
	for i := range min(len(was), len(should)) {
		if was[i] != should[i] {
			return fmt.Errorf("line %d is %q, should be %q", i+1, was[i], should[i])
		}
	}
	return errors.New("it has too few or too many lines")
}
