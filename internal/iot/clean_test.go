package iot

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostileTexts are the lines of testdata/hostile.txt, one Go string literal a line.
func hostileTexts(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var texts []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && line[0] != '#' {
			s, err := strconv.Unquote(line)
			if err != nil {
				t.Fatalf("testdata/hostile.txt: %s: %v", line, err)
			}
			texts = append(texts, s)
		}
	}
	if len(texts) < 40 {
		t.Fatalf("testdata/hostile.txt holds %d texts", len(texts))
	}
	return texts
}

func TestCleanDisarms(t *testing.T) {
	for _, s := range hostileTexts(t) {
		checkClean(t, s)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range hostileTexts(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkClean(t, s) })
}

// checkClean holds Clean to each point of its comment.
func checkClean(t *testing.T, s string) {
	t.Helper()
	got := Clean(s)
	if !utf8.ValidString(got) {
		t.Errorf("Clean(%q) = %q is not valid UTF-8", s, got)
	}
	if i := strings.IndexAny(got, "\"<>[]{}|\u2581＜＞［］｜“”„«»＂″ʺ˝ˮ״‶‹›⟨⟩"); i >= 0 {
		t.Errorf("Clean(%q) = %q holds %q", s, got, got[i:])
	}
	if got != strings.TrimSpace(got) || strings.Contains(got, "  ") {
		t.Errorf("Clean(%q) = %q has gaps", s, got)
	}
	marks := maxMarks
	for _, r := range got {
		if !unicode.IsPrint(r) {
			t.Errorf("Clean(%q) = %q holds %U", s, got, r)
		}
		if !unicode.Is(unicode.M, r) {
			marks = 0
		} else if marks++; marks > maxMarks {
			t.Errorf("Clean(%q) = %q piles up marks", s, got)
		}
	}
	if folded := strings.ReplaceAll(strings.ToLower(got), " :", ":"); strings.Contains(folded, "answer:") {
		t.Errorf("Clean(%q) = %q holds the answer's mark", s, got)
	}
	if again := Clean(got); again != got {
		t.Errorf("Clean(%q) = %q, and of that %q", s, got, again)
	}
}

func TestCleanKeepsWhatTitlesNeed(t *testing.T) {
	for in, want := range map[string]string{
		"Star Wars: Episode IV - A New Hope (1977)":   "Star Wars: Episode IV - A New Hope (1977)",
		"Amélie & Léon: 8½, #1!":                      "Amélie & Léon: 8½, #1!",
		"千と千尋の神隠し":                                    "千と千尋の神隠し",
		"Ве́рность":                                   "Ве́рность",
		"लगान":                                        "लगान",
		`The "Burbs" [1989]`:                          `The 'Burbs' (1989)`,
		"  two\t\nlines\u2028here ":                   "two lines here",
		"Question & Answer: the film":                 "Question & Answer the film",
		"in\u034fvis\u3164ib\u115fle\ufe0f\U000e0100": "invisible",
		"\u0301accent":                                "accent",
		"bad \xff byte":                               "bad ? byte",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTitleFallsBackToTheID(t *testing.T) {
	for _, c := range []struct{ name, id, want string }{
		{"Heat", "6", "Heat"},
		{"", "6", "6"},
		{"\u200b\n", "6", "6"},
		{"", "\u200b", "untitled"},
		{strings.Repeat("é", 61), "6", strings.Repeat("é", 59) + "…"},
		{strings.Repeat("é", 60), "6", strings.Repeat("é", 60)},
	} {
		if got := title(c.name, c.id); got != c.want {
			t.Errorf("title(%q, %q) = %q, want %q", c.name, c.id, got, c.want)
		}
	}
}
