package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
)

// lmRun runs r2rec lm to its end.
func lmRun(ctx context.Context, args ...string) (code int, out, log string) {
	var o, e bytes.Buffer
	code = run(ctx, append([]string{"lm"}, args...), &o, &e)
	return code, o.String(), e.String()
}

func lmDo(t *testing.T, args ...string) (log string) {
	t.Helper()
	code, out, log := lmRun(t.Context(), args...)
	if code != 0 || out != "" {
		t.Fatalf("r2rec lm %s: exit code %d, printed %q\n%s", strings.Join(args, " "), code, out, log)
	}
	return log
}

// tiny are the flags of a model that learns little, in seconds; more replaces some of them.
func tiny(out string, more ...string) []string {
	args := []string{"pretrain", "--out", out}
	for flag, value := range map[string]string{"--worlds": "2", "--hold": "1", "--cases": "20", "--steps": "3", "--batch": "4", "--seed": "3",
		"--dim": "16", "--heads": "2", "--layers": "1", "--feed-forward": "16", "--vocabulary": "300"} {
		if !slices.Contains(more, flag) {
			args = append(args, flag, value)
		}
	}
	return append(args, more...)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantFiles wants these files in a folder and no other.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("the folder has %q, want %q", names, want)
	}
}

func identity(t *testing.T, o engine.Options) event.Model {
	t.Helper()
	m, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	who, err := m.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// The same seed gives the same bytes, another one others; and the file says how it is read and how it came about.
func TestPretrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "b.gguf"), filepath.Join(dir, "c.gguf")
	log := lmDo(t, tiny(a)...)
	for _, want := range []string{"worlds made and asked", "step=3", "held_hr1=", "skipped=0", "model written"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
	lmDo(t, tiny(b)...)
	lmDo(t, tiny(c, "--seed", "4")...)
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("the same seed gives another file")
	}
	if bytes.Equal(readFile(t, a), readFile(t, c)) {
		t.Error("another seed gives the same file")
	}
	wantFiles(t, dir, "a.gguf", "b.gguf", "c.gguf")
	who := identity(t, engine.Options{Path: a})
	if who.Name != "a" || who.Readout != "lines" || who.PromptVersion != iot.FullFigures {
		t.Errorf("the model is read as %+v", who)
	}
	f, err := gguf.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said, err := f.Metadata.String("general.description")
	if err != nil || !strings.Contains(said, "on 1 synthetic worlds, 3 steps of 4 cases, seed 3") {
		t.Errorf("the file says %q, %v", said, err)
	}
}

