package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/engine"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// loraFile writes an adapter over the base model that changes it at random, and returns its path and digest. change, if not
// nil, has the last word.
func loraFile(t testing.TB, seed uint64, change func(*lora.Adapter)) (path, digest string) {
	t.Helper()
	model, err := engine.Open(engine.Options{Trainable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	learner, err := model.NewAdapter(engine.AdapterOptions{Rank: 2, Seed: seed, Note: "made \x1b[31mby a test"})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "adapter.gguf")
	if err := gguf.WriteFile(path, learner.Write); err != nil {
		t.Fatal(err)
	}
	a, err := lora.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewPCG(seed, 1))
	for _, p := range a.Pairs {
		for i := range p.B {
			p.B[i] = float32(draw.NormFloat64() / 10)
		}
	}
	if change != nil {
		change(a)
	}
	if err := lora.Write(path, a); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return path, f.Digest()
}

// adaptersDesk runs r2rec adapters in one place.
type adaptersDesk struct {
	*testing.T
	args []string
}

func (d adaptersDesk) run(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = run(d.Context(), append(append([]string{"adapters"}, args...), d.args...), &o, &e)
	return o.String(), e.String(), code
}

func (d adaptersDesk) do(args ...string) string {
	d.Helper()
	out, errs, code := d.run(args...)
	if code != 0 {
		d.Fatalf("r2rec adapters %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
	}
	if strings.Contains(out, "\x1b") {
		d.Errorf("r2rec adapters %s moves the cursor: %q", strings.Join(args, " "), out)
	}
	return out
}

func (d adaptersDesk) refused(want string, args ...string) {
	d.Helper()
	if out, errs, code := d.run(args...); code != 1 || !strings.Contains(errs, want) {
		d.Errorf("r2rec adapters %s: exit code %d, %q, %q; want 1 and %q", strings.Join(args, " "), code, out, errs, want)
	}
}

// listed is what list --json says.
type listed struct {
	Current, Candidate string
	Share              float64
	Entries            int
	Adapters           []struct {
		Digest, State, Parent string
		Stored                bool
	}
	Unreadable []adapters.Entry
}

func (d adaptersDesk) list() (l listed, states map[string]string) {
	d.Helper()
	if err := json.Unmarshal([]byte(d.do("list", "--json")), &l); err != nil {
		d.Fatal(err)
	}
	states = map[string]string{}
	for _, a := range l.Adapters {
		states[a.Digest] = a.State
	}
	return l, states
}

func newAdaptersDesk(t *testing.T, k broker.Settings, store string) adaptersDesk {
	publish(t, k)
	return adaptersDesk{t, []string{"--adapters", store, "--kafka", strings.Join(k.Brokers, ","), "--topic-prefix", k.TopicPrefix, "--partitions", "1", "--log-level", "error"}}
}

// TestAdaptersByCommand goes through the life of three adapters.
func TestAdaptersByCommand(t *testing.T) {
	t.Parallel()
	one, a := loraFile(t, 1, nil)
	two, b := loraFile(t, 2, nil)
	three, c := loraFile(t, 3, nil)
	foreign, _ := loraFile(t, 4, func(a *lora.Adapter) { a.Manifest.BaseDigest = strings.Repeat("0", 64) })
	older, _ := loraFile(t, 5, func(a *lora.Adapter) { a.Manifest.PromptVersion = 1 })
	embeddedtest.EachKafka(t, func(t *testing.T, k broker.Settings) {
		d := newAdaptersDesk(t, k, filepath.Join(t.TempDir(), "made by need"))
		if out := d.do("list"); out != "Served: the bare base model\n" {
			t.Errorf("the list of nothing: %q", out)
		}
		d.refused("neither the log nor the store has any", "show", "abc")
		d.refused("there is nothing to roll back", "rollback")
		d.refused("the adapter is for base_digest 0000", "promote", foreign)
		d.refused("the adapter is for prompt_version 1, the server has 4", "promote", older)
		d.refused("and there is no file of that name", "promote", "does-not-exist")
		d.refused("rollback --to base", "promote", "base")
		if l, _ := d.list(); l.Entries != 0 || len(l.Adapters) != 0 {
			t.Fatalf("what was refused left something behind: %+v", l)
		}

		if out := d.do("promote", one, "--share", "1", "--reason", "the first"); !strings.Contains(out, "Record 0 counts.\nServed: adapter "+a[:12]) {
			t.Errorf("promote: %q", out)
		}
		d.refused("is current already", "promote", one)
		d.do("promote", two)
		if l, states := d.list(); l.Current != a || l.Candidate != b || l.Share != .1 || states[b] != "rolling out" || states[a] != "current" {
			t.Errorf("after a roll-out began: %+v", l)
		}
		if out := d.do("list"); !strings.Contains(out, "rolling out to 10 %") || !strings.Contains(out, "the first") {
			t.Errorf("the list does not tell of the roll-out:\n%s", out)
		}
		d.refused("adapter "+b[:12]+" is being rolled out: complete that or roll it back first", "promote", three)
		d.refused("--share 1 gives it to all", "promote", b[:8])
		d.do("promote", b[:8], "--share", "1")
		if l, states := d.list(); l.Current != b || l.Candidate != "" || states[a] != "retired" {
			t.Errorf("after its completion: %+v", l)
		}

		d.do("rollback", "--reason", "complaints")
		if l, states := d.list(); l.Current != a || states[b] != "rolled back" {
			t.Errorf("after a roll-back: %+v", l)
		}
		d.do("rollback")
		if l, _ := d.list(); l.Current != "" {
			t.Errorf("after a second one: %+v", l)
		}
		d.refused("is served: there is nothing", "rollback")
		d.do("rollback", "--to", b[:10])
		if l, states := d.list(); l.Current != b || states[b] != "current" {
			t.Errorf("back to what was rolled back: %+v", l)
		}
		d.refused("there is no adapter \"nonsense\"; known are", "rollback", "--to", "nonsense")
		d.refused(b[:12], "show", "nonsense")

		d.do("promote", three, "--share", "0.5")
		d.refused("only from it to adapter "+b[:12], "rollback", "--to", a)
		d.do("rollback")
		if l, states := d.list(); l.Current != b || l.Candidate != "" || states[c] != "rolled back" {
			t.Errorf("after the roll-out was taken back: %+v", l)
		}
		shown := d.do("show", a[:9])
		for _, want := range []string{"rolled back", "promote over base", "the first", "2, 4 over", "canaries         20", "roll back to base"} {
			if !strings.Contains(shown, want) {
				t.Errorf("show does not say %q:\n%s", want, shown)
			}
		}

		if out := d.do("prune", "--keep", "1", "--younger", "0s"); !strings.Contains(out, "Would be deleted; --yes deletes: 1 adapters") || !strings.Contains(out, c[:12]) {
			t.Errorf("prune: %q", out)
		}
		if l, _ := d.list(); !l.Adapters[2].Stored {
			t.Error("a look has deleted something")
		}
		d.do("prune", "--keep", "1", "--younger", "0s", "--yes")
		if l, _ := d.list(); !l.Adapters[0].Stored || !l.Adapters[1].Stored || l.Adapters[2].Stored {
			t.Errorf("after pruning: %+v; want that only the one that was never current is gone", l.Adapters)
		}
		if out := d.do("list"); !strings.Contains(out, "missing") {
			t.Errorf("the list does not tell that a file is gone:\n%s", out)
		}
	})
}

// Where nobody says where adapters' files are, a command that writes warns, and one that finds nothing there says where it looked.
func TestAdaptersInTheDefaultStore(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	one, first := loraFile(t, 1, nil)
	two, _ := loraFile(t, 2, nil)
	three, third := loraFile(t, 3, nil)
	d := newAdaptersDesk(t, broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}, t.TempDir())
	d.args = d.args[:len(d.args)-2] // logs warnings
	for _, path := range []string{one, two} {
		if _, errs, code := d.run("promote", path, "--share", "1"); code != 0 || strings.Contains(errs, "default store") {
			t.Fatalf("exit code %d, %q", code, errs)
		}
	}
	store := d.args[1]
	unnamed := d
	unnamed.args = d.args[2:]
	for _, want := range []string{filepath.Join(os.Getenv("XDG_STATE_HOME"), "r2rec", "adapters"), "R2REC_ADAPTERS", first[:12]} {
		unnamed.refused(want, "rollback")
		unnamed.refused(want, "promote", first)
	}
	if _, errs, code := unnamed.run("promote", three); code != 0 || !strings.Contains(errs, "default store") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	d.refused("--adapters "+store+": fetch: adapter "+third[:12], "promote", third, "--share", "1")
}

