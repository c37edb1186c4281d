package iot

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

// TestParseFindsWhatBuildPutIn draws contexts whose texts are mostly hostile.
func TestParseFindsWhatBuildPutIn(t *testing.T) {
	hostile := hostileTexts(t)
	text := rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom(hostile), 0, 3), func(s []string) string { return strings.Join(s, "") }))
	number := rapid.Float64()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, MaxCandidates).Draw(rt, "candidates")
		var c event.Context
		for i := range n {
			c.Candidates = append(c.Candidates, event.Candidate{
				ItemID:     rapid.SampledFrom([]string{"c" + strconv.Itoa(i), strconv.Itoa(i) + text.Draw(rt, "id")}).Draw(rt, "which id"),
				Title:      text.Draw(rt, "title"),
				Categories: rapid.SliceOfN(text, 0, 6).Draw(rt, "categories"),
				Evidence: event.Evidence{SimilarLast: number.Draw(rt, "similar"), Together: number.Draw(rt, "together"),
					Popularity: rapid.Int().Draw(rt, "popularity")},
			})
		}
		for i := range rapid.IntRange(0, 24).Draw(rt, "likes") {
			c.History = append(c.History, event.HistoryItem{ItemID: "h" + strconv.Itoa(i), Title: text.Draw(rt, "like")})
			c.Chains = append(c.Chains, event.Chain{
				Via:       rapid.SampledFrom([]string{"h" + strconv.Itoa(i), "gone", text.Draw(rt, "via")}).Draw(rt, "which"),
				Neighbour: "n", ItemID: "c" + strconv.Itoa(i), Shared: rapid.Int().Draw(rt, "shared"),
			})
		}
		checkRoundTrip(rt, c, rapid.Uint64().Draw(rt, "seed"))
	})
}

// FuzzTitles is the same for one text in every place of a prompt that a text from outside can reach.
func FuzzTitles(f *testing.F) {
	for i, s := range hostileTexts(f) {
		f.Add(s, uint64(i))
	}
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		checkRoundTrip(t, event.Context{
			History:    []event.HistoryItem{{ItemID: "h", Title: s}, {ItemID: "i" + s, Title: ""}},
			Candidates: []event.Candidate{{ItemID: "a", Title: s, Categories: []string{s, s + s}}, {ItemID: s}, {ItemID: "b", Title: "Heat"}},
			Chains:     []event.Chain{{Via: "h", Neighbour: s, ItemID: "a"}, {Via: s, Neighbour: s, ItemID: "b", Shared: 2}, {Via: "h", ItemID: s}},
		}, seed)
	})
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// checkRoundTrip builds a context with room for everything and wants each text back, cleaned, at its place, and nothing
// else: with every quoted and bracketed text taken out, the prompt is the one of a context with harmless texts.
func checkRoundTrip(t failer, c event.Context, seed uint64) {
	t.Helper()
	p, err := build(Words, c, seed, 1<<20)
	if err != nil {
		t.Fatalf("%v", err)
	}
	got, err := parse(p.Text)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Text)
	}
	if diff := cmp.Diff(p.Content, got); diff != "" {
		t.Fatalf("what Build put in and what Parse found:\n%s", diff)
	}
	if len(got.Candidates) != len(c.Candidates) || len(got.Likes) != min(len(c.History), layouts[Words].likes) {
		t.Fatalf("%d candidates and %d likes went in, %d and %d came out:\n%s", len(c.Candidates), len(c.History), len(got.Candidates), len(got.Likes), p.Text)
	}
	digits := layouts[Words].digits(c)
	for i, it := range c.Candidates {
		line := got.Candidates[p.Letters[i]-'A']
		if line.Title != title(it.Title, it.ItemID) || line.Digits != digits[i] {
			t.Fatalf("%q with %v came out as %q with %v", it.Title, digits[i], line.Title, line.Digits)
		}
		var categories []string
		for _, name := range it.Categories {
			if name = cleanCategory(name); name != "" && len(categories) < maxCategories {
				categories = append(categories, name)
			}
		}
		if !slices.Equal(line.Categories, categories) {
			t.Fatalf("categories %q came out as %q", it.Categories, line.Categories)
		}
	}
	for i, like := range got.Likes {
		if like != title(c.History[i].Title, c.History[i].ItemID) {
			t.Fatalf("like %q came out as %q", c.History[i].Title, like)
		}
	}
	for _, ch := range got.Chains {
		from := c.Chains[ch.Number-1]
		if from.ItemID != c.Candidates[p.Order[ch.Letter-'A']].ItemID || ch.Like > 0 && c.History[ch.Like-1].ItemID != from.Via {
			t.Fatalf("chain %+v came out as %+v", from, ch)
		}
	}
	if strings.Count(strings.ToLower(p.Text), strings.ToLower(answer)) != 1 {
		t.Fatalf("%q stands more than once in\n%s", answer, p.Text)
	}
	if bare, want := withoutTexts(p.Text), harmless(p.Content).render(); bare != want {
		t.Fatalf("outside of its quotes and brackets the prompt differs from a harmless one:\n%s", cmp.Diff(want, bare))
	}
	if small, err := Build(Words, c, seed); err != nil || len(small.Text) > MaxBytes {
		t.Fatalf("%d bytes, error %v", len(small.Text), err)
	} else if _, err := Parse(small.Text); err != nil {
		t.Fatalf("%v\n%s", err, small.Text)
	}
}

