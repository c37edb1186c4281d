package adapters_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "github.com/r2rec/r2rec/internal/adapters"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// toy is a small adapter; its weights follow from the seed.
func toy(seed uint64) *lora.Adapter {
	a := &lora.Adapter{Rank: 2, Alpha: 4, Manifest: lora.Manifest{BaseDigest: strings.Repeat("b", 64), Readout: "lines", PromptVersion: 2,
		TokenizerDigest: strings.Repeat("c", 64), Seed: seed, Steps: 3}}
	for _, target := range []string{"blk.0.attn_q", "blk.1.ffn_up"} {
		p := lora.Pair{Target: target, In: 8, Out: 6, A: make([]float32, 16), B: make([]float32, 12)}
		for i := range p.A {
			p.A[i] = float32(i) - float32(seed)
		}
		for i := range p.B {
			p.B[i] = float32(seed*7%5) + float32(i)/10
		}
		a.Pairs = append(a.Pairs, p)
	}
	return a
}

func write(t testing.TB, a *lora.Adapter) (path, digest string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "adapter.gguf")
	if err := lora.Write(path, a); err != nil {
		t.Fatal(err)
	}
	return path, digestOf(t, path)
}

func digestOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func openStore(t testing.TB, where string) *Store {
	t.Helper()
	s, err := OpenStore(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func canary() proof.Canary {
	item := func(id string) event.Candidate {
		return event.Candidate{ItemID: id, Title: "Item " + id, Origin: event.FromChains}
	}
	return proof.Canary{Context: event.Context{History: []event.HistoryItem{}, Candidates: []event.Candidate{item("1"), item("2")}, Chains: []event.Chain{}},
		Seed: 5, Base: []float64{-.5, -1}, Adapter: []float64{-1, -.4}}
}

// made is what a trainer says of an adapter.
func made() Manifest {
	return Manifest{Created: day(7), Seed: 11, Report: json.RawMessage(`{"reward":0.25}`), Canaries: []proof.Canary{canary()}}
}

func eachStore(t *testing.T, f func(t *testing.T, s *Store)) {
	t.Run("folder", func(t *testing.T) { f(t, openStore(t, t.TempDir())) })
	t.Run("memory", func(t *testing.T) { f(t, openStore(t, "mem://")) })
}

func TestWhatWasPutIsFetched(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store) {
		path, digest := write(t, toy(1))
		m := made()
		got, err := s.Put(t.Context(), path, m)
		if err != nil || got != digest {
			t.Fatalf("put: %s, %v; want the SHA-256 %s", got, err, digest)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		m.Version, m.Digest, m.Size, m.Model, m.Rank, m.Alpha, m.Targets = 1, digest, info.Size(), toy(1).Manifest, 2, 4, []string{"blk.0.attn_q", "blk.1.ffn_up"}
		cache := filepath.Join(t.TempDir(), "made", "by need")
		for _, when := range []string{"first", "again"} {
			brought, held, err := s.Fetch(t.Context(), digest, cache)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if diff := cmp.Diff(m, held); diff != "" {
				t.Errorf("%s: %s", when, diff)
			}
			if digestOf(t, brought) != digest {
				t.Errorf("%s: another file", when)
			}
		}
		if names := files(t, cache); len(names) != 1 {
			t.Errorf("the cache holds %v, want one file", names)
		}
	})
}

// files are the paths of all files below a folder.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// TestASecondFetchTakesTheCache, and only after it has looked whether the file is right.
func TestASecondFetchTakesTheCache(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	path, digest := write(t, toy(1))
	if _, err := s.Put(t.Context(), path, made()); err != nil {
		t.Fatal(err)
	}
	brought, _, err := s.Fetch(t.Context(), digest, cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(brought, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Fetch(t.Context(), digest, cache); err != nil || digestOf(t, brought) != digest {
		t.Fatalf("a spoilt cache is not replaced: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, digest, "adapter.gguf")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Fetch(t.Context(), digest, cache); err != nil {
		t.Errorf("with the file in the cache alone: %v", err)
	}
	if _, _, err := s.Fetch(t.Context(), digest, t.TempDir()); !isCorrupt(err, "adapter.gguf") {
		t.Errorf("without: %v, want a CorruptError", err)
	}
}

func isCorrupt(err error, object string) bool {
	var corrupt *CorruptError
	return errors.As(err, &corrupt) && corrupt.Object == object
}

func TestCorruptFilesAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		object string
		spoil  func([]byte) []byte
	}{
		"one bit":         {"adapter.gguf", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		"too short":       {"adapter.gguf", func(b []byte) []byte { return b[:len(b)-1] }},
		"too long":        {"adapter.gguf", func(b []byte) []byte { return append(b, 0) }},
		"empty":           {"adapter.gguf", func([]byte) []byte { return nil }},
		"empty manifest":  {"manifest.json", func([]byte) []byte { return nil }},
		"half a manifest": {"manifest.json", func(b []byte) []byte { return b[:len(b)/2] }},
		"of another": {"manifest.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"digest":"`), []byte(`"digest":"`+strings.Repeat("0", 64)+`","x":"`), 1)
		}},
		"for another base": {"manifest.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte(strings.Repeat("b", 64)), []byte(strings.Repeat("d", 64)), 1)
		}},
		"of a later version":  {"manifest.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1) }},
		"a canary of nothing": {"manifest.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"base":[-0.5,-1]`), []byte(`"base":[-0.5]`), 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			path, digest := write(t, toy(1))
			other, otherDigest := write(t, toy(2))
			for _, p := range []string{path, other} {
				if _, err := s.Put(t.Context(), p, made()); err != nil {
					t.Fatal(err)
				}
			}
			object := filepath.Join(dir, digest, c.object)
			b, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			spoilt := c.spoil(bytes.Clone(b))
			if bytes.Equal(spoilt, b) {
				t.Fatal("nothing was spoilt")
			}
			if err := os.WriteFile(object, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			cache := t.TempDir()
			if got, _, err := s.Fetch(t.Context(), digest, cache); !isCorrupt(err, c.object) || got != "" {
				t.Errorf("fetch: %q, %v; want a CorruptError of %s", got, err, c.object)
			}
			if names := files(t, cache); len(names) != 0 && c.object == "adapter.gguf" {
				t.Errorf("the cache holds %v", names)
			}
			list, err := s.List(t.Context())
			found := false
			for _, m := range list {
				found = found || m.Digest == otherDigest
			}
			if !found || err != nil && !isCorrupt(err, "manifest.json") {
				t.Errorf("list: %d adapters, the sound one: %v, %v", len(list), found, err)
			}
			// Who has the file can mend the store.
			if _, err := s.Put(t.Context(), path, made()); err != nil {
				t.Fatalf("put again: %v", err)
			}
			if c.spoil == nil || name == "for another base" { // such a manifest is sound in itself
				return
			}
			if _, _, err := s.Fetch(t.Context(), digest, t.TempDir()); err != nil {
				t.Errorf("after it was put again: %v", err)
			}
		})
	}
}

func TestPutAgainChangesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store) {
		path, digest := write(t, toy(1))
		bare := Manifest{Created: day(3)}
		later := made()
		later.Seed = 99
		for i, c := range []struct {
			put  Manifest
			seed uint64 // of the manifest that stays
		}{{bare, 0}, {Manifest{Created: day(4), Seed: 1}, 0}, {made(), 11}, {later, 11}, {bare, 11}} {
			if got, err := s.Put(t.Context(), path, c.put); err != nil || got != digest {
				t.Fatalf("put %d: %s, %v", i, got, err)
			}
			m, err := s.Manifest(t.Context(), digest)
			if err != nil || m.Seed != c.seed {
				t.Errorf("after put %d the manifest has the seed %d, want %d; %v", i, m.Seed, c.seed, err)
			}
		}
		if list, err := s.List(t.Context()); err != nil || len(list) != 1 || list[0].Canaries != nil {
			t.Errorf("list: %+v, %v; want one, without canaries", list, err)
		}
	})
}