// Stopped while its record is on the way, promote says that nobody knows whether it is stored.
func TestPromoteIsStoppedWhileItWrites(t *testing.T) {
	t.Parallel()
	path, _ := loraFile(t, 1, nil)
	fake := fakeKafka(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		stop()
		return nil, nil, false
	})
	d := newAdaptersDesk(t, broker.Settings{Brokers: fake.ListenAddrs()}, t.TempDir())
	var out, errs bytes.Buffer
	if code := run(ctx, append([]string{"adapters", "promote", path}, d.args...), &out, &errs); code != exitStopped || !strings.Contains(errs.String(), "whether the record is stored is not known") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

// TestAdaptersListTellsOfWhatCannotBeRead, and of what only lies in the store.
func TestAdaptersListTellsOfWhatCannotBeRead(t *testing.T) {
	k := broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}
	folder := t.TempDir()
	d := newAdaptersDesk(t, k, folder)
	client, err := broker.New(k)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := client.NewWriter(broker.Adapters)
	defer w.Close()
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("{\"\x1b[2J")}); err != nil {
		t.Fatal(err)
	}
	path, digest := loraFile(t, 1, nil)
	store, err := adapters.OpenStore(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Put(t.Context(), path, adapters.Manifest{Created: event.Earliest}); err != nil {
		t.Fatal(err)
	}
	if l, states := d.list(); states[digest] != "stored" || len(l.Unreadable) != 1 {
		t.Errorf("%+v", l)
	}
	if out := d.do("list"); !strings.Contains(out, "Record 0 is void: it cannot be read") {
		t.Errorf("%q", out)
	}
	if out := d.do("show", digest); !strings.Contains(out, "The log does not know it.") {
		t.Errorf("%q", out)
	}
	if err := os.WriteFile(filepath.Join(folder, digest, "adapter.gguf"), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.refused("is corrupt", "promote", digest)

	// A process was killed while it stored another one.
	left := filepath.Join(folder, strings.Repeat("ab", 32), "adapter.gguf")
	long := time.Now().Add(-25 * time.Hour)
	if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o755), os.WriteFile(left, []byte("half"), 0o600), os.Chtimes(left, long, long)); err != nil {
		t.Fatal(err)
	}
	if out := d.do("prune", "--younger", "1000000h"); !strings.Contains(out, "Would be deleted; --yes deletes: 0 adapters and 1 files that belong to none, 4 bytes") || !strings.Contains(out, "left by a killed process") {
		t.Errorf("prune: %q", out)
	}
	d.do("prune", "--younger", "1000000h", "--yes")
	if _, err := os.Stat(left); err == nil {
		t.Error("what a killed process left is still there")
	}
}