// withoutTexts replaces what stands between quotes or brackets, up to the line's end where they are not closed, by x.
func withoutTexts(text string) string {
	var b strings.Builder
	closing := rune(0)
	for _, r := range text {
		switch {
		case closing != 0 && r != closing && r != '\n':
			continue
		case closing != 0:
			closing = 0
			b.WriteRune(r)
		case r == '"' || r == '[':
			closing = map[rune]rune{'"': '"', '[': ']'}[r]
			b.WriteString(string(r) + "x")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// harmless is a content with every text replaced by x.
func harmless(c Content) *Content {
	h := Content{Version: c.Version}
	for range c.Likes {
		h.Likes = append(h.Likes, "x")
	}
	for _, line := range c.Chains {
		line.Title = "x"
		h.Chains = append(h.Chains, line)
	}
	for _, line := range c.Candidates {
		line.Title = "x"
		if line.Categories != nil {
			line.Categories = []string{"x"}
		}
		h.Candidates = append(h.Candidates, line)
	}
	return &h
}

// FuzzParse: of whatever Parse accepts, Build writes the same bytes for some context, so that it accepts nothing else.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"usual", "cold", "hostile", "figures", "fullfigures"} {
		text, err := os.ReadFile("testdata/" + name + ".prompt.txt")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	one := "\n" + layouts[Words].heading + "\nA. \"x\" [y] 09090909\n\n" + replyLine(1) + "\nAnswer:"
	f.Add(task + one)
	f.Add(task + "\n" + likesHeading + "\n1. \"h\"\n\n" + chainsHeading + "\n1. 1>2>A\n9. \"i\">0>A\n" + one)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Build(s.Version, contextOf(s), 9)
		if err != nil {
			t.Fatal(err)
		}
		if again.Text != text {
			t.Fatalf("accepted, and of what it says Build makes another text:\n%s", cmp.Diff(text, again.Text))
		}
		if diff := cmp.Diff(s, again.Content); diff != "" {
			t.Fatal(diff)
		}
	})
}

// contextOf is a context whose prompt with seed 9 says s.
func contextOf(s Content) event.Context {
	c := event.Context{Candidates: make([]event.Candidate, len(s.Candidates))}
	order := shuffled(len(s.Candidates), 9)
	for j, line := range s.Candidates {
		value := func(k int) float64 { // whose digit is Digits[k]
			if d := float64(line.Digits[k]); d == 9 {
				return 10
			} else if d > 0 {
				return d + .5
			}
			return 0
		}
		e := event.Evidence{
			LikeMindedRecent: [3]float64{2: value(0)}, SimilarLast: value(1), After: [3]float64{value(2)}, Together: value(3),
			Recent: [3]float64{1: value(4)}, Popularity: int(2 * value(5)), Ages: [4]float64{3: value(6)}, Category: value(7),
		}
		if s.Version == FullFigures {
			e = event.Evidence{
				LikeMindedRecent: [3]float64{2: value(0)}, SimilarLast: value(1), After: [3]float64{value(2)}, Together: value(3), Near: [3]float64{1: value(4)},
				Recent: [3]float64{1: value(5)}, RecentAny: [3]float64{1: value(6)}, Popularity: int(2 * value(7)), Ages: [4]float64{3: value(8)},
				Category: value(9), Latent: [2]float64{value(10), value(11)},
			}
			c.Draw = float64(line.Digits[12]) / 9
		}
		c.Candidates[order[j]] = event.Candidate{ItemID: "c" + strconv.Itoa(j), Title: line.Title, Categories: line.Categories, Evidence: e}
	}
	const hidden = "\u200b" // no cleaned title holds it, so that no title is taken for one of these ids
	for i, t := range s.Likes {
		c.History = append(c.History, event.HistoryItem{ItemID: hidden + strconv.Itoa(i+1), Title: t})
	}
	for _, line := range s.Chains {
		for len(c.Chains) < line.Number-1 {
			c.Chains = append(c.Chains, event.Chain{ItemID: "elsewhere"})
		}
		ch := event.Chain{Via: line.Title, Shared: line.Shared, ItemID: "c" + strconv.Itoa(int(line.Letter-'A'))}
		if line.Like > 0 {
			ch.Via = hidden + strconv.Itoa(line.Like)
		}
		c.Chains = append(c.Chains, ch)
	}
	return c
}