// What is measured with is not learned from, and no world is left out or taken twice.
func TestPretrainHoldsWorlds(t *testing.T) {
	t.Parallel()
	p := &process{ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
	made := func(worlds, hold int) (learnFrom, held []rltrainer.Example) {
		learnFrom, held, err := lmPretrainCommand{Worlds: worlds, Hold: hold, Cases: 10, Seed: 3}.examples(p, &stages{p: p})
		if err != nil {
			t.Fatal(err)
		}
		return learnFrom, held
	}
	second, first := made(2, 1)
	_, both := made(3, 2)
	if len(first) == 0 || len(second) == 0 || !cmp.Equal(slices.Concat(first, second), both) {
		t.Errorf("%d examples held of the first world, %d learned from of the second, and of both together %d", len(first), len(second), len(both))
	}
}

// What was made serves: by recommend and by a server, whose documents name it.
func TestServeRanksWithTheModelThatIsNamed(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	model, adapter := s.file("model.gguf"), s.file("adapter.gguf")
	lmDo(t, tiny(model)...)
	lmDo(t, s.tune(adapter, "--model", model)...)
	wordy := s.wordy()
	who := identity(t, engine.Options{Path: model, Adapter: adapter})
	embeddedtest.EachSingle(t, func(t *testing.T, k broker.Settings, r *redis.UniversalOptions) {
		p := newPlace(t, k, r)
		p.do(append([]string{"import", s.dir, "--json"}, p.kafkaArgs()...)...)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		s.must(err)
		address := ln.Addr().String()
		ln.Close()
		p.model = []string{"--model", model, "--adapter", adapter, "--control-share", "0"}
		args := append([]string{"serve", "--consume", "--listen", address, "--explore-share", "0", "--log-level", "error"}, p.model...)
		p.start(append(append(args, p.kafkaArgs()...), p.redisArgs()...)...)
		check := func(rec event.Recommendation) (bool, string) {
			return rec.Source == event.Reasoned && rec.Model == who.Name && rec.Adapter == who.Adapter && len(rec.Items) == 5, string(rec.Source) + " " + rec.Note
		}
		user := s.users()[0]
		p.eventually("no list is ranked by the model", func() (bool, string) {
			resp, err := http.Get("http://" + address + "/v1/users/" + user + "/recommendations?fresh=true&k=5")
			if err != nil {
				return false, err.Error()
			}
			defer resp.Body.Close()
			var raw bytes.Buffer
			if _, err := raw.ReadFrom(resp.Body); err != nil {
				return false, err.Error()
			}
			rec, err := event.DecodeRecommendation(raw.Bytes())
			if err != nil {
				return false, err.Error()
			}
			return check(rec)
		})
		if ok, saw := check(p.recommend(user)); !ok {
			t.Errorf("recommend: %s", saw)
		}
		p.model = []string{"--model", wordy, "--think", "6", "--control-share", "0"} // writes before it answers, nothing that is grounded
		if rec := p.recommend(user); rec.Source != event.Reasoned || rec.Model != "wordy" || len(rec.Items) == 0 || len(rec.Items[0].Reasons) == 0 {
			t.Errorf("thinking: %s, model %s, %s", rec.Source, rec.Model, rec.Note)
		}
		for _, tc := range []struct {
			flags string
			code  int
			says  string
		}{
			{"--think 6", exitMisused, "--think needs a --model that knows words"},
			{"--think 6 --no-model", exitMisused, "exclude each other"},
			{"--think=-1", exitMisused, "--think -1: want tokens"},
			{"--think 6 --model " + model, 1, "the model was taught the readout lines"},
		} {
			if said := p.ends(tc.code, append(p.everywhere("recommend", user), strings.Fields(tc.flags)...)...); !strings.Contains(said, tc.says) {
				t.Errorf("recommend %s says %s, want %q", tc.flags, said, tc.says)
			}
		}
		p.model = []string{"--control-share", "0"} // what travels with the program
		if rec := p.recommend(user); rec.Source != event.Reasoned || rec.Model != engine.BaseName || rec.Adapter != "" {
			t.Errorf("by default: %s, model %s, adapter %s, %s", rec.Source, rec.Model, rec.Adapter, rec.Note)
		}
	})
}

// users are those of the cases, who have a history.
func (s slice) users() (users []string) {
	s.Helper()
	for line := range strings.Lines(string(readFile(s.T, s.file("cases.jsonl")))) {
		_, rest, _ := strings.Cut(line, `"user":"`)
		user, _, _ := strings.Cut(rest, `"`)
		users = append(users, user)
	}
	return users
}

// tune are the flags of a short tuning on the slice; more replaces some of them.
func (s slice) tune(out string, more ...string) []string {
	args := []string{"tune", "--adapter-out", out}
	for flag, value := range map[string]string{"--events": s.file("events.csv"), "--items": s.file("items.csv"), "--fit-before": s.before,
		"--cases": "80", "--steps": "6", "--batch": "8", "--rank": "4"} {
		if !slices.Contains(more, flag) {
			args = append(args, flag, value)
		}
	}
	return append(args, more...)
}

// past is what is learned from the slice before a time.
func (s slice) past(before string) event.Past {
	s.Helper()
	data, err := dataset.OpenFiles(s.file("events.csv"), s.file("items.csv"))
	s.must(err)
	at, err := parseMoment(before)
	s.must(err)
	return event.PastOf(data.Interactions(), at)
}

// learnedFrom wants an adapter to say that it learned from the slice before the time of its cases.
func (s slice) learnedFrom(adapter string) {
	s.Helper()
	a, err := lora.Read(adapter)
	s.must(err)
	if want := s.past(s.before); a.Manifest.LearnedEvents != want {
		s.Errorf("%s says that it learned from %+v, want %+v", adapter, a.Manifest.LearnedEvents, want)
	}
}

func TestTune(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	a, b := s.file("a.gguf"), s.file("b.gguf")
	log := lmDo(t, s.tune(a)...)
	for _, want := range []string{"cases asked", "step=6", "adapter written", "model=" + engine.BaseName} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
	lmDo(t, s.tune(b)...)
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("the same seed gives another file")
	}
	got, err := lora.Read(a)
	s.must(err)
	base := identity(t, engine.Options{})
	m := got.Manifest
	if m.BaseDigest != base.Digest || m.Readout != "lines" || m.PromptVersion != iot.FullFigures || m.Steps != 6 || m.Seed != 1 || !strings.Contains(m.Note, "before ") ||
		got.Rank != 4 || got.Alpha != 8 {
		t.Errorf("rank %d, alpha %v, manifest %+v", got.Rank, got.Alpha, m)
	}
	s.learnedFrom(a)

	// Records that are refused are told and left out.
	s.write("broken.csv", strings.Replace(string(readFile(t, s.file("events.csv"))), "\n", "\n,31,5,800000000\n", 1))
	if log := lmDo(t, s.tune(b, "--events", s.file("broken.csv"))...); !strings.Contains(log, "left out") || !strings.Contains(log, "user_id") {
		t.Errorf("a broken record is not told:\n%s", log)
	}
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("a broken record makes a difference")
	}
	// Prompts of words need more of the graph: history and chains.
	model := s.file("words.gguf")
	lmDo(t, tiny(model)...)
	f, err := gguf.Open(model)
	s.must(err)
	defer f.Close()
	s.words(f, s.file("says-nothing.gguf"))
	lmDo(t, s.tune(b, "--model", s.file("says-nothing.gguf"), "--readout", "letters", "--prompt", "1", "--steps", "2")...)
	if got, err = lora.Read(b); err != nil || got.Manifest.Readout != "letters" || got.Manifest.PromptVersion != iot.Words {
		t.Errorf("%+v, %v", got.Manifest, err)
	}
}