// TestAdaptersDiff compares weights with those that are known, and answers by asking.
func TestAdaptersDiff(t *testing.T) {
	k := broker.Settings{Brokers: []string{embeddedtest.Kafka(t)}}
	folder := t.TempDir()
	d := newAdaptersDesk(t, k, folder)
	one, a := loraFile(t, 1, nil)
	// The same one, twice as strong in one layer.
	two, b := loraFile(t, 1, func(a *lora.Adapter) {
		for i := range a.Pairs[0].B {
			a.Pairs[0].B[i] *= 2
		}
	})
	store, err := adapters.OpenStore(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	canary := proof.Canary{Seed: 3, Base: []float64{-.5, -1, -2}, Adapter: []float64{-1, -.5, -2}}
	for i, title := range []string{"A", "B", "C"} {
		canary.Context.Candidates = append(canary.Context.Candidates, event.Candidate{ItemID: title, Title: title, Origin: event.FromChains,
			Evidence: event.Evidence{Chains: float64(i), Support: i, LikeMinded: float64(3 - i), Popularity: 7 * i}})
	}
	if _, err := store.Put(t.Context(), one, adapters.Manifest{Created: event.Earliest, Canaries: []proof.Canary{canary}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), two, adapters.Manifest{Created: event.Earliest}); err != nil {
		t.Fatal(err)
	}
	diff := func(a, b string) (out adapterDiff) {
		t.Helper()
		if err := json.Unmarshal([]byte(d.do("diff", a, b, "--json")), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := diff(a, a); got.Total.Between > 1e-6*got.Total.A || got.Answer.Mean != 0 || got.Answer.Number != 2 {
		t.Errorf("itself: %+v, %+v", got.Total, got.Answer)
	}
	got := diff(a[:20], b[:20])
	first := got.Layers[0]
	if r := *first.RelativeA; r < .999 || r > 1.001 {
		t.Errorf("a layer twice as strong differs by %v of it, want 1", r)
	}
	if r := *first.RelativeB; r < .499 || r > .501 {
		t.Errorf("and by %v of the stronger, want .5", r)
	}
	if r := *got.Layers[1].RelativeA; r > 1e-6 {
		t.Errorf("a layer that is the same differs by %v", r)
	}
	if got.Answer == nil || got.Answer.Number != 1 || !(got.Answer.Mean > 0) {
		t.Errorf("answers: %+v; want that they differ", got.Answer)
	}
	base := diff("base", b)
	if base.Total.A != 0 || base.Total.RelativeA != nil || *base.Total.RelativeB != 1 || base.Answer != nil || base.Why == "" {
		t.Errorf("against the base: %+v", base)
	}
	if out := d.do("diff", a, b); !strings.Contains(out, "blk.0.attn_q") || !strings.Contains(out, "100.0 %") || !strings.Contains(out, "Canaries: 1;") {
		t.Errorf("the table:\n%s", out)
	}
}

func TestPruneKeepsWhatCanBeGoneBackTo(t *testing.T) {
	var s adapters.State
	add := func(kind event.PromotionKind, adapter, parent string, share float64) {
		s = s.Apply(s.Offset, event.Promotion{Kind: kind, Adapter: adapter, Parent: parent, Share: share, Base: "b", Readout: "lines", Timestamp: event.Earliest})
	}
	add(event.Promote, "a", "", 1)
	add(event.Promote, "b", "a", 1)
	add(event.Promote, "c", "b", 1)
	add(event.Promote, "d", "c", 1)
	add(event.RollBack, "b", "d", 0)
	add(event.Promote, "e", "b", .1)
	stored := map[string]adapters.Manifest{}
	for _, digest := range []string{"a", "b", "c", "d", "e", "old", "new"} {
		stored[digest] = adapters.Manifest{Digest: digest, Size: 10, Created: event.Earliest}
	}
	stored["new"] = adapters.Manifest{Digest: "new", Size: 10, Created: event.Earliest + 100}
	for keep, want := range map[int]string{
		0: "a c d old", // b is current, e being rolled out, new is perhaps about to be appended
		1: "c old",     // a is what b followed, d was served last
		2: "old",
	} {
		var got []string
		out := toPrune(s, stored, keep, event.Earliest+50)
		for _, m := range out.Prune {
			got = append(got, m.Digest)
		}
		if strings.Join(got, " ") != want || out.Bytes != int64(10*len(got)) || out.Kept != 7-len(got) {
			t.Errorf("keep %d: prune %v, %d bytes, %d kept; want %s", keep, got, out.Bytes, out.Kept, want)
		}
	}
}

// The bare model is asked as the adapter has it read; adapters that are read differently are not compared by their answers.
func TestAdaptersAreComparedAsTheyAreRead(t *testing.T) {
	read := func(readout string, prompt int) *lora.Adapter {
		return &lora.Adapter{Manifest: lora.Manifest{Readout: readout, PromptVersion: prompt}}
	}
	verdicts, letters := compared{adapter: read("verdicts", 4)}, compared{adapter: read("letters", 1)}
	for _, two := range [][2]compared{{{}, verdicts}, {verdicts, {}}, {verdicts, verdicts}} {
		if as, err := readAlike(two); err != nil || as.Readout != "verdicts" || as.PromptVersion != 4 {
			t.Errorf("%+v are asked by %s of prompt %d, %v", two, as.Readout, as.PromptVersion, err)
		}
	}
	if _, err := readAlike([2]compared{verdicts, letters}); err == nil || !strings.Contains(err.Error(), "by verdicts of prompt 4, and by letters of prompt 1") {
		t.Errorf("adapters that are read differently: %v", err)
	}
}
