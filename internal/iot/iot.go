// Package iot turns what the graph knows about one user into text, and text back into what can be checked: the
// interaction-of-thought of R2Rec (arXiv 2506.05069).
//
// Build renders a context (history, candidates with their evidence, chains) as the prompt of a language model. Explain
// finds a thought from the chains, Faithful keeps of it what the ranking was measured to rest on, Check drops every step
// of a thought that the context does not bear out, and Reasons turns what is left into the words that an app shows.
//
// What it promises:
//   - The same context and seed always give the same bytes, for serving, training and evaluation alike, so that a
//     logged decision can be computed again.
//   - Titles and categories are data. Whatever they hold, a prompt has exactly the lines that Build put in, and Parse
//     finds them again; see Clean.
//   - A candidate's line ends in its last digit, at a byte that Content.Ends states, and whatever it is judged by stands
//     before that: one pass of a causal model can score every candidate at the end of its line.
//   - No other user's id appears in a prompt, a thought or a reason.
//
// What it leaves to others: choosing candidates and chains (the graph), reading a ranking out of a model (internal/lm),
// and drawing the slate (the reasoner). It reads no clock and no global randomness.
package iot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/r2rec/r2rec/internal/event"
)

// Versions of prompts: layout, bounds and budget. Whenever the same context and seed would give other bytes, that is
// another version. A model reads the version that it was trained on.
const (
	Words    = 1 // likes, chains, and candidates with title, categories and digits: for models that know words
	Figures  = 2 // candidates with nothing but digits: for small models, which read evidence and nothing else
	Thoughts = 3 // as Words, shorter, for models that say why before they answer: see Prompt.Thinking
	// FullFigures is as Figures, with digits of more evidence, latent factors among it.
	FullFigures = 4
)

// Worded tells whether a version's prompts have titles, likes and chains.
func Worded(version int) bool { l := layouts[version]; return l != nil && l.worded }

// Factored tells whether a version's prompts show latent factors.
func Factored(version int) bool { l := layouts[version]; return l != nil && l.factored }

// MaxCandidates is the most candidates that a prompt holds: the letters A to T.
const MaxCandidates = 20

// MaxBytes is the budget of a prompt of this version. It counts bytes because that is a bound for every tokenizer: one
// that falls back to bytes never makes more tokens than bytes (English takes one for three to four). So a model with a
// context of 4096 tokens reads every prompt, and has 96 left for its own marks and the answer.
const MaxBytes = 4000

var (
	// ErrCandidates says that a context has no candidates, or more than there are letters.
	ErrCandidates = errors.New("a prompt holds 1 to 20 candidates")
	// ErrVersion says that nobody here knows how to write such a prompt.
	ErrVersion = errors.New("prompts have version 1 (words), 2 (figures), 3 (thoughts) or 4 (full figures)")
)

// Prompt is a rendered context, and how to read an answer to it.
type Prompt struct {
	Version int
	Text    string  // ends in "Answer:", so that the next token is a letter
	Content Content // what Text says, and where its candidates' lines end; Parse(Text) gives the same
	Letters []byte  // Letters[i] is the letter of the context's candidate i, 'A' to 'T'
	Order   []int   // Order[j] is the index of the candidate that has letter 'A'+j
	Digest  string  // SHA-256 of Text, in lower-case hexadecimal
}

// Build renders a version of the prompt of a context. The seed shuffles the candidates, so that their order says nothing.
// Nothing else goes in: a decision's context, seed and prompt version give its prompt again.
//
// Titles are shortened to 60 runes, and of each kind only the first few are taken: 20 likes, 20 chains (those that lead
// to a candidate), 3 categories a candidate; of Thoughts 40 runes, 10 likes, 12 chains and no categories. If that is over MaxBytes, parts are left out until it fits: chains from
// the weakest on, likes from the oldest on, then all categories, then titles are halved. Candidates and their digits
// are never left out. The error is ErrCandidates or ErrVersion.
func Build(version int, c event.Context, seed uint64) (Prompt, error) {
	return build(version, c, seed, MaxBytes)
}

// build is Build with another budget. One that not even the shortest candidates fit into is overrun: 20 of them need
// less than half of MaxBytes.
func build(version int, c event.Context, seed uint64, budget int) (Prompt, error) {
	n := len(c.Candidates)
	l := layouts[version]
	if l == nil {
		return Prompt{}, fmt.Errorf("build prompt of version %d: %w", version, ErrVersion)
	}
	if n < 1 || n > MaxCandidates {
		return Prompt{}, fmt.Errorf("build prompt of %d candidates: %w", n, ErrCandidates)
	}
	p := Prompt{Version: version, Letters: make([]byte, n), Order: shuffled(n, seed)}
	for j, i := range p.Order {
		p.Letters[i] = letter(j)
	}
	p.Content = contentOf(c, p)
	p.Text = p.Content.render()
	for titles := l.titleRunes; len(p.Text) > budget && p.Content.shrink(&titles); {
		p.Text = p.Content.render()
	}
	p.Digest = digest(p.Text)
	return p, nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// ContentFree renders a version of the prompt that says nothing about any of its n candidates: every title is "N/A" and every digit 0.
// A model's answer to it is the bias that contextual calibration takes away (Zhao et al. 2021, "Calibrate before use").
func ContentFree(version, n int) (Prompt, error) {
	const nothing = "N/A"
	c := event.Context{History: []event.HistoryItem{{Title: nothing}}, Candidates: make([]event.Candidate, n)}
	for i := range c.Candidates {
		c.Candidates[i].Title = nothing
	}
	return Build(version, c, 0)
}

// letter is the letter of line j.
func letter(j int) byte { return 'A' + byte(j) }

// shuffled is a permutation of 0 to n-1. The draw is spelled out (Fisher-Yates over PCG-DXSM) because logged decisions
// have to be computed again years later, which rand.Shuffle does not promise. The bias of the multiplication is below
// n/2^64.
func shuffled(n int, seed uint64) []int {
	const stream = 0x696f74 // "iot": other draws from the same seed are independent of this one
	source := rand.NewPCG(seed, stream)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j, _ := bits.Mul64(source.Uint64(), uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	return order
}
