package eval

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var twoCases = []Case{ask("x", "u", 1, "a", "b"), ask("y", "v", 2, "a", "b", "c")}

func TestRanksGoRound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ranks: mine.json")
	first := map[string][]float64{"a:b": {1, 2.5}, "pop": {2, 3}, "": {1, 1}}
	if err := WriteRanks(path, first); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRanks(path)
	if diff := cmp.Diff(first, got); err != nil || diff != "" {
		t.Fatalf("%v (-written +read):\n%s", err, diff)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := WriteRanks(path, map[string][]float64{"pop": {1, 1}, "new": {2, 1.5}}); err != nil {
		t.Fatal(err)
	}
	want := map[string][]float64{"a:b": {1, 2.5}, "pop": {1, 1}, "": {1, 1}, "new": {2, 1.5}}
	got, err = ReadRanks(path)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("merged: %v (-want +got):\n%s", err, diff)
	}
	key, ranks, err := ReadRanksOf(path+":new", twoCases)
	if err != nil || key != "new" || !slices.Equal(ranks, []float64{2, 1.5}) {
		t.Errorf("%q %v %v", key, ranks, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v, want that of the file before", info.Mode(), err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("%v lie in the folder, %v", files, err)
	}
}

// What the file holds for others is kept even where it is no list of ranks, and a file that is something else is left alone.
func TestWritingKeepsWhatIsThere(t *testing.T) {
	path := write(t, "ranks.json", `{"note": {"by": "hand"}, "pop": [1]}`)
	if err := WriteRanks(path, map[string][]float64{"pop": {2}}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if want := `{"note":{"by":"hand"},"pop":[2]}` + "\n"; err != nil || string(raw) != want {
		t.Errorf("%s %v, want %s", raw, err, want)
	}
	for _, content := range []string{"", "[1,2]", "null", `{"pop":[1`} {
		path := write(t, "other.json", content)
		err := WriteRanks(path, map[string][]float64{"pop": {2}})
		if raw, readErr := os.ReadFile(path); err == nil || !strings.Contains(err.Error(), path) || readErr != nil || string(raw) != content {
			t.Errorf("%q became %q, %v", content, raw, err)
		}
	}
	if err := WriteRanks(path, map[string][]float64{"pop": {nan}}); err == nil || !strings.Contains(err.Error(), `key "pop"`) {
		t.Errorf("NaN: %v", err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(raw) {
		t.Errorf("a failed write changed the file to %s, %v", again, err)
	}
	missing := filepath.Join(t.TempDir(), "no", "ranks.json")
	if err := WriteRanks(missing, map[string][]float64{"pop": {2}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that there is no such folder", err)
	}
}

func TestAFailedReplacementLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder") // a file cannot take its place
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("{}")); err == nil {
		t.Error("a folder was replaced")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v lie in the folder, %v", files, err)
	}
}

func TestBadRanks(t *testing.T) {
	path := write(t, "ranks.json", `{"pop":[1,2],"short":[1],"text":["1",2],"none":null,"hole":[1,null],"zero":[0,1],"large":[2.5,1],"b":[1,3]}`)
	for ref, want := range map[string]string{
		"ranks.json":    `"ranks.json": want RANKS.json:KEY`,
		":pop":          `":pop": want RANKS.json:KEY`,
		path + ":":      "want RANKS.json:KEY",
		path + ":pop":   "",
		path + ":b":     "",
		path + ":knn":   path + `: has no key "knn": it has "b", "hole", "large", "none", "pop", "short", "text", "zero"`,
		path + ":short": path + `: key "short": has 1 ranks for 2 cases`,
		path + ":text":  `key "text": "[\"1\",2]": want a list of numbers`,
		path + ":none":  `key "none": "null": want a list of numbers`,
		path + ":hole":  `key "hole": [1]: null: want a rank, 1 or more`,
		path + ":zero":  `key "zero": [0]: 0: want a rank, 1 or more`,
		path + ":large": `key "large": [0]: 2.5: case "x" has ranks from 1 to 2`,
		path + "no:pop": "no such file",
		path + ":a:pop": "no such file",
	} {
		_, _, err := ReadRanksOf(ref, twoCases)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\n got %v\nwant %s", ref, err, want)
		}
	}
	if _, err := ReadRanks(path); err == nil || !strings.Contains(err.Error(), path+`: key "hole"`) {
		t.Errorf("all keys: %v", err)
	}
	if _, _, err := ReadRanksOf(write(t, "empty.json", "{}")+":pop", twoCases); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Error(err)
	}
}
