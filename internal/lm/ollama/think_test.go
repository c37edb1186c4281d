package ollama

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm"
)

// A real server writes what a guide has it write, where and as often as it says so, and no more tokens in all than it may.
func TestOllamaIsGuided(t *testing.T) {
	made := newTaught(t)
	i := newInstaller(t, embeddedtest.RealOllama(t), made.base, InstallOptions{})
	m, err := i.Bare(t.Context())
	must(t, err)
	const most, given = 24, " 7 7"
	spoke := 0
	for k, l := range lessons(t, 3, 8) {
		text := l.Prompt.Text[:len(l.Prompt.Text)-k*20]
		// It says a letter again and again. The blank and the letter before it stand for brackets here.
		free, err := m.Write(t.Context(), text, 1, lm.WriteOptions{Most: most})
		must(t, err)
		closes := free[0].Text[1:2]
		next := func(written string) string {
			if !strings.HasSuffix(written, " "+closes) || strings.Count(written, given) > 1 {
				return ""
			}
			return given
		}
		written, err := m.Write(t.Context(), text, 1, lm.WriteOptions{Most: most, Guide: iot.Guide{Next: next, Opens: " ", Closes: closes}})
		must(t, err)
		got, here := written[0].Text, 0
		for end := range got {
			if want := next(got[:end]); want != "" {
				if here++; !strings.HasPrefix(got[end:], want) {
					t.Errorf("%d: after %q comes %q, and the guide has %q there", k, got[:end], got[end:], want)
				}
			}
		}
		drawn := (len(got) - here*len(given)) / 2 // a blank and a letter each
		if all := drawn + here*i.opt.Ask.countTokens(given); all < most && !written[0].Whole || drawn >= most {
			t.Errorf("%d: %d tokens, of which it drew %d: %q", k, all, drawn, got)
		}
		spoke += here
	}
	if spoke < 8 {
		t.Errorf("the guide spoke %d times", spoke)
	}
	must(t, m.Close())
}

// told is a server that says what it is told to, part by part, and keeps what it was asked.
type told struct {
	mu    sync.Mutex
	says  []string // as JSON
	asked []toldRequest
}

type toldRequest struct {
	Prompt  string
	Raw     bool
	Think   *bool
	Options struct {
		NumPredict int      `json:"num_predict"`
		Stop       []string `json:"stop"`
	}
}

func (s *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var q toldRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(s.says) == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.asked = append(s.asked, q)
	fmt.Fprint(w, s.says[0])
	s.says = s.says[1:]
}