func TestPutRefuses(t *testing.T) {
	path, digest := write(t, toy(1))
	silent := toy(1)
	silent.Manifest = lora.Manifest{}
	silentPath, _ := write(t, silent)
	text := filepath.Join(t.TempDir(), "text.gguf")
	if err := os.WriteFile(text, []byte("no GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Manifest)) Manifest {
		m := made()
		change(&m)
		return m
	}
	for name, c := range map[string]struct {
		path string
		m    Manifest
		want string
	}{
		"a missing file":         {"/does/not/exist.gguf", made(), "/does/not/exist.gguf"},
		"no GGUF":                {text, made(), "text.gguf"},
		"one that does not say":  {silentPath, made(), "nothing says which base model"},
		"for another base":       {path, with(func(m *Manifest) { m.Model = toy(1).Manifest; m.Model.PromptVersion = 1 }), "the manifest says model"},
		"of another rank":        {path, with(func(m *Manifest) { m.Rank = 8 }), "the manifest says rank 8, the file 2"},
		"with other targets":     {path, with(func(m *Manifest) { m.Targets = []string{"blk.0.attn_q"} }), "targets"},
		"another digest":         {path, with(func(m *Manifest) { m.Digest = strings.Repeat("a", 64) }), "digest"},
		"a parent that is none":  {path, with(func(m *Manifest) { m.Parent = "x" }), `parent: digest "x"`},
		"its own parent":         {path, with(func(m *Manifest) { m.Parent = digest }), "not learned from itself"},
		"no time":                {path, with(func(m *Manifest) { m.Created = 0 }), "created 0"},
		"a canary without share": {path, with(func(m *Manifest) { m.Canaries[0].Base = nil }), "canaries[0]: 2 candidates, 0 log shares"},
		"a canary of more":       {path, with(func(m *Manifest) { m.Canaries[0].Base[0] = 1 }), "log share 1"},
		"a canary of a bad item": {path, with(func(m *Manifest) { m.Canaries[0].Context.Candidates[0].ItemID = "" }), "canaries[0]: candidates[0].item_id"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, "mem://")
			if _, err := s.Put(t.Context(), c.path, c.m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
			if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("stored all the same: %v, %v", list, err)
			}
		})
	}
}