func TestParseRefusesWhatBuildDoesNotWrite(t *testing.T) {
	good := mustBuild(t, load(t, "usual"), 1).Text
	for name, damage := range map[string][2]string{
		"added line":           {"\nB. ", "\nThe answer is C.\nB. "},
		"letter twice":         {"\nB. ", "\nA. "},
		"letter missing":       {"\nC. ", "\nD. "},
		"no task":              {"Choose", "Take"},
		"text before the task": {"Choose", "x\n\nChoose"},
		"likes twice":          {"\n\nChains", "\n\n" + likesHeading + "\n1. \"M\"\n\nChains"},
		"section twice":        {chainsHeading, layouts[Words].heading},
		"unknown section":      {"\n\nChains", "\n\nNotes:\n1. \"M\"\n\nChains"},
		"like out of turn":     {"\n2. ", "\n3. "},
		"chain to nowhere":     {"1. 6>3>", "1. 6>3>U"},
		"chain from nowhere":   {"1. 6>3>", "1. 21>3>"},
		"chain from zero":      {"1. 6>3>", "1. 0>3>"},
		"chain out of turn":    {"\n2. 18>", "\n1. 18>"},
		"leading zero":         {"1. 6>3>", "1. 6>03>"},
		"digit too few":        {"] 0", "] "},
		"digit too many":       {"] 0", "] 00"},
		"a space more":         {"] 0", "]  0"},
		"text after answer":    {"\nAnswer:", "\nAnswer: A"},
		"line after the reply": {"\nAnswer:", "\n\nAnswer:"},
		"control character":    {`"Star`, "\"\u202eStar"},
		"title not clean":      {`"Star`, `"|Star`},
		"via not clean":        {`"The Fugitive`, `"The |Fugitive`},
		"title too long":       {`"Star`, `"Star` + strings.Repeat("y", maxTitleRunes)},
		"category not clean":   {"[", "[ "},
		"too many categories":  {"[", "[a, b, c, "},
		"too many likes":       {"20. \"Braveheart (1995)\"", "20. \"Braveheart (1995)\"\n21. \"M\""},
		"too many chains":      {"\n\nCandidates", "\n21. 1>1>A\n\nCandidates"},
		"other digits":         {"with digits", "with nine digits"},
	} {
		bad := strings.Replace(good, damage[0], damage[1], 1)
		if bad == good {
			t.Fatalf("%s: the prompt has no %q", name, damage[0])
		}
		if got, err := Parse(bad); err == nil || got.Candidates != nil {
			t.Errorf("%s: parsed without an error", name)
		}
	}
	for name, digits := range map[string]string{"no candidate has 9": "08000000", "too few": "0000000", "of another script": "٠٠٠٠٠٠٠٠"} {
		if _, err := Parse(task + "\n" + layouts[Words].heading + "\nA. \"x\" " + digits + "\n\n" + replyLine(1) + "\nAnswer:"); err == nil {
			t.Errorf("digits %s: parsed without an error", name)
		}
	}
	two := strings.Replace(mustBuild(t, small(), 1).Text, ">A\n", ">D\n", 1)
	if _, err := Parse(two); err == nil {
		t.Errorf("a chain leads to a letter that no candidate has, parsed without an error:\n%s", two)
	}
	for name, text := range map[string]string{"nothing": "", "no candidates": task + "\n" + replyLine(0) + "\nAnswer:", "only the task": task} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%s: parsed without an error", name)
		}
	}
}

// TestAChainNamesTheLikeThatIsListed, also where the history holds an item twice under two titles.
func TestAChainNamesTheLikeThatIsListed(t *testing.T) {
	c := small()
	for range layouts[Words].likes {
		c.History = append(c.History, event.HistoryItem{ItemID: "1", Title: "Toy Story 2"})
	}
	p := mustBuild(t, c, 1)
	if diff := cmp.Diff(p.Content, mustParse(t, p.Text)); diff != "" {
		t.Error(diff)
	}
	c.History[len(c.History)-1].Title = "Not listed"
	if got := mustBuild(t, c, 1).Content.Chains[0]; got.Title != "Toy Story 2" || got.Like != layouts[Words].likes {
		t.Errorf("the chain starts from %+v", got)
	}
}

// TestChainsBeyondFourDigitsAreLeftOut: Parse could not read their numbers.
func TestChainsBeyondFourDigitsAreLeftOut(t *testing.T) {
	c := small()
	last := c.Chains[0]
	c.Chains = append(make([]event.Chain, maxNumber-1), last, last)
	if got := mustParse(t, mustBuild(t, c, 1).Text).Chains; len(got) != 1 || got[0].Number != maxNumber {
		t.Errorf("the prompt has the chains %+v", got)
	}
}

func TestParseKeepsTheBudget(t *testing.T) {
	c := load(t, "usual")
	for i := range c.Candidates {
		c.Candidates[i].Title = strings.Repeat("千", maxTitleRunes)
	}
	p, err := build(Words, c, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(p.Text); err == nil || len(p.Text) <= MaxBytes {
		t.Errorf("%d bytes parsed without an error", len(p.Text))
	}
}
