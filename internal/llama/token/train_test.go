package token

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// naiveTrain counts all pairs of all words again for every merge.
func naiveTrain(texts []string, split splitter, size int) (merges []string) {
	words := map[string][]string{}
	counts := countWords(slices.Values(texts), split)
	for word := range counts {
		for i := range len(word) {
			words[word] = append(words[word], word[i:i+1])
		}
	}
	order := map[string]int{} // ids without special tokens
	for b := range 256 {
		order[string([]byte{byte(b)})] = b
	}
	for len(order) < size {
		pairs := map[[2]string]int{}
		for word, symbols := range words {
			for i := 1; i < len(symbols); i++ {
				pairs[[2]string{symbols[i-1], symbols[i]}] += counts[word]
			}
		}
		var best [2]string
		most := 1
		for p, n := range pairs {
			first := order[p[0]] < order[best[0]] || order[p[0]] == order[best[0]] && order[p[1]] < order[best[1]]
			if n > most || n == most && n > 1 && first {
				best, most = p, n
			}
		}
		if most == 1 {
			break
		}
		order[best[0]+best[1]] = len(order)
		merges = append(merges, written(best[0])+" "+written(best[1]))
		for word, symbols := range words {
			for i := 0; i+1 < len(symbols); i++ {
				if symbols[i] == best[0] && symbols[i+1] == best[1] {
					symbols = slices.Replace(symbols, i, i+2, best[0]+best[1])
				}
			}
			words[word] = symbols
		}
	}
	return merges
}

func TestTrainJoinsThePairThatIsSeenMost(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 10 {
		texts := []string{usualPrompt(t)[:800]}
		for range 40 {
			texts = append(texts, strings.Repeat("a", r.IntN(9))+randomText(r, 10))
		}
		v, err := Train(slices.Values(texts), 380, TrainOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if want := naiveTrain(texts, splitSmolLM, 379); !slices.Equal(v.Merges, want) {
			t.Fatalf("merges %q, want %q", v.Merges, want)
		}
	}
}

func TestTrainIsDeterministic(t *testing.T) {
	texts := strings.SplitAfter(usualPrompt(t), "\n")
	first, err := Train(slices.Values(texts), 500, TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(texts)
	second, err := Train(slices.Values(texts), 500, TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := mustNew(t, first).Digest(), mustNew(t, second).Digest(); a != b {
		t.Errorf("the same texts in another order give another vocabulary")
	}
}

func TestTrainedVocabulary(t *testing.T) {
	for _, pre := range preNames {
		required := []string{" yes", " no", " unprecedented", " unpre", "<|", "\n"}
		v, err := Train(slices.Values([]string{usualPrompt(t)}), 450, TrainOptions{
			Pre: pre, Special: []string{"<|endoftext|>", "<|im_start|>"}, Required: required, MinCount: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		tok := mustNew(t, v)
		if tok.Size() != 450 {
			t.Errorf("%s: %d tokens, want 450", pre, tok.Size())
		}
		if v.BOS != 0 || v.EOS != 0 || v.PAD != 0 || v.UNK != None || v.AddBOS || v.Tokens[0] != "<|endoftext|>" || v.Types[1] != Control {
			t.Errorf("%s: BOS %d, EOS %d, PAD %d, UNK %d", pre, v.BOS, v.EOS, v.PAD, v.UNK)
		}
		if missing := tok.MissingBytes(); len(missing) > 0 {
			t.Errorf("%s: no tokens for the bytes %v", pre, missing)
		}
		for _, word := range required {
			if got := tok.Encode(word, Options{}); len(got) != 1 {
				t.Errorf("%s: %q is %d tokens, want 1", pre, word, len(got))
			}
		}
		for id := int32(2); int(id) < tok.Size(); id++ {
			if got := tok.mergeWord(nil, tok.Piece(id)); !slices.Equal(got, []int32{id}) {
				t.Errorf("%s: the token %d (%q) is encoded as %v: nothing can become it", pre, id, tok.Piece(id), got)
			}
		}
		plain, err := Train(slices.Values([]string{usualPrompt(t)}), 400, TrainOptions{Pre: pre, Special: []string{"<|endoftext|>", "<|im_start|>"}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(v.Merges[:100], plain.Merges[:100]) {
			t.Errorf("%s: required tokens change the first merges", pre)
		}
	}
}

// Only what is seen often enough becomes a token, and text that spells a special token never does.
func TestTrainStops(t *testing.T) {
	v, err := Train(slices.Values([]string{"ab ab ab cd cd ef"}), 1000, TrainOptions{MinCount: 2})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a b", "Ġ c", "Ġ ab", "Ġc d"}; !slices.Equal(v.Merges, want) {
		t.Errorf("merges %q, want %q", v.Merges, want)
	}
	v, err = Train(slices.Values([]string{strings.Repeat("a", 4*maxTrainWord)}), 1000, TrainOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if longest := v.Tokens[len(v.Tokens)-1]; len(longest) != maxTrainWord {
		t.Errorf("the longest token has %d bytes, want %d", len(longest), maxTrainWord)
	}
	v, err = Train(slices.Values([]string{strings.Repeat(" end", 9)}), 1000, TrainOptions{Special: []string{"end", "Ġend"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range mustNew(t, v).Encode(" end", Options{}) {
		if id < 2 {
			t.Errorf("text becomes the special token %q", v.Tokens[id])
		}
	}
}

func TestTrainNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		o    TrainOptions
		want string
	}{
		"too small":             {256, TrainOptions{}, "size is 256: 256 bytes, 1 special and 0 required tokens take up to 257"},
		"too small for words":   {259, TrainOptions{Required: []string{" yes"}}, "take up to 260"},
		"another pre-tokenizer": {500, TrainOptions{Pre: "tekken"}, `"tekken"`},
		"two words":             {500, TrainOptions{Required: []string{"yes no"}}, `Required has "yes no"`},
		"two digits":            {500, TrainOptions{Required: []string{"12"}}, `Required has "12"`},
		"an empty word":         {500, TrainOptions{Required: []string{""}}, `Required has ""`},
		"a special byte":        {500, TrainOptions{Special: []string{"a"}}, `is "a", as tokens`},
		"a special twice":       {500, TrainOptions{Special: []string{"<s>", "<s>"}}, `is "<s>", as tokens`},
		"required and special":  {500, TrainOptions{Special: []string{"end"}, Required: []string{"end"}}, `"end"`},
		"a negative count":      {500, TrainOptions{MinCount: -1}, "MinCount is -1"},
	} {
		if _, err := Train(slices.Values([]string{"a b"}), c.size, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func BenchmarkTrain(b *testing.B) {
	r := rand.New(rand.NewPCG(15, 16))
	words := strings.Fields(usualPrompt(b))
	for range 20000 {
		w := make([]byte, 2+r.IntN(8))
		for i := range w {
			w[i] = "etaoinshrdlu"[min(r.IntN(12), r.IntN(12))]
		}
		words = append(words, string(w))
	}
	var text strings.Builder
	for text.Len() < 4<<20 {
		text.WriteString(words[min(r.IntN(len(words)), r.IntN(len(words)))] + " ")
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := Train(slices.Values([]string{text.String()}), 8192, TrainOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
