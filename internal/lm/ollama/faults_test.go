package ollama

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// usualAnswer is a recorded answer as a map, so that a test can damage it.
func usualAnswer(t *testing.T, damage func(map[string]any)) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/usual.json")
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatal(err)
	}
	damage(answer)
	if data, err = json.Marshal(answer); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFaultsOfAnAnswer(t *testing.T) {
	whole := usualAnswer(t, func(map[string]any) {})
	say := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	damaged := func(damage func(map[string]any)) http.HandlerFunc { return say(200, string(usualAnswer(t, damage))) }
	top := func(tokens string) http.HandlerFunc {
		return say(200, `{"done":true,"logprobs":[{"token":"A","logprob":-1,"top_logprobs":[`+tokens+`]}]}`)
	}
	for _, c := range []struct {
		why    string
		answer http.HandlerFunc
		want   error
		says   string // part of the message
	}{
		{"undamaged", say(200, string(whole)), nil, ""},
		{"500", say(500, `{"error":"model runner has unexpectedly stopped"}`), lm.ErrUnavailable, "500"},
		{"503 busy", say(503, `{"error":"server busy"}`), lm.ErrUnavailable, "server busy"},
		{"502 of a proxy", say(502, "<html>Bad Gateway</html>"), lm.ErrUnavailable, "502"},
		{"401", say(401, `{}`), lm.ErrUnavailable, "401"},
		{"404", say(404, `{"error":"model 'm' not found"}`), lm.ErrModelMissing, "ollama pull m"},
		{"401 without a word", say(401, ""), lm.ErrUnavailable, "401"},
		{"404 without a word", say(404, ""), lm.ErrModelMissing, "ollama pull m"},
		{"502 without a word", say(502, ""), lm.ErrUnavailable, `502 "Bad Gateway"`},
		{"503 of white space", say(503, " \n\n"), lm.ErrUnavailable, `503 "Service Unavailable"`},
		{"599 without a word", say(599, ""), lm.ErrUnavailable, "599"},
		{"closed before the answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, lm.ErrUnavailable, ""},
		{"half a body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			_, _ = w.Write(whole[:len(whole)/2])
		}, lm.ErrUnavailable, "unexpected EOF"},
		{"half an answer", say(200, string(whole[:len(whole)/2])), lm.ErrNonsense, ""},
		{"nothing", say(200, ""), lm.ErrNonsense, "empty"},
		{"garbage", say(200, "\x00\xff{{{"), lm.ErrNonsense, ""},
		{"a web page", say(200, "<html>Welcome</html>"), lm.ErrNonsense, "Welcome"},
		{"null", say(200, "null"), lm.ErrNonsense, ""},
		{"a list", say(200, "[]"), lm.ErrNonsense, ""},
		{"wrong types", say(200, `{"done":"yes","logprobs":7}`), lm.ErrNonsense, ""},
		{"an error with status 200", say(200, `{"error":"something"}`), lm.ErrNonsense, "something"},
		{"two answers", say(200, string(whole)+"\n"+string(whole)), lm.ErrNonsense, "more than one"},
		{"not done", damaged(func(a map[string]any) { a["done"] = false }), lm.ErrNonsense, "unfinished"},
		{"no log-probabilities", damaged(func(a map[string]any) { delete(a, "logprobs") }), lm.ErrNonsense, "states no log-probabilities"},
		{"no alternatives", top(""), lm.ErrNonsense, "states no log-probabilities"},
		{"the model ends at once", damaged(func(a map[string]any) { delete(a, "logprobs"); a["done_reason"] = "stop" }), lm.ErrNonsense, "before it began"},
		{"a truncated prompt", damaged(func(a map[string]any) { a["prompt_eval_count"] = 4096 }), lm.ErrPromptTooLong, "4096 tokens"},
		{"NaN", top(`{"token":"A","logprob":NaN}`), lm.ErrNonsense, ""},
		{"1e999", top(`{"token":"A","logprob":-1e999}`), lm.ErrNonsense, ""},
		{"a positive log-probability", top(`{"token":"A","logprob":3}`), lm.ErrNonsense, ""},
		{"no letters", top(`{"token":"The","logprob":-0.1},{"token":" I'm","logprob":-3}`), lm.ErrNonsense, "The"},
		{"letters that no candidate has", top(`{"token":"U","logprob":-0.1},{"token":"a","logprob":-3}`), lm.ErrNonsense, ""},
		{"a gigabyte in one line", gigabyte("a"), lm.ErrNonsense, "larger than 4 MiB"},
		{"a gigabyte of answers", gigabyte(`{"done":true}` + "\n"), lm.ErrNonsense, "larger than 4 MiB"},
	} {
		t.Run(c.why, func(t *testing.T) {
			client := mustNew(t, Options{BaseURL: serve(t, c.answer).URL, Model: "m"})
			answer, err := client.Letters(t.Context(), "Answer:", 20)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkShares(t, answer.Shares, 20)
				return
			}
			if !errors.Is(err, c.want) || answer.Shares != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v; want %v that says %q", answer, err, c.want, c.says)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 1000 {
				t.Errorf("the message is not one short line: %q", err)
			}
		})
	}
}

