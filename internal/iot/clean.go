package iot

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes a title or another text from outside safe to stand between quotes in one line of a prompt, and to be
// shown. Of its result it holds:
//   - It is one line of printing characters and single spaces. Control characters, line and paragraph separators,
//     bidirectional controls, zero-width and other invisible characters are gone, and at most two combining marks
//     follow a letter.
//   - It has none of " < > [ ] { } | and none of their look-alikes, so that it can neither close its quotes nor spell a
//     control token: tokenizers know theirs by <…>, <|…|> or […].
//   - It does not hold "Answer:", in any case.
//   - Cleaning it again changes nothing.
//
// Clean does not shorten.
func Clean(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	marks := maxMarks // a mark with no letter before it would join the quote
	space := false
	for _, r := range s {
		r = plain(r)
		switch {
		case r < 0:
			continue
		case r == ' ':
			space = b.Len() > 0
			marks = maxMarks
			continue
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks {
				continue
			}
		default:
			marks = 0
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return answerMark.ReplaceAllString(b.String(), "$1")
}

// maxMarks is how many combining marks may follow one letter.
const maxMarks = 2

// answerMark is the mark of the answer with any colon, so that no title can say what the answer is in the prompt's own
// words.
var answerMark = regexp.MustCompile(`(?i)(answer)[ :：﹕︓꞉∶]*[:：﹕︓꞉∶]`)

// plain is the character that stands for r in a prompt; -1: none, a space: a gap between words.
func plain(r rune) rune {
	switch r {
	case '"', '“', '”', '„', '‟', '«', '»', '＂', '″', '〃', '❝', '❞', '〝', '〞', '〟',
		'ʺ', '˝', 'ˮ', '״', '‶', '‴', '‷':
		return '\''
	case '<', '[', '{', '＜', '［', '｛', '‹', '\u2329', '\u3008', '⟨', '﹤', '﹝', '❮', '❰':
		return '('
	case '>', ']', '}', '＞', '］', '｝', '›', '\u232A', '\u3009', '⟩', '﹥', '﹞', '❯', '❱':
		return ')'
	case '|', '｜', '│', '┃', '∣', '❘', 'ǀ', '￨', '︱':
		return '/'
	case '▁': // the mark of a space in many vocabularies
		return '_'
	case utf8.RuneError:
		return '?'
	case '\u2800': // a blank that counts as a symbol
		return ' '
	}
	switch {
	case unicode.IsSpace(r): // line and paragraph separators as well
		return ' '
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r), !unicode.IsPrint(r):
		return -1
	}
	return r
}

// shorten cuts a text to at most n runes, the last of which is then an ellipsis.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	runes := []rune(s)
	return strings.TrimRight(string(runes[:n-1]), " ") + "…"
}

// title is the title under which an item appears: cleaned, at most 60 runes, the id where there is no title.
func title(name, id string) string { return shorten(wholeTitle(name, id), maxTitleRunes) }

// wholeTitle is the title however long it is.
func wholeTitle(name, id string) string {
	for _, s := range [...]string{name, id} {
		if s = Clean(s); s != "" {
			return s
		}
	}
	return "untitled"
}

// shownCategories are the first of an item's categories, cleaned; nil where there is none.
func shownCategories(names []string, most int) (shown []string) {
	for _, name := range names {
		if name = cleanCategory(name); name != "" && len(shown) < most {
			shown = append(shown, name)
		}
	}
	return shown
}

// cleanCategory cleans the name of a category, and shortens it.
func cleanCategory(name string) string { return shorten(wholeCategory(name), maxCategoryRunes) }

// wholeCategory is the name of a category, cleaned; the comma stands between two of them.
func wholeCategory(name string) string {
	return Clean(strings.NewReplacer(",", " ", "，", " ", "、", " ").Replace(name))
}
