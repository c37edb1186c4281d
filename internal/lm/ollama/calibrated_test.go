package ollama

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/r2rec/r2rec/internal/lm"
)

// TestCalibratedRanksByWhatThePromptAdds plays a model that answers A to everything, a little less so if the prompt
// favours another letter, and whose weights change in between.
func TestCalibratedRanksByWhatThePromptAdds(t *testing.T) {
	var neutral, digest atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/tags" {
			fmt.Fprintf(w, `{"models":[{"name":"m","digest":"d%d"}]}`, digest.Load())
			return
		}
		body, _ := io.ReadAll(r.Body)
		logprobs := []float64{-.1, -4, -5}
		if strings.Contains(string(body), "N/A") {
			neutral.Add(1)
		} else {
			logprobs = []float64{-.1, -4, -4.5}
		}
		var top []map[string]any
		for i, l := range logprobs {
			top = append(top, map[string]any{"token": " " + string(rune('A'+i)), "logprob": l})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"done": true, "logprobs": []any{map[string]any{"top_logprobs": top}}})
	})
	client := mustNew(t, Options{BaseURL: server.URL, Model: "m"})
	c := lm.NewCalibrated(client)
	p := prompt(t, 3)
	for range 3 {
		got, err := c.Rank(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		checkShares(t, got, 3)
		of := func(letter byte) float64 { return got[p.Order[letter-'A']] }
		if math.Abs(of('C')-of('A')-.5) > 1e-9 || math.Abs(of('B')-of('A')) > 1e-9 {
			t.Errorf("log-shares %v in the order %s", got, p.Letters)
		}
	}
	if neutral.Load() != 1 {
		t.Errorf("asked for the bias %d times with the same weights", neutral.Load())
	}
	digest.Add(1)
	for range 2 {
		if _, err := c.Rank(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if neutral.Load() != 2 {
		t.Errorf("asked for the bias %d times with two sets of weights", neutral.Load())
	}
	if bare, err := client.Rank(t.Context(), p); err != nil || bare[p.Order[0]] < -.2 {
		t.Errorf("without calibration: %v, %v", bare, err)
	}
}