// TestErrorsWithoutAWord: a proxy before a server that is away may answer with nothing but a status, and nothing that the
// server was asked to do is done then. Calls in a row open the circuit breaker, as if nobody answered.
func TestErrorsWithoutAWord(t *testing.T) {
	for status, want := range map[int]error{401: lm.ErrUnavailable, 404: lm.ErrModelMissing, 502: lm.ErrUnavailable, 503: lm.ErrUnavailable} {
		at := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }).URL
		base, err := url.Parse(at)
		must(t, err)
		s := &server{base: base, api: api.NewClient(base, &http.Client{Transport: &boundedTransport{}}), timeout: time.Minute}
		if err := s.create(t.Context(), "m", "sha256:ab", ""); !errors.Is(err, want) {
			t.Errorf("%d: creating a model: %v, want %v", status, err, want)
		}
		if err := s.unload(t.Context(), "m"); !errors.Is(err, want) {
			t.Errorf("%d: unloading a model: %v, want %v", status, err, want)
		}
		c := mustNew(t, Options{BaseURL: at, Model: "m", OpenAfter: 2, Pause: time.Hour})
		if _, err := c.Write(t.Context(), "x", 1, lm.WriteOptions{Most: 3}); !errors.Is(err, want) {
			t.Errorf("%d: writing: %v, want %v", status, err, want)
		}
		m := &Model{Name: "m", client: mustNew(t, Options{BaseURL: at, Model: "m"}), who: event.Model{PromptVersion: iot.Figures}}
		if err := m.load(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d: loading a model: %v, want %v", status, err, want)
		}
		_, _ = c.Letters(t.Context(), "Answer:", 2)
		if opens := want == lm.ErrUnavailable; opens != (c.State() == "open") {
			t.Errorf("%d: the circuit breaker is %s", status, c.State())
		}
	}
}

// gigabyte writes 1 GB, or as much of it as somebody reads.
func gigabyte(line string) http.HandlerFunc {
	block := []byte(strings.Repeat(line, 1<<20/len(line)))
	return func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

func TestFaultsOfAList(t *testing.T) {
	for why, c := range map[string]struct {
		answer string
		want   error
	}{
		"empty":     {`{"models":[]}`, lm.ErrModelMissing},
		"null":      {`null`, lm.ErrModelMissing},
		"other":     {`{"models":[{"name":"m2:latest","digest":"d"},{"name":"m:7b","digest":"d"}]}`, lm.ErrModelMissing},
		"no digest": {`{"models":[{"name":"m:latest"}]}`, lm.ErrNonsense},
		"garbage":   {`{"models":`, lm.ErrNonsense},
		"latest":    {`{"models":[{"name":"m:latest","digest":"sha256:d1"}]}`, nil},
	} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.answer) })
		m, err := mustNew(t, Options{BaseURL: server.URL, Model: "m"}).Identity(t.Context())
		if !errors.Is(err, c.want) || err == nil && (m.Name != "m:latest" || m.Digest != "d1") {
			t.Errorf("%s: %+v, error %v, want %v", why, m, err, c.want)
		}
	}
}

