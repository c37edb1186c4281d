package adapters_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	. "github.com/r2rec/r2rec/internal/adapters"
)

// What killed processes left is found once it is old, and discarded; adapters, what is being stored, and what is somebody
// else's stay.
func TestLeftovers(t *testing.T) {
	folder := t.TempDir()
	s := openStore(t, folder)
	path, digest := write(t, toy(1))
	if _, err := s.Put(t.Context(), path, Manifest{Created: 1.8e12}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(name string, age time.Duration) string {
		t.Helper()
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("1234"), 0o600), os.Chtimes(file, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const old, young = 3 * time.Hour, time.Hour
	killed, under := strings.Repeat("a", 64), strings.Repeat("b", 64)
	file := put(killed+"/adapter.gguf", old)
	want := []Leftover{{put(digest+"/adapter.gguf.18ab.tmp", old), 4}, {put(killed+"/manifest.json.18ab.tmp", old), 4}, {file, 4}}
	kept := []string{digest + "/adapter.gguf", digest + "/manifest.json", put(under+"/adapter.gguf", young), put(under+"/manifest.json.18ab.tmp", young), put("adapter.gguf", old), put("else/adapter.gguf", old), put(killed+"/mine", old)}
	if err := os.Chtimes(filepath.Join(folder, kept[0]), now.Add(-old), now.Add(-old)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Leftovers(t.Context(), now.Add(-2*time.Hour))
	sorted := func(a, b Leftover) bool { return a.Key < b.Key }
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(sorted)); diff != "" || err != nil {
		t.Errorf("%v, leftovers (-want +got):\n%s", err, diff)
	}
	// Stored after all, between a look and its end.
	if err := os.WriteFile(filepath.Join(folder, under, "manifest.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range append(got, Leftover{under + "/adapter.gguf", 4}) {
		if err := s.Discard(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, l := range want {
		if _, err := os.Stat(filepath.Join(folder, l.Key)); err == nil {
			t.Errorf("%s is left", l.Key)
		}
	}
}