// words writes the model again as one that does not say how it is read.
func (s slice) words(f *gguf.File, path string) {
	s.Helper()
	meta := f.Metadata.Clone()
	meta.Delete("r2rec.readout")
	meta.Delete("r2rec.prompt_version")
	out, err := os.Create(path)
	s.must(err)
	w, err := gguf.NewWriter(out, meta, f.Tensors())
	s.must(err)
	for _, tensor := range f.Tensors() {
		s.must(w.WriteBytes(tensor.Name, tensor.Bytes()))
	}
	s.must(errors.Join(w.Close(), out.Close()))
}

// Wrong flags are told with their value, before anything takes time, and leave no file behind.
func TestLMWrongInput(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	s.write("text", "this is no model")
	s.write("none.csv", "user_id,item_id,rating,timestamp\n")
	pretrain := func(more ...string) []string { return tiny(out, more...) }
	tune := func(more ...string) []string { return s.tune(out, more...) }
	traces := func(more ...string) []string {
		return s.traces(out, append([]string{"--model", s.file("text")}, more...)...)
	}
	s.write("none", "\n")
	s.write("half", `{"prompt": "a", "completion": "b"}`+"\n"+`{"prompt": "a"}`+"\n")
	s.write("number", `{"prompt": 1, "completion": "b"}`)
	s.write("past", `{"prompt": "a", "completion": "b", "learned_events": {"before": 5}}`)
	texts := func(name string, more ...string) []string {
		return append([]string{"tune", "--texts", s.file(name), "--adapter-out", out}, more...)
	}
	type wrong struct {
		args []string
		code int
		want string
	}
	cases := []wrong{
		{[]string{"pretrain"}, 2, "--out"},
		{pretrain("--hold", "2"), 2, "--worlds 2, --hold 2: some worlds must be held"},
		{pretrain("--hold", "0"), 2, "--worlds 2, --hold 0"},
		{pretrain("--worlds", "100000000"), 2, "--worlds 100000000: want at most"},
		{pretrain("--cases", "0"), 2, "--cases 0: want 1 or more"},
		{pretrain("--seed", "4294967296"), 2, "--seed 4294967296: want at most 4294967295"},
		{pretrain("--dim", "65"), 2, "--dim 65, --heads 2: the width must divide evenly"},
		{pretrain("--dim=-16"), 2, "--dim -16"},
		{pretrain("--dim", "6"), 2, "--dim 6, --layers 1, --heads 2"}, // heads of an odd width cannot turn
		{pretrain("--heads", "0"), 2, "--heads 0"},
		{pretrain("--layers", "0"), 2, "--layers 0"},
		{pretrain("--feed-forward", "0"), 2, "--feed-forward 0"},
		{pretrain("--vocabulary", "100"), 2, "--vocabulary 100: "},
		{pretrain("--dim", "100000", "--layers", "1000"), 2, "--dim 100000, --layers 1000"},
		{tiny(filepath.Join(dir, "missing", "out.gguf")), 1, "make the folder first"},
		{tiny(dir), 1, "no regular file"},
		{tiny("/proc/out.gguf"), 1, "--out /proc/out.gguf"},
		{pretrain("--checkpoint", out), 2, "--checkpoint " + out + ": --out is to be written there"},

		{[]string{"tune"}, 2, "--adapter-out"},
		{[]string{"tune", "--adapter-out", out}, 2, "name what to learn from: --events and --fit-before, or --texts"},
		{tune("--texts", s.file("text")), 2, "--texts says all that is learned: leave out --events, --items and --fit-before"},
		{texts("text"), 1, "text:1: invalid character"},
		{texts("none"), 1, "none has no texts"},
		{texts("half"), 1, "half:2: completion is missing or empty"},
		{texts("number"), 1, "number:1: "},
		{texts("past"), 1, "past:1: learned_events: before is 5 ms"},
		{texts("half", "--plot", filepath.Join(dir, "missing", "plot.svg")), 1, "--plot " + filepath.Join(dir, "missing", "plot.svg")},
		{tune("--cases", "0"), 2, "--cases 0: want 1 or more"},
		{tune("--alpha=-1"), 2, "alpha -1"},
		{tune("--rank", "0"), 2, "--rank 0: want 1 or more"},
		{tune("--rank=-1"), 2, "--rank -1: want 1 or more"},
		{tune("--rank", "100000000"), 2, "rank 100000000: must be 1 to"},
		{tune("--targets", "attn_q,brain"), 2, `target "brain": must be one of`},
		{tune("--fit-before", "tomorrow"), 2, `--fit-before: "tomorrow" is no time`},
		{tune("--fit-before", "400000000"), 1, "--fit-before 400000000: draw cases to fit with: none of the 0 events"},
		{tune("--events", s.file("none.csv")), 1, "none of the 0 events"},
		{tune("--events", s.file("text")), 1, "text:1"},
		{tune("--model", s.file("text")), 1, "open GGUF file " + s.file("text")},
		{tune("--readout", "letters"), 1, "the model was taught the readout lines"},
		{tune("--prompt", "1"), 1, "the model was taught the readout lines and prompts of version 4"},
		{tune("--met", "0"), 2, "--met 0"},

		{[]string{"traces"}, 2, "--events"},
		{traces("--steps", "5"), 2, "--steps 5: want at most 4"},
		{traces("--ollama", "http://127.0.0.1:1"), 2, "--ollama: name the model that writes there by --teacher"},
		{traces("--tries", "0"), 2, "--tries 0: want 1 or more"},
		{traces("--temperature", "0"), 2, "--temperature 0: want above 0"},
		{traces("--temperature", "NaN"), 2, "--temperature NaN"},
		{traces("--dropped", out), 2, "--dropped " + out + ": --out is to be written there"},
		{traces("--fit-before", "tomorrow"), 2, `--fit-before: "tomorrow" is no time`},
		{traces(), 1, "open GGUF file " + s.file("text")},

		{s.tune(filepath.Join(dir, "missing", "out.gguf")), 1, "--adapter-out " + filepath.Join(dir, "missing", "out.gguf")},
		{s.tune(filepath.Join(s.file("text"), "out.gguf")), 1, "is no folder"},
	}
	for _, command := range []func(...string) []string{pretrain, tune} {
		cases = append(cases,
			wrong{command("--steps", "0"), 2, "--steps 0: want 1 to"},
			wrong{command("--batch=-4"), 2, "--batch -4: want 1 to"},
			wrong{command("--batch", "1000000000"), 2, "--batch 1000000000: want 1 to 65536"},
			wrong{command("--threads", "0"), 2, "--threads 0: want 1 to"},
			wrong{command("--rate", "0"), 2, "--rate 0: want more than 0"},
			wrong{command("--rate", "NaN"), 2, "--rate NaN: want more than 0"},
			wrong{command("--checkpoint", filepath.Join(dir, "missing", "c")), 1, "--checkpoint " + filepath.Join(dir, "missing", "c")},
			wrong{command("--checkpoint", filepath.Join(dir, "c"), "--checkpoint-every", "0"), 2, "--checkpoint-every 0: want 1 to"},
		)
	}
	for _, tc := range cases {
		code, printed, log := lmRun(t.Context(), tc.args...)
		if code != tc.code || printed != "" || !strings.Contains(log, tc.want) {
			t.Errorf("r2rec lm %q: exit code %d, printed %q, %s; want %d and %q", tc.args, code, printed, log, tc.code, tc.want)
		}
		if strings.Contains(log, "goroutine") || strings.Contains(log, "level=INFO") {
			t.Errorf("r2rec lm %q: a stack, or work was done before: %s", tc.args, log)
		}
	}
	wantFiles(t, dir)
}