func says(text, reason string, tokens int) string {
	data, err := json.Marshal(map[string]any{"done": true, "done_reason": reason, "response": text, "eval_count": tokens})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// Where a citation ends the server stops, is told what follows from it, and goes on from there, until the thought ends or is as
// long as it may be. Brackets elsewhere do not end it.
func TestOllamaIsGuidedPartByPart(t *testing.T) {
	guide := iot.Guide{Opens: "[", Closes: "]", Next: func(written string) string {
		if strings.HasSuffix(written, "[1]") {
			return " B: because"
		}
		return ""
	}}
	for name, tc := range map[string]struct {
		says  []string
		most  int
		want  string
		whole bool
		asked []string // behind the text
		room  []int
	}{
		"two lines": {
			says: []string{says("[1", "stop", 2), says(" so.\n[1", "stop", 5), says(" too.\n", "stop", 3)}, most: 40,
			want: "[1] B: because so.\n[1] B: because too.\n", whole: true,
			asked: []string{"", "[1] B: because", "[1] B: because so.\n[1] B: because"}, room: []int{40, 35, 27},
		},
		"a citation that leads nowhere, and a bracket within the words": {
			says: []string{says("[9", "stop", 2), says(" A: see [x", "stop", 4), says(" there.\n", "stop", 3)}, most: 20,
			want: "[9] A: see [x] there.\n", whole: true,
			asked: []string{"", "[9]", "[9] A: see [x]"}, room: []int{20, 18, 14},
		},
		"broken off within its words": {
			says: []string{says("[1", "stop", 2), says(" so it", "length", 5)}, most: 10,
			want: "[1] B: because so it", asked: []string{"", "[1] B: because"}, room: []int{10, 5},
		},
		"no room after what was given": {
			says: []string{says("[1", "stop", 2)}, most: 5, want: "[1] B: because", asked: []string{""}, room: []int{5},
		},
		"it ends at once": {says: []string{says("", "stop", 1)}, most: 5, whole: true, asked: []string{""}, room: []int{5}},
		"a server that does not count": {
			says: []string{says("[9", "stop", 0), says("[9", "stop", 0), says("[9", "stop", 0)}, most: 3,
			want: "[9][9][9]", asked: []string{"", "[9]", "[9][9]"}, room: []int{3, 2, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := &told{says: tc.says}
			c := mustNew(t, Options{BaseURL: serve(t, server.ServeHTTP).URL, Model: "m"})
			got, err := c.Write(t.Context(), "Thought:\n", 1, lm.WriteOptions{Most: tc.most, Stop: []string{"Answer:"}, Guide: guide})
			must(t, err)
			if got[0].Text != tc.want || got[0].Whole != tc.whole {
				t.Errorf("%q, whole %v; want %q, %v", got[0].Text, got[0].Whole, tc.want, tc.whole)
			}
			var asked []string
			var room []int
			for _, q := range server.asked {
				asked, room = append(asked, strings.TrimPrefix(q.Prompt, "Thought:\n")), append(room, q.Options.NumPredict)
				if !q.Raw || q.Think == nil || *q.Think {
					t.Error("the server is to put the text into a template, or to cut out what is thought")
				}
				if !slices.Equal(q.Options.Stop, []string{"Answer:", "]"}) {
					t.Errorf("it stops at %q", q.Options.Stop)
				}
			}
			if diff := cmp.Diff(tc.asked, asked); diff != "" {
				t.Errorf("it was asked to go on from\n%s", diff)
			}
			if diff := cmp.Diff(tc.room, room); diff != "" {
				t.Errorf("with room for\n%s", diff)
			}
		})
	}
}

// wordsContext has two candidates and a chain to each.
func wordsContext() event.Context {
	return event.Context{
		Likes:   1,
		History: []event.HistoryItem{{ItemID: "h", Title: "Heat"}},
		Candidates: []event.Candidate{
			{ItemID: "x", Title: "Casino", Origin: event.FromChains, Evidence: event.Evidence{Chains: 1, Support: 1}},
			{ItemID: "y", Title: "Up", Origin: event.FromChains, Evidence: event.Evidence{Chains: 1, Support: 1}},
		},
		Chains: []event.Chain{{Via: "h", Neighbour: "ann", ItemID: "x", Weight: 5, Shared: 2}, {Via: "h", Neighbour: "bob", ItemID: "y", Weight: 4, Shared: 3}},
	}
}

// A model that somebody installed writes, and its letters are read after what is grounded of it.
func TestNamedModelThinks(t *testing.T) {
	seen := wordsContext()
	p, err := iot.Build(iot.Thoughts, seen, 1)
	must(t, err)
	var prompts []string
	list := `{"models":[{"name":"m:latest","digest":"sha256:aa"}]}`
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/tags" {
			fmt.Fprint(w, list)
			return
		}
		var q toldRequest
		must(t, json.NewDecoder(r.Body).Decode(&q))
		prompts = append(prompts, q.Prompt)
		switch {
		case strings.HasSuffix(q.Prompt, "Thought:\n"):
			fmt.Fprint(w, says("[1", "stop", 2))
		case strings.HasSuffix(q.Prompt, ", since"):
			fmt.Fprint(w, says(" both are about crime.\n[7", "stop", 9))
		case strings.HasSuffix(q.Prompt, "[7]"):
			fmt.Fprint(w, says(" A: nobody knows.\n", "stop", 9))
		default:
			fmt.Fprint(w, `{"done":true,"done_reason":"length","logprobs":[{"token":" A","logprob":-0.1,"top_logprobs":[{"token":" A","logprob":-0.2},{"token":" B","logprob":-2.1}]}]}`)
		}
	})
	n, err := NewNamed(Options{BaseURL: s.URL, Model: "m", Think: 60})
	must(t, err)
	who, err := n.Identity(t.Context())
	must(t, err)
	if who.Think != 60 || who.PromptVersion != iot.Thoughts || who.Readout != letters {
		t.Errorf("it says that it is %+v", who)
	}
	reply, shares, err := n.Think(t.Context(), seen, p)
	must(t, err)
	if len(reply.Thought.Steps) != 1 || reply.Thought.Steps[0].Text != "Whoever enjoys Heat may like Casino, since both are about crime." || len(reply.Dropped) != 1 {
		t.Errorf("it thought %+v, dropped %v", reply.Thought.Steps, reply.Dropped)
	}
	if len(shares) != 2 {
		t.Errorf("shares %v", shares)
	}
	if after := p.After(reply.Thought, seen); prompts[len(prompts)-1] != after.Text {
		t.Errorf("the letters were read after\n%s\nwant\n%s", prompts[len(prompts)-1], after.Text)
	}
	at, err := NewNamed(Options{BaseURL: s.URL, Model: "m"})
	must(t, err)
	if _, _, err := at.Think(t.Context(), seen, p); !errors.Is(err, lm.ErrNonsense) {
		t.Errorf("one that answers at once thinks: %v", err)
	}
}

