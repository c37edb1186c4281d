package kernel

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestTheAssemblyIsWhatTheGeneratorWrites(t *testing.T) {
	dir := t.TempDir()
	files := []string{"kernel_amd64.s", "kernel_amd64.go"}
	generate := exec.Command("go", "run", "./gen", "-out", filepath.Join(dir, files[0]), "-stubs", filepath.Join(dir, files[1]), "-pkg", "kernel")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range files {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		// The first line names the command with its paths.
		_, committed, _ = bytes.Cut(committed, []byte("\n"))
		_, written, _ = bytes.Cut(written, []byte("\n"))
		if !bytes.Equal(committed, written) {
			t.Errorf("%s is not what the generator writes: run go generate ./internal/llama/kernel", name)
		}
	}
}