// Prompts of words need more of the graph than those of figures: history and chains; full figures need latent factors.
func TestTuneAsksForWhatThePromptShows(t *testing.T) {
	t.Parallel()
	s := newSlice(t)
	data, err := dataset.OpenFiles(s.file("events.csv"), s.file("items.csv"))
	s.must(err)
	before, err := parseMoment(s.before)
	s.must(err)
	c := lmTuneCommand{Cases: 30, evalGraph: evalGraph{History: 32, ItemList: 128, Met: 512, Positive: 4, Negative: 2}}
	p := &process{ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
	for _, version := range []int{iot.Figures, iot.Words, iot.FullFigures} {
		examples, err := c.examples(p, &stages{p: p}, data, before, event.Model{PromptVersion: version})
		s.must(err)
		history, chains, latent, byPopularity := 0, 0, false, 0
		for _, e := range examples {
			history += len(e.Context.History)
			chains += len(e.Context.Chains)
			latent = latent || slices.ContainsFunc(e.Context.Candidates, func(c event.Candidate) bool { return c.Evidence.Latent[0] > 0 })
			if e.Context.Draw > .5 {
				byPopularity++
			}
		}
		if latent != (version == iot.FullFigures) || byPopularity == 0 || byPopularity == len(examples) {
			t.Errorf("version %d: latent factors: %v; %d of %d examples drawn by popularity", version, latent, byPopularity, len(examples))
		}
		if words := version == iot.Words; len(examples) == 0 || words != (history > 0) || words != (chains > 0) {
			t.Errorf("version %d: %d examples with %d items of history and %d chains", version, len(examples), history, chains)
		}
	}
}
