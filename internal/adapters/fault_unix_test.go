//go:build unix

package adapters_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/r2rec/r2rec/internal/adapters"
)

// TestAFullDisk lets every file end after so many bytes, from none up: nothing that looks whole is left, neither in the
// store nor in the cache, until everything fits; and then all is well without any repair.
// It runs in a process of its own, whose other files nobody needs.
func TestAFullDisk(t *testing.T) {
	if os.Getenv("R2REC_TEST_FULL_DISK") == "" {
		self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFullDisk$", "-test.v")
		self.Env = append(os.Environ(), "R2REC_TEST_FULL_DISK=1")
		if out, err := self.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestAFullDisk") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	path, digest := write(t, toy(1))
	m := made()
	m.Report = json.RawMessage(fmt.Sprintf("%q", strings.Repeat("long ", 500))) // the manifest is the larger file
	store, cache := t.TempDir(), t.TempDir()
	s := openStore(t, store)
	steps := 0
	for limit := uint64(0); ; limit += 256 {
		restore := fileSize(t, limit)
		_, err := s.Put(t.Context(), path, m)
		restore()
		if err == nil {
			break
		}
		steps++
		if !errors.Is(err, unix.EFBIG) && !strings.Contains(err.Error(), unix.EFBIG.Error()) {
			t.Fatalf("at %d bytes: %v, want the fault that was set", limit, err)
		}
		if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
			t.Fatalf("at %d bytes the store lists %v, %v", limit, list, err)
		}
		if _, _, err := s.Fetch(t.Context(), digest, cache); !errors.Is(err, ErrNotStored) {
			t.Fatalf("at %d bytes fetch says %v, want ErrNotStored", limit, err)
		}
		for _, name := range files(t, store) { // whole, and without a manifest not there
			if filepath.Base(name) != "adapter.gguf" || digestOf(t, name) != digest {
				t.Fatalf("at %d bytes the store holds %s", limit, name)
			}
		}
	}
	for limit := uint64(0); ; limit += 256 {
		restore := fileSize(t, limit)
		brought, _, err := s.Fetch(t.Context(), digest, cache)
		restore()
		if err == nil {
			if digestOf(t, brought) != digest {
				t.Error("another file was fetched")
			}
			break
		}
		steps++
		if names := files(t, cache); len(names) != 0 {
			t.Fatalf("at %d bytes the cache holds %v", limit, names)
		}
	}
	if steps < 10 {
		t.Errorf("only %d faults", steps)
	}
}

// fileSize bounds the files that this process can write, and returns what lifts the bound.
func fileSize(t testing.TB, bytes uint64) (restore func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: bytes, Max: before.Max})
	return func() { set(before) }
}