func TestRefusedConnection(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := mustNew(t, Options{BaseURL: server.URL, Model: "m"})
	if _, err := c.Letters(t.Context(), "Answer:", 2); !errors.Is(err, lm.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Identity(t.Context()); !errors.Is(err, lm.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// TestRequest holds the client to what it asks for: anything else would change the answer without a trace.
func TestRequest(t *testing.T) {
	var got map[string]any
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = w.Write(usualAnswer(t, func(map[string]any) {}))
	})
	if _, err := mustNew(t, Options{BaseURL: server.URL, Model: "m", NumCtx: 5000}).Letters(t.Context(), "Answer:", 20); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"model": "m", "prompt": "Answer:", "suffix": "", "system": "", "template": "", "stream": false, "think": false,
		"truncate": false, "shift": false, "logprobs": true, "top_logprobs": 20., "keep_alive": "30m0s",
		"options": map[string]any{"num_predict": 1., "num_ctx": 5000., "temperature": 0., "seed": 1.}}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("asked for %s\nwant %s", a, b)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{}, {Model: "m", BaseURL: "localhost:11434"}, {Model: "m", BaseURL: "ftp://x"}, {Model: "m", BaseURL: "http://"}, {Model: "m", BaseURL: ":"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// inProcess answers requests without a network, so that a test can run on a fake clock.
type inProcess func(*http.Request) (*http.Response, error)

func (f inProcess) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func ok(body []byte) *http.Response {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(body)), Header: http.Header{}}
}

// TestCircuitBreaker follows a server that hangs, comes back and is fine again, on a fake clock.
func TestCircuitBreaker(t *testing.T) {
	whole := usualAnswer(t, func(map[string]any) {})
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var hangs atomic.Bool
		hangs.Store(true)
		var log bytes.Buffer
		c := mustNew(t, Options{Model: "m", Logger: slog.New(slog.NewTextHandler(&log, nil)), HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			calls.Add(1)
			if hangs.Load() {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return ok(whole), nil
		})}})
		ask := func(want error, called int32, took time.Duration, state string) {
			t.Helper()
			began, before := time.Now(), calls.Load()
			_, err := c.Letters(t.Context(), "Answer:", 20)
			if !errors.Is(err, want) || calls.Load()-before != called || time.Since(began) != took || c.State() != state {
				t.Errorf("error %v after %v, %d calls, %s; want %v, %v, %d, %s", err, time.Since(began), calls.Load()-before, c.State(), want, took, called, state)
			}
		}
		ask(context.DeadlineExceeded, 1, 20*time.Second, "closed")
		ask(context.DeadlineExceeded, 1, 20*time.Second, "closed")
		ask(lm.ErrUnavailable, 1, 20*time.Second, "open")
		ask(lm.ErrUnavailable, 0, 0, "open")
		time.Sleep(2*time.Second + 1)
		if c.State() != "half-open" {
			t.Errorf("state %s after the pause", c.State())
		}
		ask(lm.ErrUnavailable, 1, 20*time.Second, "open") // the probe
		hangs.Store(false)
		ask(lm.ErrUnavailable, 0, 0, "open")
		time.Sleep(2*time.Second + 1)
		ask(nil, 1, 0, "closed")
		ask(nil, 1, 0, "closed")
		if n := strings.Count(log.String(), "circuit breaker"); n != 5 {
			t.Errorf("%d changes of state were logged:\n%s", n, log.String())
		}
	})
}

// TestCircuitBreakerLetsOneProbe: while one call finds out whether the server is back, the others fail at once.
func TestCircuitBreakerLetsOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := mustNew(t, Options{Model: "m", OpenAfter: 1, HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			calls.Add(1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}})
		_, _ = c.Letters(t.Context(), "Answer:", 20)
		time.Sleep(2*time.Second + 1)
		began := time.Now()
		go func() { _, _ = c.Letters(t.Context(), "Answer:", 20) }()
		synctest.Wait()
		if _, err := c.Letters(t.Context(), "Answer:", 20); !errors.Is(err, lm.ErrUnavailable) || time.Since(began) != 0 || calls.Load() != 2 {
			t.Errorf("error %v after %v and %d calls", err, time.Since(began), calls.Load())
		}
	})
}

