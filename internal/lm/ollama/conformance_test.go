package ollama

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

var record = flag.Bool("record", false, "write the answers of the real server under testdata again")

// missingModel is a name that no server has.
const missingModel = "no-such-model:1b"

// TestConformanceRecorded runs the suite against recorded answers of a real server.
func TestConformanceRecorded(t *testing.T) {
	conformance(t, recorded(t).URL, "smollm2:135m-q4_1")
}

// TestConformanceReal runs the same suite against the server at R2REC_TEST_OLLAMA and its model R2REC_TEST_MODEL, both
// of which deploy/dev/up sets.
func TestConformanceReal(t *testing.T) {
	server, model := os.Getenv("R2REC_TEST_OLLAMA"), os.Getenv("R2REC_TEST_MODEL")
	if server == "" || model == "" {
		const why = "R2REC_TEST_OLLAMA and R2REC_TEST_MODEL do not name a real Ollama and its model: deploy/dev/up starts one"
		if os.Getenv("R2REC_REQUIRE_REAL") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if *record {
		server = recorder(t, server).URL
	}
	conformance(t, server, model)
}

// conformance is what a server has to do for a Client, and a Client with it.
func conformance(t *testing.T, server, model string) {
	ctx := t.Context()
	connect := func(o Options) *Client {
		o.BaseURL, o.Timeout = server, 5*time.Minute // a busy machine is no failure here
		if o.Model == "" {
			o.Model = model
		}
		return mustNew(t, o)
	}
	c := connect(Options{})
	usual := prompt(t, 20)

	t.Run("names the model", func(t *testing.T) {
		info, err := c.Describe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != model || info.Family == "" || info.Parameters == "" || info.Quantization == "" {
			t.Errorf("%+v", info)
		}
		who, err := c.Identity(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := hex.DecodeString(who.Digest); err != nil || len(digest) != 32 {
			t.Errorf("digest %q is no SHA-256", who.Digest)
		}
		if who != (event.Model{Name: model, Digest: who.Digest, Readout: "letters", PromptVersion: iot.Words}) {
			t.Errorf("%+v", who)
		}
	})

	t.Run("ranks", func(t *testing.T) {
		letters, err := c.Letters(ctx, usual.Text, 20)
		if err != nil {
			t.Fatal(err)
		}
		checkShares(t, letters.Shares, 20)
		ranked, err := c.Rank(ctx, usual)
		if err != nil {
			t.Fatal(err)
		}
		for i, letter := range usual.Letters {
			// The second time the prompt is in the server's cache, and is evaluated in other batches.
			if got, want := ranked[i], letters.Shares[letter-'A']; math.Abs(got-want) > .05 {
				t.Errorf("candidate %d has log-share %g, its letter %c %g", i, got, letter, want)
			}
		}
	})

	t.Run("ranks few candidates", func(t *testing.T) {
		few := prompt(t, 3)
		ranked, err := c.Rank(ctx, few)
		if err != nil {
			t.Fatal(err)
		}
		checkShares(t, ranked, 3)
	})

	t.Run("ranks calibrated", func(t *testing.T) {
		calibrated := lm.NewCalibrated(c)
		ranked, err := calibrated.Rank(ctx, usual)
		if err != nil {
			t.Fatal(err)
		}
		checkShares(t, ranked, 20)
		bare, err := c.Rank(ctx, usual)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(ranked, bare) {
			t.Error("calibration changed nothing")
		}
	})

	t.Run("has no such model", func(t *testing.T) {
		c := connect(Options{Model: missingModel})
		_, err := c.Describe(ctx)
		_, err2 := c.Letters(ctx, usual.Text, 20)
		for _, err := range []error{err, err2} {
			if !errors.Is(err, lm.ErrModelMissing) || !strings.Contains(err.Error(), "ollama pull "+missingModel) {
				t.Errorf("error %v", err)
			}
		}
	})

	t.Run("refuses what is too long", func(t *testing.T) {
		_, err := connect(Options{NumCtx: 4096}).Letters(ctx, strings.Repeat("one two three ", 2000)+"Answer:", 20)
		if !errors.Is(err, lm.ErrPromptTooLong) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("stops when told", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := c.Letters(ctx, usual.Text, 20)
		if !errors.Is(err, context.Canceled) || errors.Is(err, lm.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

func checkShares(t *testing.T, shares []float64, n int) {
	t.Helper()
	sum := 0.
	for _, s := range shares {
		if math.IsNaN(s) || math.IsInf(s, 0) || s > 0 {
			t.Errorf("log-share %g", s)
		}
		sum += math.Exp(s)
	}
	if len(shares) != n || math.Abs(sum-1) > 1e-9 {
		t.Errorf("%d shares that sum to %g, want %d that sum to 1", len(shares), sum, n)
	}
	if n > 1 && slices.Max(shares) == slices.Min(shares) {
		t.Error("all shares are equal: nothing was read")
	}
}

// prompt is one of n candidates.
func prompt(t testing.TB, n int) iot.Prompt {
	t.Helper()
	films := strings.Split("Toy Story,Heat,Casino,Babe,Seven,Apollo 13,Pulp Fiction,Star Wars,Fargo,Alien,Brazil,The Matrix,GoodFellas,"+
		"Blade Runner,Memento,Chinatown,Titanic,Jaws,Gattaca,Das Boot,Pi,Aliens", ",")
	c := event.Context{History: []event.HistoryItem{{ItemID: "h0", Title: films[20]}, {ItemID: "h1", Title: films[21]}}}
	for i, title := range films[:n] {
		c.Candidates = append(c.Candidates, event.Candidate{ItemID: title, Title: title, Categories: []string{"Film"},
			Evidence: event.Evidence{Chains: float64(i * 7 % n), Recent: [3]float64{1: float64(i * 3 % n)}, Popularity: i, Category: .5}})
	}
	c.Chains = []event.Chain{{Via: "h0", Neighbour: "u", ItemID: films[n-1], Shared: 3, Weight: 1}}
	p, err := iot.Build(iot.Words, c, 11)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustNew(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answerName is the file of testdata that holds the real server's answer to a request of the suite.
func answerName(path string, body []byte) string {
	if path == "/api/tags" {
		return "tags.json"
	}
	var asked struct{ Model, Prompt string }
	_ = json.Unmarshal(body, &asked)
	switch {
	case asked.Model == missingModel:
		return "missing.json"
	case len(asked.Prompt) > iot.MaxBytes:
		return "long.json"
	case strings.Contains(asked.Prompt, `"N/A"`):
		return "neutral.json"
	case strings.Contains(asked.Prompt, "A to C."):
		return "few.json"
	default:
		return "usual.json"
	}
}

// answerStatus is the HTTP status that the real server gave with each answer.
var answerStatus = map[string]int{"missing.json": http.StatusNotFound, "long.json": http.StatusBadRequest}

// recorded plays the recorded answers.
func recorded(t *testing.T) *httptest.Server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		name := answerName(r.URL.Path, body)
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if status := answerStatus[name]; status != 0 {
			w.WriteHeader(status)
		}
		_, _ = w.Write(data)
	})
}

// recorder passes everything on to a real server and writes its answers under testdata.
func recorder(t *testing.T, server string) *httptest.Server {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		name := answerName(r.URL.Path, body)
		proxy := httputil.NewSingleHostReverseProxy(to)
		proxy.ModifyResponse = func(response *http.Response) error {
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			response.Body = io.NopCloser(strings.NewReader(string(answer)))
			if want := max(answerStatus[name], http.StatusOK); response.StatusCode != want {
				t.Errorf("%s: the server answered %d, the recording is played with %d", name, response.StatusCode, want)
			}
			return os.WriteFile(filepath.Join("testdata", name), answer, 0o644)
		}
		proxy.ServeHTTP(w, r)
	})
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}
