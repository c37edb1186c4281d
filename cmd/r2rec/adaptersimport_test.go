package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/rltrainer"
	"github.com/redis/go-redis/v9"
)

// peft writes an adapter as another trainer would: PEFT's folder, and what it answers.
func peft(t *testing.T, path string, before event.Time, change func(m *lora.Manifest, answers []trainerAnswer)) (dir string) {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	base, err := gguf.Open(baseFile)
	fail(err)
	defer base.Close()
	heads, err := lora.HeadsOf(base)
	fail(err)
	a, err := lora.Read(path)
	fail(err)
	model, err := engine.Open(engine.Options{Path: baseFile, Adapter: path})
	fail(err)
	defer model.Close()
	var answers []trainerAnswer
	for i, c := range randomContexts(3) {
		p, err := iot.Build(iot.FullFigures, c, uint64(i))
		fail(err)
		shares, err := model.Rank(t.Context(), p)
		fail(err)
		said := trainerAnswer{Prompt: p.Text}
		for j, k := range p.Order {
			said.Completions = append(said.Completions, " "+string(rune('A'+j)))
			said.LogShares = append(said.LogShares, shares[k])
		}
		answers = append(answers, said)
	}
	a.Manifest.LearnedBefore = int64(before)
	if change != nil {
		change(&a.Manifest, answers)
	}
	dir = filepath.Join(t.TempDir(), "adapter")
	fail(lora.WritePEFT(dir, a, heads))
	f, err := os.Create(filepath.Join(dir, answersFile))
	fail(err)
	for _, said := range answers {
		fail(json.NewEncoder(f).Encode(said))
	}
	fail(f.Close())
	return dir
}

// What another trainer made is judged by what was decided after its export, and promoted by the same gate; what is for
// another model, says nothing, or does not answer as it did there is refused before anybody is judged.
func TestAdaptersImport(t *testing.T) {
	t.Parallel()
	p := lived(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, &redis.UniversalOptions{Addrs: []string{embeddedtest.Redis(t)}})
	model, _ := loraFile(t, 3, nil) // nothing that users want
	wants := learnedFile(t, p)
	flags := append(p.kafkaArgs(), p.redisArgs()...)
	importing := func(dir string, more ...string) []string {
		args := append([]string{"adapters", "import", dir, "--json", "--model", baseFile, "--adapters", p.folder, "--detect", ".3", "--work", t.TempDir(), "--log-level", "warn"}, flags...)
		return append(args, more...)
	}

	for want, change := range map[string]func(m *lora.Manifest, answers []trainerAnswer){
		"base_digest":    func(m *lora.Manifest, _ []trainerAnswer) { m.BaseDigest = strings.Repeat("0", 64) },
		"learned_before": func(m *lora.Manifest, _ []trainerAnswer) { m.LearnedBefore = 0 },
		"differ from what the trainer computed by": func(_ *lora.Manifest, answers []trainerAnswer) {
			for i := range answers[0].LogShares {
				answers[0].LogShares[i] += .2 * float64(i%2)
			}
		},
		"want the letters in their order": func(_ *lora.Manifest, answers []trainerAnswer) { answers[1].Completions[0] = " yes" },
	} {
		if said := p.fails(importing(peft(t, wants.path, wants.before, change))...); !strings.Contains(said, want) {
			t.Errorf("import says %s, want %q", said, want)
		}
	}
	bare := peft(t, wants.path, wants.before, nil)
	if err := os.Remove(filepath.Join(bare, manifestFile)); err != nil {
		t.Fatal(err)
	}
	for want, wrong := range map[string]struct {
		code int
		args []string
	}{
		"has no r2rec.json": {1, importing(bare)},
		"--since":           {exitMisused, importing(bare, "--since", "yesterday")},
		"--model":           {exitMisused, append([]string{"adapters", "import", bare, "--adapters", p.folder}, flags...)},
	} {
		if said := p.ends(wrong.code, wrong.args...); !strings.Contains(said, want) {
			t.Errorf("import says %s, want %q", said, want)
		}
	}

	// Converted without a gate it is the same adapter; one that answers otherwise is not written.
	out := filepath.Join(t.TempDir(), "converted.gguf")
	convert := func(dir string) []string {
		return []string{"adapters", "convert", dir, "--model", baseFile, "--adapter-out", out}
	}
	if said := p.fails(convert(peft(t, wants.path, wants.before, func(_ *lora.Manifest, answers []trainerAnswer) { slices.Reverse(answers[0].LogShares) }))...); !strings.Contains(said, "differ from what the trainer computed by") {
		t.Errorf("convert says %s", said)
	}
	wantFiles(t, filepath.Dir(out))
	p.do(convert(peft(t, wants.path, wants.before, nil))...)
	wantFiles(t, filepath.Dir(out), "converted.gguf")
	was, err := lora.Read(wants.path)
	if err != nil {
		t.Fatal(err)
	}
	is, err := lora.Read(out)
	if err != nil || !reflect.DeepEqual(is.Pairs, was.Pairs) {
		t.Errorf("another adapter than the one that was converted: %v", err)
	}

	verdict := func(want rltrainer.Verdict, dir string, more ...string) rltrainer.Report {
		t.Helper()
		out, err := p.process(importing(dir, more...)...).Output()
		var r rltrainer.Report
		if json.Unmarshal(out, &r) != nil || r.Verdict != want {
			t.Fatalf("import: %v, %s; want %s", err, out, want)
		}
		return r
	}
	// What taught it does not judge it, whatever --since says.
	if r := verdict(rltrainer.NothingToLearn, peft(t, model, event.At(time.Now().Add(time.Hour)), nil), "--since", "2020-01-01T00:00:00Z"); !strings.Contains(r.Reason, "nothing to go by") {
		t.Errorf("the reason is %s", r.Reason)
	}
	if r := verdict(rltrainer.Refused, peft(t, model, wants.before, nil)); r.Gate == nil {
		t.Error("refused without a gate")
	}
	// Those decisions are used up: nothing is left for the next.
	if r := verdict(rltrainer.NothingToLearn, peft(t, wants.path, wants.before, nil)); !strings.Contains(r.Reason, "nothing to go by") {
		t.Errorf("the reason is %s", r.Reason)
	}
	p.live(p.base, 640, "later ") // what users do afterwards
	if r := verdict(rltrainer.Promoted, peft(t, wants.path, wants.before, nil)); r.Held == 0 || r.Training != 0 {
		t.Errorf("promoted by %+v", r)
	}
}