// TestCircuitBreakerStaysClosed: what does not show that the server is down must not keep calls from it.
func TestCircuitBreakerStaysClosed(t *testing.T) {
	for why, respond := range map[string]inProcess{
		"nonsense": func(*http.Request) (*http.Response, error) { return ok([]byte("<html>")), nil },
		"missing": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader(`{"error":"not found"}`))}, nil
		},
		"cancelled by the caller": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := mustNew(t, Options{Model: "m", HTTPClient: &http.Client{Transport: respond}})
			for range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				if _, err := c.Letters(ctx, "Answer:", 20); err == nil {
					t.Errorf("%s: no error", why)
				}
				cancel()
			}
			if c.State() != "closed" {
				t.Errorf("%s: the circuit breaker is %s", why, c.State())
			}
		})
	}
}

// TestCancelledProbe: a caller who gives up has not found out that the server is back.
func TestCancelledProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, Options{Model: "m", OpenAfter: 1, HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}})
		_, _ = c.Letters(t.Context(), "Answer:", 20)
		time.Sleep(2*time.Second + 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := c.Letters(ctx, "Answer:", 20); !errors.Is(err, context.Canceled) || c.State() != "half-open" {
			t.Errorf("error %v, state %s", err, c.State())
		}
	})
}

// TestHangingList: the list of models keeps to the timeout too.
func TestHangingList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, Options{Model: "m", Timeout: time.Second, HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}})
		began := time.Now()
		if _, err := c.Identity(t.Context()); !errors.Is(err, lm.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

// TestHangingRunnerBehindALivingServer: a list of models that is answered must not hide that generating fails.
func TestHangingRunnerBehindALivingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustNew(t, Options{Model: "m", HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/api/tags" {
				return ok([]byte(`{"models":[{"name":"m","digest":"d"}]}`)), nil
			}
			return nil, io.ErrUnexpectedEOF
		})}})
		for range 3 {
			if _, err := c.Identity(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Letters(t.Context(), "Answer:", 20); !errors.Is(err, lm.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if c.State() != "open" {
			t.Errorf("the circuit breaker is %s", c.State())
		}
	})
}

func TestModels(t *testing.T) {
	list := func(h http.HandlerFunc) ([]string, error) { return Models(t.Context(), serve(t, h).URL) }
	names, err := list(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"models":[{"name":"b:1b"},{"name":"a:latest"}]}`)
	})
	if err != nil || !slices.Equal(names, []string{"b:1b", "a:latest"}) {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := list(gigabyte("a")); !errors.Is(err, errTooLarge) {
		t.Errorf("a gigabyte: %v", err)
	}
	if _, err := Models(t.Context(), "127.0.0.1:11434"); err == nil {
		t.Error("an address without a scheme: no error")
	}
}

// TestSilentModel: a model that would rather end its answer than say a letter is asked again, where letters were learned.
func TestSilentModel(t *testing.T) {
	silent := usualAnswer(t, func(a map[string]any) { delete(a, "logprobs"); a["done_reason"] = "stop" })
	aloud := []byte(`{"done":true,"logprobs":[{"top_logprobs":[{"token":"<|im_end|>","logprob":-0.3},{"token":" A","logprob":-3},{"token":" B","logprob":-4},{"token":"A","logprob":-3}]}]}`)
	var asked []string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got struct {
			Raw    bool
			Format json.RawMessage
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		asked = append(asked, fmt.Sprint(got.Raw)+string(got.Format))
		if got.Format == nil {
			_, _ = w.Write(silent)
			return
		}
		_, _ = w.Write(aloud)
	})
	answer, err := mustNew(t, Options{BaseURL: server.URL, Model: "m", Learned: true}).Letters(t.Context(), "Answer:", 2)
	if shares := answer.Shares; err != nil || len(shares) != 2 || math.Abs(shares[0]-shares[1]-1) > 1e-9 { // " A" alone counts, and not "A"
		t.Errorf("%v, %v", answer, err)
	}
	if want := []string{"true", `true{"type":"string"}`}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if _, err := mustNew(t, Options{BaseURL: server.URL, Model: "m"}).Letters(t.Context(), "Answer:", 2); !errors.Is(err, lm.ErrNonsense) || len(asked) != 3 {
		t.Errorf("without learned letters: %v, asked %q", err, asked)
	}
}
