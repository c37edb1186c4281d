package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ReadRanks reads a file of ranks: a JSON object that has, under the name of each ranker, the rank it gave to the positive
// of each case, in the order of the file of cases.
func ReadRanks(path string) (map[string][]float64, error) {
	raw, err := readRanks(path)
	if err != nil {
		return nil, fmt.Errorf("read ranks: %w", err)
	}
	all := make(map[string][]float64, len(raw))
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if all[key], err = parseRanks(raw[key]); err != nil {
			return nil, fmt.Errorf("read ranks: %s: key %s: %w", path, quote(key), err)
		}
	}
	return all, nil
}

// ReadRanksOf reads the ranks that one ranker gave to the cases, from RANKS.json:KEY. The path may contain colons: the
// last one separates the key.
func ReadRanksOf(ref string, cases []Case) (key string, ranks []float64, err error) {
	colon := strings.LastIndexByte(ref, ':')
	if colon <= 0 || colon == len(ref)-1 {
		return "", nil, fmt.Errorf("read ranks: %s: want RANKS.json:KEY", quote(ref))
	}
	path, key := ref[:colon], ref[colon+1:]
	all, err := readRanks(path)
	if err != nil {
		return "", nil, fmt.Errorf("read ranks: %w", err)
	}
	raw, ok := all[key]
	if !ok {
		return "", nil, fmt.Errorf("read ranks: %s: has no key %s: it has %s", path, quote(key), quoteAll(slices.Sorted(maps.Keys(all))))
	}
	if ranks, err = parseRanks(raw); err == nil {
		err = CheckRanks(cases, ranks)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read ranks: %s: key %s: %w", path, quote(key), err)
	}
	return key, ranks, nil
}

// CheckRanks tells whether ranks can be those of the cases: one a case, within its number of candidates.
func CheckRanks(cases []Case, ranks []float64) error {
	if len(ranks) != len(cases) {
		return fmt.Errorf("has %d ranks for %d cases: want the ranks of these cases, one for each", len(ranks), len(cases))
	}
	for i, r := range ranks {
		if most := len(cases[i].Candidates); !(r >= 1 && r <= float64(most)) {
			return fmt.Errorf("[%d]: %v: case %s has ranks from 1 to %d", i, r, quote(cases[i].ID), most)
		}
	}
	return nil
}

// WriteRanks puts ranks into a file of ranks, each list under its key. Keys that the file has besides are kept; the file
// is made if there is none. It changes as a whole or not at all; of two writers at one time the later wins.
func WriteRanks(path string, ranks map[string][]float64) error {
	all, err := readRanks(path)
	if errors.Is(err, fs.ErrNotExist) {
		all, err = map[string]json.RawMessage{}, nil
	}
	if err != nil {
		return fmt.Errorf("write ranks: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(ranks)) {
		if all[key], err = json.Marshal(ranks[key]); err != nil {
			return fmt.Errorf("write ranks: key %s: %w", quote(key), err)
		}
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("write ranks: %w", err)
	}
	if err := replace(path, append(raw, '\n')); err != nil {
		return fmt.Errorf("write ranks: %w", err)
	}
	return nil
}

func readRanks(path string) (map[string]json.RawMessage, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`%s: %s: want a JSON object, {"ranker":[1,2.5,…],…}`, path, quoteError(err))
	}
	if all == nil {
		return nil, fmt.Errorf(`%s: null: want a JSON object, {"ranker":[1,2.5,…],…}`, path)
	}
	return all, nil
}

func parseRanks(raw json.RawMessage) ([]float64, error) {
	var ranks []*float64 // a null would be a silent 0
	if err := json.Unmarshal(raw, &ranks); err != nil || ranks == nil {
		return nil, fmt.Errorf("%s: want a list of numbers, one rank a case", quote(string(raw)))
	}
	values := make([]float64, len(ranks))
	for i, r := range ranks {
		if r == nil || *r < 1 {
			value := "null"
			if r != nil {
				value = fmt.Sprint(*r)
			}
			return nil, fmt.Errorf("[%d]: %s: want a rank, 1 or more", i, value)
		}
		values[i] = *r
	}
	return values, nil
}

// replace writes a file so that a reader sees the old content or the new one.
func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	mode := fs.FileMode(0o644) // that of a temporary file keeps others out
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func quoteAll(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}