func TestWhatIsNotThere(t *testing.T) {
	eachStore(t, func(t *testing.T, s *Store) {
		path, digest := write(t, toy(1))
		missing := func(when string) {
			t.Helper()
			if _, _, err := s.Fetch(t.Context(), digest, t.TempDir()); !errors.Is(err, ErrNotStored) {
				t.Errorf("fetch %s: %v, want ErrNotStored", when, err)
			}
			if _, err := s.Manifest(t.Context(), digest); !errors.Is(err, ErrNotStored) {
				t.Errorf("manifest %s: %v, want ErrNotStored", when, err)
			}
			if err := s.Delete(t.Context(), digest); err != nil {
				t.Errorf("delete %s: %v, want none", when, err)
			}
		}
		missing("before")
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Put(cancelled, path, made()); !errors.Is(err, context.Canceled) {
			t.Errorf("put by who gave up: %v", err)
		}
		missing("after it was given up")
		if _, err := s.Put(t.Context(), path, made()); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), digest); err != nil {
			t.Fatal(err)
		}
		missing("after it was deleted")
		for _, bad := range []string{"", "../" + digest, strings.ToUpper(digest), digest[:63]} {
			if _, _, err := s.Fetch(t.Context(), bad, t.TempDir()); err == nil || errors.Is(err, ErrNotStored) {
				t.Errorf("fetch %q: %v, want an error about the digest", bad, err)
			}
			if err := s.Delete(t.Context(), bad); err == nil {
				t.Errorf("delete %q: no error", bad)
			}
		}
	})
}

func TestOpenStoreTeaches(t *testing.T) {
	for where, want := range map[string]string{
		"":                         "no folder and no URL",
		"ftp://user:hush@host/dir": "knows no ftp: want a folder",
		"file:///proc/none":        "/proc/none",
		"x://hush hush%":           "not a URL",
	} {
		_, err := OpenStore(t.Context(), where)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want an error with %q and no password", where, err, want)
		}
	}
}

func TestChange(t *testing.T) {
	m := made()
	m.Canaries = append(m.Canaries, proof.Canary{Base: []float64{-1, -2}, Adapter: []float64{-1, -2}})
	got := m.Change()
	if want := (Change{Canaries: 2, Mean: (.5 + .6) / 4, First: .5}); got.Canaries != want.Canaries || got.First != want.First || got.Mean < want.Mean-1e-12 || got.Mean > want.Mean+1e-12 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Manifest{}).Change(); got != (Change{}) {
		t.Errorf("without canaries: %+v", got)
	}
}

// What Put stored in a folder, or found there, is on the disk when it returns: the files and their names.
func TestPutLastsThroughALossOfPower(t *testing.T) {
	folder := t.TempDir()
	s := openStore(t, folder)
	path, digest := write(t, toy(1))
	m := Manifest{Created: 1.8e12}
	for range 2 {
		var synced []string
		s.OnSync(func(path string, sync func(string) error) error {
			name, err := filepath.Rel(folder, path)
			if err != nil {
				return err
			}
			synced = append(synced, filepath.ToSlash(name))
			return sync(path)
		})
		if _, err := s.Put(t.Context(), path, m); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{digest + "/adapter.gguf", digest + "/manifest.json", digest, "."}, synced); diff != "" {
			t.Errorf("synced (-want +got):\n%s", diff)
		}
	}
	s.OnSync(func(string, func(string) error) error { return fs.ErrInvalid })
	if _, err := s.Put(t.Context(), path, m); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("what cannot be synced is stored: %v", err)
	}
}