// learned is an adapter that was made elsewhere.
type learned struct {
	path   string
	before event.Time
}

// learnedFile fits an adapter on the older half of what was decided, as another trainer would.
func learnedFile(t *testing.T, p *trainer) learned {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	kc, err := broker.New(p.kafka)
	fail(err)
	defer kc.Close()
	h := history{kc}
	mark, err := h.Mark(t.Context())
	fail(err)
	var decisions []event.Decision
	var rewards []event.Reward
	_, err = h.Rewards(t.Context(), 0, mark, func(r event.Reward) error { rewards = append(rewards, r); return nil })
	fail(err)
	_, err = h.Decisions(t.Context(), 0, mark, func(d event.Decision) error { decisions = append(decisions, d); return nil })
	fail(err)
	who, err := newTeacher(t.Context(), engine.Options{}, engine.AdapterOptions{Rank: 8}, 2)
	fail(err)
	defer who.Close()
	earlier, later := rltrainer.Split(rltrainer.Join(decisions, rewards, rltrainer.JoinOptions{Model: who.Model()}).Rollouts, .5)
	const steps = 60
	l, err := who.Begin(rltrainer.LearnerOptions{Seed: 1, Steps: steps, Rate: 3e-3, Run: "elsewhere"})
	fail(err)
	fail(rltrainer.Fit(t.Context(), l, rltrainer.Choices(earlier), rltrainer.FitOptions{PromptVersion: who.Model().PromptVersion, Steps: steps, Batch: 32, Seed: 1}))
	out := learned{filepath.Join(t.TempDir(), "learned.gguf"), later[0].Decision.Timestamp}
	fail(gguf.WriteFile(out.path, l.Write))
	return out
}

// Whoever is interrupted while Kafka is away sees no crash, and no list.
func TestAdaptersWithoutKafka(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	run(ctx, []string{"adapters", "list", "--adapters", t.TempDir(), "--kafka", "127.0.0.1:1"}, &out, &errs)
	if out.Len() > 0 {
		t.Errorf("it says %s%s", out.String(), errs.String())
	}
}
