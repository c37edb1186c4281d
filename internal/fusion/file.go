package fusion

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// version of the file's form and of what its columns mean. A change of encode needs another.
const version = 2

// Limits of a stored model, so that a damaged file can neither take all memory nor give scores that are not numbers.
const (
	maxFile     = 64 << 20 // bytes
	maxHidden   = 1024
	maxEnsemble = 64
	maxEpochs   = 10000
	maxWeight   = 1e6
)

//go:embed default.json
var defaultFile []byte

// defaultLearned is what the model that comes with the package was fitted on: MovieLens latest-small. Its file tells people; a
// field of it would change its digest, which stands in decisions.
var defaultLearned = event.Past{Before: 1436920104001, Digest: "422d039ff517847127dddb46276cb7c1a21739a515b34f3cfa43c9f932d71cf2"}

// Default decodes the model that comes with the package. Decoding takes about a millisecond: keep the result.
func Default() *Model {
	m, err := Load(bytes.NewReader(defaultFile))
	if err != nil {
		panic("the embedded model: " + err.Error())
	}
	return m
}

// Learned is what the model was fitted on; the zero value: it does not say.
func (m *Model) Learned() event.Past {
	if own := m.training.LearnedEvents; own != (event.Past{}) || m.Digest() != defaultDigest() {
		return own
	}
	return defaultLearned
}

// defaultDigest is that of the model that comes with the package, whose file is what Save writes.
func defaultDigest() string {
	sum := sha256.Sum256(defaultFile)
	return hex.EncodeToString(sum[:])
}

// file is the stored form of a model.
type file struct {
	Version  int          `json:"version"`
	Inputs   []string     `json:"inputs"` // names of the columns, in order
	Training Training     `json:"training"`
	Networks []fileMember `json:"networks"`
	Plain    []fileMember `json:"plain,omitempty"` // for lists without evidence of latent factors
}

type fileMember struct {
	Hidden [][]weight `json:"hidden"` // a row a unit: one an input
	Bias   []weight   `json:"bias"`   // one a unit
	Out    []weight   `json:"out"`    // one a unit
	Linear []weight   `json:"linear"` // one an input of a candidate, without those of the list
}

// weight is a float32 that JSON cannot leave out: null is refused, where the standard decoder would read 0.
type weight float32

// UnmarshalJSON reads a finite number.
func (w *weight) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return errors.New("a weight is null")
	}
	return json.Unmarshal(text, (*float32)(w))
}

// Save writes the model as JSON. Load reads it back exactly.
func (m *Model) Save(w io.Writer) error {
	f := file{Version: version, Inputs: columnNames(), Training: m.training}
	for _, n := range m.members {
		f.Networks = append(f.Networks, n.store(m.training.Hidden))
	}
	for _, n := range m.plain {
		f.Plain = append(f.Plain, n.store(m.training.Hidden))
	}
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("save fusion: %w", err)
	}
	if _, err := w.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("save fusion: %w", err)
	}
	return nil
}