// Lists that a server thinks about take turns, as many at once as it is told to take; and so does what is ranked beside them.
func TestThinkingTakesTurns(t *testing.T) {
	seen := wordsContext()
	p, err := iot.Build(iot.Thoughts, seen, 1)
	must(t, err)
	for _, lists := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			var at, most atomic.Int32
			n, err := NewNamed(Options{Model: "m", Think: 5, Lists: lists, HTTPClient: &http.Client{Transport: inProcess(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/api/tags" {
					return ok([]byte(`{"models":[{"name":"m:latest","digest":"sha256:aa"}]}`)), nil
				}
				for calls := at.Add(1); ; {
					if before := most.Load(); calls <= before || most.CompareAndSwap(before, calls) {
						break
					}
				}
				time.Sleep(time.Second)
				at.Add(-1)
				return ok([]byte(says("", "stop", 1))), nil
			})}})
			must(t, err)
			var all sync.WaitGroup // nothing is stated: what counts is who asks when
			for range 3 {
				all.Go(func() { _, _, _ = n.Think(t.Context(), seen, p) })
				all.Go(func() { _, _ = n.Rank(t.Context(), p) })
			}
			all.Wait()
			if want := int32(max(1, lists)); most.Load() != want {
				t.Errorf("%d calls at once, want %d", most.Load(), want)
			}
		})
	}
}

// Models that are to think are made of what was taught to, or of what nobody taught anything.
func TestInstallerOfModelsThatThink(t *testing.T) {
	made := newTaught(t)
	o := InstallOptions{Base: made.base, Now: time.Now, Ask: Options{Think: 9}}
	if _, err := NewInstaller(o); err == nil || !strings.Contains(err.Error(), "it is to think (--think 9): it is read by letters of prompts of version 2") {
		t.Errorf("a base that was taught figures: %v", err)
	}
	f, err := gguf.Open(made.base)
	must(t, err)
	defer f.Close()
	untaught := *f
	untaught.Metadata = f.Metadata.Clone()
	untaught.Metadata.Delete(lora.KeyPromptVersion)
	untaught.Metadata.Delete(lora.KeyReadout)
	o.Base = write(t, "untaught.gguf", func(w io.Writer) error { return lora.MergeF16(&untaught, nil, w) })
	i, err := NewInstaller(o)
	must(t, err)
	defer i.Close()
	if i.prompt != iot.Thoughts || i.readout != letters {
		t.Errorf("the base is read by %s of prompts of version %d", i.readout, i.prompt)
	}
	i.manifest = lora.Manifest{BaseDigest: digestOf(t, made.base), TokenizerDigest: i.manifest.TokenizerDigest} // the adapter's, but for what it was taught
	var refusal interface{ Refused() bool }
	if _, _, err := i.readAdapter(made.adapters[0]); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "a model thinks before letters of version 3") {
		t.Errorf("an adapter that was taught figures: %v", err)
	}
}
