package token

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// A real Ollama answers with the tokens of the prompt and of what it generated after it, special tokens parsed.
func TestTokensOfOllama(t *testing.T) {
	server, name := embeddedtest.RealOllama(t), os.Getenv("R2REC_TEST_MODEL")
	tok := model(t)
	texts := []string{
		"It's DON'T we'LL they'VE I'm he'd 'tis rock 'n' roll ''s",
		"1 12 123 1234 12345 3.14159 1,000,000 2024-01-31 0x1F ½ ٣٤٥ Ⅷ ２０２４",
		"a  b   c\t\td\n\ne \n f\r\ng \r\n\r\n  h    \n\n\n   i ",
		"   leading and trailing   ", "\n\n\t", "x  5  6\t7\n8  ", "\u00a0a\u2003b\u3000c\u0085d\u1680",
		"for (int i = 0; i < n; ++i) { a[i] += b[i] * 0.5f; }  // done\n\treturn a != NULL && *a >= 3;\n",
		"def f(x):\n    \"\"\"Doc.\"\"\"\n    return {**x, 'k': [1, 2.0, None]}\n",
		"😀😀 👩‍👩‍👧 🇦🇹 ❤️ e\u0301 \u200d ☃ ∑ € £ ™ … — «»",
		"東京タワー 서울 Москва Αθήνα مرحبا שלום हिन्दी ไทย \U0002EBF0\U0002EE5D",
		"<|im_start|>user\nHi<|im_end|><|endoftext|> <|im_start <repo_name>x<reponame>",
		"A\x04B\x06C\x13D\x14 E\x1d\x1dF\x7f\x01", "\ufffd\ufffd a\ufffd", "\ue000\U000E0001\U000F0000",
		"Liked: Amélie (2001); WALL·E (2008)\nA. Se7en (1995)\nB. M*A*S*H (1970)\nAnswer: ",
		strings.Repeat("a", 100) + strings.Repeat(" ", 70) + strings.Repeat("=", 80) + strings.Repeat("é", 40),
		usualPrompt(t)[:395],
	}
	r := rand.New(rand.NewPCG(17, 18))
	for range 5 {
		// Invalid UTF-8 does not survive JSON, and a NUL ends a text of llama.cpp.
		texts = append(texts, strings.ReplaceAll(strings.ToValidUTF8(randomText(r, 40), ""), "\x00", ""))
	}
	for _, text := range texts {
		response, want := ollamaTokens(t, server, name, text)
		if got := tok.Encode(text+response, Options{ParseSpecial: true}); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text+response, got, want)
		}
	}
}

func ollamaTokens(t *testing.T, server, model, prompt string) (response string, tokens []int32) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"model": model, "prompt": prompt, "template": "{{ .Prompt }}", "stream": false,
		"options": map[string]any{"num_predict": 1, "temperature": 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/api/generate", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(res.Body)
		t.Fatalf("%s for %q: %s", res.Status, prompt, why)
	}
	var answer struct {
		Response string
		Context  []int32
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Response, answer.Context
}
