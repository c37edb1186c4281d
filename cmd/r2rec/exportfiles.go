package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// Files of an export.
const (
	rolloutsFile = "rollouts.jsonl"
	manifestFile = "r2rec.json" // which a PEFT folder brings back
)

// writeExport makes a folder that a trainer elsewhere reads: the lines that rows encodes, and then the manifest, which rows
// may still change.
func writeExport(dir string, m *lora.Manifest, rows func(line func(any) error) error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The lines are what the manifest says they are, or there is no manifest.
	if err := os.Remove(filepath.Join(dir, manifestFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := gguf.WriteFile(filepath.Join(dir, rolloutsFile), func(w io.Writer) error {
		out := bufio.NewWriter(w)
		lines := json.NewEncoder(out)
		lines.SetEscapeHTML(false)
		return errors.Join(rows(lines.Encode), out.Flush())
	})
	if err != nil {
		return err
	}
	return gguf.WriteFile(filepath.Join(dir, manifestFile), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(m)
	})
}
