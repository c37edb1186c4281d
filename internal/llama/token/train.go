package token

import (
	"container/heap"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// TrainOptions shape a new vocabulary.
type TrainOptions struct {
	Pre      string   // pre-tokenizer; default "smollm"
	Special  []string // control tokens, which get the first ids; the first becomes BOS, EOS and PAD; default "<|endoftext|>"
	Required []string // texts that must be one token each, as " yes"; each has to be one word of the pre-tokenizer
	MinCount int      // pairs that are seen less often are not joined; default 2
}

// maxTrainWord is the length in bytes after which a word is cut for counting: no token should be that long, and one word
// of a megabyte would cost its length for every merge.
const maxTrainWord = 128

// Train makes a vocabulary of at most size tokens for texts like these: the special tokens, the 256 bytes, and then one
// token for each merge, always of the pair of neighbours that is seen most often (Sennrich et al. 2016). Among pairs seen
// equally often the one of the lower ids goes first, so that the same texts give the same vocabulary in whatever order
// they come. It covers any text, and is smaller than size where no pair is seen MinCount times any more.
//
// Merges that only Required asks for come last, and so change other words the least.
func Train(texts iter.Seq[string], size int, o TrainOptions) (Vocabulary, error) {
	if o.Pre == "" {
		o.Pre = "smollm"
	}
	if o.Special == nil {
		o.Special = []string{"<|endoftext|>"}
	}
	if o.MinCount == 0 {
		o.MinCount = 2
	}
	if o.MinCount < 0 {
		return Vocabulary{}, fmt.Errorf("train a tokenizer: MinCount is %d: want 1 or more", o.MinCount)
	}
	pre, err := preTokenizerOf(Vocabulary{Model: "gpt2", Pre: o.Pre})
	if err != nil {
		return Vocabulary{}, fmt.Errorf("train a tokenizer: %w", err)
	}
	for _, word := range o.Required {
		if word == "" || len(word) > maxTrainWord || pre.split(word, 0) != len(word) {
			return Vocabulary{}, fmt.Errorf("train a tokenizer: Required has %q: want 1 to %d bytes that the pre-tokenizer %s leaves together",
				word, maxTrainWord, o.Pre)
		}
	}
	t := newTrainer(countWords(texts, pre.split), o)
	if least := len(t.pieces) + t.missing(); size < least {
		return Vocabulary{}, fmt.Errorf("train a tokenizer: size is %d: 256 bytes, %d special and %d required tokens take up to %d",
			size, len(o.Special), len(o.Required), least)
	}
	if err := t.run(size); err != nil {
		return Vocabulary{}, fmt.Errorf("train a tokenizer: %w", err)
	}
	v := t.vocabulary(o)
	if _, err := New(v); err != nil { // special tokens that stand twice, or spell a byte
		return Vocabulary{}, fmt.Errorf("train a tokenizer: %w", err)
	}
	return v, nil
}

func countWords(texts iter.Seq[string], split splitter) map[string]int {
	counts := map[string]int{}
	for text := range texts {
		for i := 0; i < len(text); {
			end := min(split(text, i), i+maxTrainWord)
			word := text[i:end]
			if _, ok := counts[word]; !ok {
				word = strings.Clone(word) // a part of the text would keep all of it
			}
			counts[word]++
			i = end
		}
	}
	return counts
}

// trainer holds the words of the texts in the tokens they consist of so far.
type trainer struct {
	minCount int
	special  int
	pieces   []string // by id
	taken    map[string]bool
	merges   []pair
	words    []trainWord
	required []int // places in words
	pairs    map[pair]*pairUse
	queue    pairQueue
}

type pair struct{ left, right int32 }

type trainWord struct {
	tokens []int32
	count  int
}

type pairUse struct {
	count int
	words []int32 // places of the words that have or had the pair
}

func newTrainer(counts map[string]int, o TrainOptions) *trainer {
	t := &trainer{minCount: o.MinCount, special: len(o.Special), taken: map[string]bool{}, pairs: map[pair]*pairUse{}}
	for _, text := range o.Special {
		t.pieces = append(t.pieces, text)
		t.taken[text] = true
	}
	for b := range 256 {
		t.pieces = append(t.pieces, string([]byte{byte(b)}))
	}
	for _, word := range o.Required {
		counts[word] += 0
	}
	places := make(map[string]int, len(counts))
	for i, word := range slices.Sorted(maps.Keys(counts)) {
		places[word] = i
		w := trainWord{make([]int32, len(word)), counts[word]}
		for k := range len(word) {
			w.tokens[k] = int32(t.special) + int32(word[k])
		}
		t.words = append(t.words, w)
		for p := range w.pairs() {
			t.count(p, int32(i))
		}
	}
	for _, word := range o.Required {
		t.required = append(t.required, places[word])
	}
	for p, use := range t.pairs {
		t.queue = append(t.queue, counted{p, use.count})
	}
	heap.Init(&t.queue)
	return t
}

func (w trainWord) pairs() iter.Seq[pair] {
	return func(yield func(pair) bool) {
		for i := 1; i < len(w.tokens); i++ {
			if !yield(pair{w.tokens[i-1], w.tokens[i]}) {
				return
			}
		}
	}
}

// count adds a pair of the word at this place.
func (t *trainer) count(p pair, place int32) {
	use := t.pairs[p]
	if use == nil {
		use = &pairUse{}
		t.pairs[p] = use
	}
	use.count += t.words[place].count
	if n := len(use.words); n == 0 || use.words[n-1] != place {
		use.words = append(use.words, place)
	}
}

// run joins pairs until there are size tokens or nothing is left to join.
func (t *trainer) run(size int) error {
	for len(t.pieces) < size {
		missing := t.missing()
		if len(t.pieces)+missing < size {
			if p, ok := t.best(); ok {
				t.join(p)
				continue
			}
		}
		if missing == 0 {
			return nil
		}
		for _, i := range t.required {
			if tokens := t.words[i].tokens; len(tokens) > 1 {
				p := pair{tokens[0], tokens[1]}
				if t.isTaken(p) {
					return fmt.Errorf("a required token needs the token %q, which is a special one", t.text(p))
				}
				t.join(p)
				break
			}
		}
	}
	return nil
}

// missing returns how many merges at most make one token of each required word.
func (t *trainer) missing() int {
	n := 0
	for _, i := range t.required {
		n += len(t.words[i].tokens) - 1
	}
	return n
}

// best takes the pair that is seen most often off the queue.
func (t *trainer) best() (pair, bool) {
	for len(t.queue) > 0 {
		top := heap.Pop(&t.queue).(counted)
		count := t.pairs[top.pair].count
		switch {
		case count < t.minCount || t.isTaken(top.pair):
		case count < top.count: // other merges took some since
			heap.Push(&t.queue, counted{top.pair, count})
		default:
			return top.pair, true
		}
	}
	return pair{}, false
}

func (t *trainer) text(p pair) string { return t.pieces[p.left] + t.pieces[p.right] }

// isTaken tells whether the token that the pair would make is written as a special one is.
func (t *trainer) isTaken(p pair) bool { return t.taken[written(t.text(p))] }

// join makes a token of the pair, everywhere.
func (t *trainer) join(p pair) {
	id := int32(len(t.pieces))
	t.pieces = append(t.pieces, t.text(p))
	t.merges = append(t.merges, p)
	made := map[pair]bool{}
	for _, place := range t.pairs[p].words {
		w := &t.words[place]
		for old := range w.pairs() {
			t.pairs[old].count -= w.count
		}
		w.tokens = replace(w.tokens, p, id)
		for now := range w.pairs() {
			if now.left == id || now.right == id {
				t.count(now, place)
				made[now] = true
			} else {
				t.pairs[now].count += w.count
			}
		}
	}
	t.pairs[p].words = nil
	for now := range made {
		heap.Push(&t.queue, counted{now, t.pairs[now].count})
	}
}

// replace puts id in the place of every pair, from the left, and returns what is left of tokens.
func replace(tokens []int32, p pair, id int32) []int32 {
	out := tokens[:0]
	for i := 0; i < len(tokens); i++ {
		if i+1 < len(tokens) && tokens[i] == p.left && tokens[i+1] == p.right {
			out = append(out, id)
			i++
		} else {
			out = append(out, tokens[i])
		}
	}
	return out
}

func (t *trainer) vocabulary(o TrainOptions) Vocabulary {
	v := Vocabulary{Model: "gpt2", Pre: o.Pre, BOS: None, EOS: None, EOT: None, EOM: None, UNK: None, PAD: None}
	if t.special > 0 {
		v.BOS, v.EOS, v.PAD = 0, 0, 0
	}
	for i, piece := range t.pieces {
		if i < t.special {
			v.Tokens, v.Types = append(v.Tokens, piece), append(v.Types, Control)
		} else {
			v.Tokens, v.Types = append(v.Tokens, written(piece)), append(v.Types, Normal)
		}
	}
	for _, p := range t.merges {
		v.Merges = append(v.Merges, v.Tokens[p.left]+" "+v.Tokens[p.right])
	}
	return v
}

type counted struct {
	pair
	count int
}

// pairQueue is a heap with the pair on top that is to be joined next. The counts in it may be out of date.
type pairQueue []counted

func (q pairQueue) Len() int      { return len(q) }
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(counted)) }
func (q *pairQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

func (q pairQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.count != b.count:
		return a.count > b.count
	case a.left != b.left:
		return a.left < b.left
	}
	return a.right < b.right
}
