package lora

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/safetensors"
)

// The files of a PEFT folder, and the affixes of its tensor names.
const (
	weightsFile  = "adapter_model.safetensors"
	configFile   = "adapter_config.json"
	manifestFile = "r2rec.json"

	peftPrefix = "base_model.model."
	peftA      = ".lora_A.weight"
	peftB      = ".lora_B.weight"
)

// ReadPEFT reads an adapter from a folder as Hugging Face's PEFT saves it, turning the rows of q and k into GGUF's order,
// and its manifest from r2rec.json if that is there. What an Adapter cannot express is an error that names it.
func ReadPEFT(dir string, heads Heads) (*Adapter, error) {
	a, err := readPEFT(dir, heads)
	if err != nil {
		return nil, fmt.Errorf("read PEFT adapter %s: %w", dir, err)
	}
	return a, nil
}

func readPEFT(dir string, heads Heads) (*Adapter, error) {
	a := &Adapter{Architecture: heads.Architecture}
	var err error
	if a.Rank, a.Alpha, err = readConfig(dir); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(dir, manifestFile), &a.Manifest); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, weightsFile))
	if err != nil {
		return nil, err
	}
	if a.Pairs, err = pairsFromPEFT(data, a.Rank, heads); err != nil {
		return nil, fmt.Errorf("%s: %w", weightsFile, err)
	}
	return a, a.Check()
}

// readJSON reads a small file.
func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// pairsFromPEFT reads the layers' matrices, in the order of the file.
func pairsFromPEFT(data []byte, rank int, heads Heads) ([]Pair, error) {
	if rank < 1 {
		return nil, fmt.Errorf("r is %d: want 1 or more", rank)
	}
	_, tensors, err := safetensors.Parse(data)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]safetensors.Tensor, len(tensors))
	for _, t := range tensors {
		byName[t.Name] = t
	}
	var pairs []Pair
	for _, t := range tensors {
		if name, isA := strings.CutSuffix(t.Name, peftA); isA {
			tb, ok := byName[name+peftB]
			if !ok {
				return nil, fmt.Errorf("tensor %.150q has no %s beside it", t.Name, peftB)
			}
			p, err := pairFromPEFT(name, t, tb, rank, heads)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, p)
			continue
		}
		name, isB := strings.CutSuffix(t.Name, peftB)
		if !isB {
			return nil, fmt.Errorf("tensor %.150q is no LoRA matrix of a linear layer", t.Name)
		}
		if _, ok := byName[name+peftA]; !ok {
			return nil, fmt.Errorf("tensor %.150q has no %s beside it", t.Name, peftA)
		}
	}
	return pairs, nil
}

func pairFromPEFT(name string, ta, tb safetensors.Tensor, rank int, heads Heads) (Pair, error) {
	layer, ok := strings.CutPrefix(name, peftPrefix)
	if !ok {
		return Pair{}, fmt.Errorf("tensor %.150q: its name does not begin with %s", ta.Name, peftPrefix)
	}
	t, err := parsePEFT(layer)
	if err != nil {
		return Pair{}, err
	}
	if len(ta.Shape) != 2 || len(tb.Shape) != 2 {
		return Pair{}, fmt.Errorf("target %q: A has %d and B %d dimensions: want 2", layer, len(ta.Shape), len(tb.Shape))
	}
	if ta.Shape[0] != rank || tb.Shape[1] != rank {
		return Pair{}, fmt.Errorf("target %q: A is %v and B %v, where r is %d: want [r, in] and [out, r]; mixed ranks are not supported", layer, ta.Shape, tb.Shape, rank)
	}
	p := Pair{Target: t.String(), In: ta.Shape[1], Out: tb.Shape[0], A: ta.Float32()}
	if p.B, err = reorder(tb.Float32(), rank, heads.of(t), true); err != nil {
		return Pair{}, fmt.Errorf("target %q: %w", layer, err)
	}
	return p, nil
}

// WritePEFT writes an adapter as a folder that Hugging Face's PEFT loads, turning the rows of q and k into Hugging Face's
// order, with its manifest in r2rec.json. The folder must not exist: it appears whole, or not at all.
func WritePEFT(dir string, a *Adapter, heads Heads) error {
	if err := writePEFT(dir, a, heads); err != nil {
		return fmt.Errorf("write PEFT adapter %s: %w", dir, err)
	}
	return nil
}

func writePEFT(dir string, a *Adapter, heads Heads) (err error) {
	if err := a.Check(); err != nil {
		return err
	}
	tensors, targets, err := peftTensors(a, heads)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, errors.New("exists already: remove it, or choose another name"))
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	files := map[string]func(io.Writer) error{
		weightsFile: func(w io.Writer) error { return safetensors.Write(w, map[string]string{"format": "pt"}, tensors) },
		configFile:  func(w io.Writer) error { return writeJSON(w, newConfig(a, targets)) },
	}
	if a.Manifest != (Manifest{}) {
		files[manifestFile] = func(w io.Writer) error { return writeJSON(w, a.Manifest) }
	}
	for name, write := range files {
		if err := gguf.WriteFile(filepath.Join(temporary, name), write); err != nil {
			return err
		}
	}
	if err := os.Chmod(temporary, 0o755); err != nil { // a temporary folder keeps others out
		return err
	}
	return os.Rename(temporary, dir)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// peftTensors returns the matrices under PEFT's names, and the layers that they belong to.
func peftTensors(a *Adapter, heads Heads) (tensors []safetensors.Tensor, targets []string, err error) {
	for _, p := range a.Pairs {
		t, err := parseTarget(p.Target)
		if err != nil {
			return nil, nil, err
		}
		b, err := reorder(p.B, a.Rank, heads.of(t), false)
		if err != nil {
			return nil, nil, fmt.Errorf("target %q: %w", p.Target, err)
		}
		ta, errA := safetensors.NewF32(peftPrefix+t.peft()+peftA, []int{a.Rank, p.In}, p.A)
		tb, errB := safetensors.NewF32(peftPrefix+t.peft()+peftB, []int{p.Out, a.Rank}, b)
		if err := errors.Join(errA, errB); err != nil {
			return nil, nil, err
		}
		tensors = append(tensors, ta, tb)
		targets = append(targets, t.peft())
	}
	slices.Sort(targets)
	return tensors, targets, nil
}
