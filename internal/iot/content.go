package iot

import (
	"unicode/utf8"

	"github.com/r2rec/r2rec/internal/event"
)

// Content is what a prompt says, line by line. All of its text is clean. In the versions Figures and FullFigures only the
// digits of its candidates are there.
type Content struct {
	Version    int
	Likes      []string // titles, newest first
	Chains     []ChainLine
	Candidates []CandidateLine // in the order of their letters

	// Ends[j] is the offset in the prompt's text of the byte after the line of Candidates[j], which is a line feed; the
	// byte before it is the line's last digit. Text[:Ends[len(Ends)-1]] is what all questions about these candidates
	// have in common.
	Ends []int
}

// ChainLine says that a like-minded user, who shares a like, chose a candidate.
type ChainLine struct {
	Number int    // of the context's chain, 1 is the first
	Like   int    // number of the like it starts from, 1 is the newest; 0: one that is not listed
	Title  string // of that like
	Shared int    // items that the two users share
	Letter byte   // of the candidate
}

// CandidateLine is a candidate with its evidence.
type CandidateLine struct {
	Title      string
	Categories []string
	Digits     [MaxDigits]byte // 0 to 9, as many of them as the version's layout has
}

// contentOf takes from a context what a prompt of unlimited size says.
func contentOf(c event.Context, p Prompt) Content {
	s := Content{Version: p.Version}
	l := layouts[p.Version]
	digits := l.digits(c)
	if !l.worded {
		for _, i := range p.Order {
			s.Candidates = append(s.Candidates, CandidateLine{Digits: digits[i]})
		}
		return s
	}
	likes := make(map[string]int, l.likes)
	for k, h := range c.History[:min(len(c.History), l.likes)] {
		s.Likes = append(s.Likes, shorten(title(h.Title, h.ItemID), l.titleRunes))
		likes[h.ItemID] = k + 1
	}
	letters := make(map[string]byte, len(c.Candidates))
	for i, it := range c.Candidates {
		letters[it.ItemID] = p.Letters[i]
	}
	titles := historyTitles(c)
	for k, ch := range c.Chains[:min(len(c.Chains), maxNumber)] {
		to, ok := letters[ch.ItemID]
		if !ok || len(s.Chains) == l.chains {
			continue
		}
		line := ChainLine{Number: k + 1, Like: likes[ch.Via], Title: shorten(titles.of(ch.Via), l.titleRunes), Shared: min(max(ch.Shared, 0), maxNumber), Letter: to}
		if line.Like > 0 {
			line.Title = s.Likes[line.Like-1]
		}
		s.Chains = append(s.Chains, line)
	}
	for _, i := range p.Order {
		it := c.Candidates[i]
		s.Candidates = append(s.Candidates, CandidateLine{Title: shorten(title(it.Title, it.ItemID), l.titleRunes), Digits: digits[i],
			Categories: shownCategories(it.Categories, l.categories)})
	}
	return s
}

// shrink leaves out the least useful part that is still there; false if only candidates with the shortest titles are.
// titles is how many runes a title may have.
func (s *Content) shrink(titles *int) bool {
	switch {
	case len(s.Chains) > 0:
		s.Chains = s.Chains[:len(s.Chains)-1]
	case len(s.Likes) > 0:
		s.Likes = s.Likes[:len(s.Likes)-1]
	case s.hasCategories():
		for j := range s.Candidates {
			s.Candidates[j].Categories = nil
		}
	case *titles/2 >= minTitleRunes:
		*titles /= 2
		for j := range s.Candidates {
			s.Candidates[j].Title = shorten(s.Candidates[j].Title, *titles)
		}
	default:
		return false
	}
	return true
}

func (s *Content) hasCategories() bool {
	for _, c := range s.Candidates {
		if len(c.Categories) > 0 {
			return true
		}
	}
	return false
}

// isTitle tells whether s can be the title of an item in a prompt where titles have at most so many runes.
func isTitle(s string, runes int) bool {
	return s != "" && Clean(s) == s && utf8.RuneCountInString(s) <= runes
}

// titlesByID are the cleaned titles of a user's history.
type titlesByID map[string]string

func historyTitles(c event.Context) titlesByID {
	t := make(titlesByID, len(c.History))
	for _, h := range c.History {
		t[h.ItemID] = title(h.Title, h.ItemID)
	}
	return t
}

// of is the title of an item; of one that is not in the history it is the id.
func (t titlesByID) of(id string) string {
	if name, ok := t[id]; ok {
		return name
	}
	return title("", id)
}