// Digest is the SHA-256 of what Save writes, in hexadecimal: models with equal digests give equal scores.
func (m *Model) Digest() string {
	h := sha256.New()
	if err := m.Save(h); err != nil { // a hash takes every write, and the weights are finite numbers
		panic(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Load reads a model that Save wrote. It refuses, and says why, what it cannot use with certainty: another version, other
// inputs or another order of them, wrong numbers of weights, weights that are not numbers, and anything it does not know.
func Load(r io.Reader) (*Model, error) {
	m, err := load(r)
	if err != nil {
		return nil, fmt.Errorf("load fusion: %w", err)
	}
	return m, nil
}

func load(r io.Reader) (*Model, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxFile)
	}
	// The version comes first: what another version holds is not for this code to judge.
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("read its version: %w", err)
	}
	if head.Version != version {
		return nil, fmt.Errorf("its version is %d, this program reads %d: fit it again", head.Version, version)
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	return f.model()
}

func (f file) model() (*Model, error) {
	names := columnNames()
	if len(f.Inputs) != len(names) {
		return nil, fmt.Errorf("it has %d inputs, want %d: fit it again", len(f.Inputs), len(names))
	}
	for i, name := range names {
		if f.Inputs[i] != name {
			return nil, fmt.Errorf("its input %d is %q, want %q: fit it again", i, f.Inputs[i], name)
		}
	}
	t := f.Training
	without, err := sorted(t.Without)
	switch {
	case err != nil:
		return nil, fmt.Errorf("training.without: %w", err)
	case !slices.Equal(without, t.Without):
		return nil, fmt.Errorf("training.without is %q, want each once and in order: %q", t.Without, without)
	case t.Hidden < 1 || t.Hidden > maxHidden:
		return nil, fmt.Errorf("training.hidden is %d, want 1 to %d", t.Hidden, maxHidden)
	case t.Ensemble < 1 || t.Ensemble > maxEnsemble:
		return nil, fmt.Errorf("training.ensemble is %d, want 1 to %d", t.Ensemble, maxEnsemble)
	case len(f.Networks) != t.Ensemble:
		return nil, fmt.Errorf("it has %d networks, want training.ensemble: %d", len(f.Networks), t.Ensemble)
	case len(f.Plain) != 0 && len(f.Plain) != t.Ensemble:
		return nil, fmt.Errorf("it has %d plain networks, want training.ensemble, %d, or none", len(f.Plain), t.Ensemble)
	}
	if err := t.LearnedEvents.Check(); err != nil {
		return nil, fmt.Errorf("training.learned_events: %w", err)
	}
	m := &Model{training: t, removed: setOf(without)}
	if m.members, err = networks("networks", f.Networks, t.Hidden); err != nil {
		return nil, err
	}
	if m.plain, err = networks("plain", f.Plain, t.Hidden); err != nil {
		return nil, err
	}
	return m, nil
}

// networks checks the networks of one ensemble.
func networks(field string, stored []fileMember, units int) (members []*network, err error) {
	for i, one := range stored {
		n, err := one.network(units)
		if err != nil {
			return nil, fmt.Errorf("%s[%d].%w", field, i, err)
		}
		members = append(members, n)
	}
	return members, nil
}

// store gives the first units of a network as rows.
func (n *network) store(units int) fileMember {
	f := fileMember{Bias: make([]weight, units), Out: make([]weight, units), Linear: make([]weight, perCandidate)}
	for u := range units {
		row := make([]weight, biasColumn)
		for k := range row {
			row[k] = weight(n.hidden[at(u, k)])
		}
		f.Hidden = append(f.Hidden, row)
		f.Bias[u], f.Out[u] = weight(n.hidden[at(u, biasColumn)]), weight(n.out[u])
	}
	for k := range f.Linear {
		f.Linear[k] = weight(n.linear[k])
	}
	return f
}

// network checks a stored network and lays it out for computing.
func (f fileMember) network(units int) (*network, error) {
	n := newNetwork(units)
	if len(f.Hidden) != units {
		return nil, fmt.Errorf("hidden has %d rows, want one a unit: %d", len(f.Hidden), units)
	}
	for u, row := range f.Hidden {
		if err := place(row, biasColumn, func(k int) *float64 { return &n.hidden[at(u, k)] }); err != nil {
			return nil, fmt.Errorf("hidden[%d]%w", u, err)
		}
	}
	if err := place(f.Bias, units, func(u int) *float64 { return &n.hidden[at(u, biasColumn)] }); err != nil {
		return nil, fmt.Errorf("bias%w", err)
	}
	if err := place(f.Out, units, func(u int) *float64 { return &n.out[u] }); err != nil {
		return nil, fmt.Errorf("out%w", err)
	}
	if err := place(f.Linear, perCandidate, func(k int) *float64 { return &n.linear[k] }); err != nil {
		return nil, fmt.Errorf("linear%w", err)
	}
	return n, nil
}

// place copies weights to where they belong. Its errors continue the name of the list.
func place(weights []weight, want int, to func(int) *float64) error {
	if len(weights) != want {
		return fmt.Errorf(" has %d weights, want %d", len(weights), want)
	}
	for i, w := range weights {
		if !(math.Abs(float64(w)) <= maxWeight) {
			return fmt.Errorf("[%d] is %v, want a number between -%v and %v", i, w, maxWeight, maxWeight)
		}
		*to(i) = float64(w)
	}
	return nil
}
