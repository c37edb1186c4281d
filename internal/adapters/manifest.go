package adapters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/llama/lora"
	"github.com/r2rec/r2rec/internal/lm/proof"
)

// ManifestVersion is that of the manifests that this package writes, and the only one that it reads.
const ManifestVersion = 1

// Manifest describes a stored adapter. What it says of the file is taken from the file itself.
type Manifest struct {
	Version int           `json:"version"`
	Digest  string        `json:"digest"` // SHA-256 of the GGUF file, in lower-case hexadecimal
	Size    int64         `json:"size"`   // of the file, in bytes
	Model   lora.Manifest `json:"model"`  // what it was learned for; a server compares it with what it has
	Rank    int           `json:"rank"`
	Alpha   float64       `json:"alpha"`
	Targets []string      `json:"targets"` // the layers that it changes, in the order of the file

	Parent   string          `json:"parent"` // digest of the adapter that it was learned from; empty: the bare base model
	Created  event.Time      `json:"created"`
	Seed     uint64          `json:"seed"`             // of the round that made it
	Report   json.RawMessage `json:"report,omitempty"` // of that round, for people
	Canaries []proof.Canary  `json:"canaries,omitempty"`
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func checkDigest(digest string) error {
	if !hexDigest.MatchString(digest) {
		return fmt.Errorf("digest %.80q: want 64 lower-case hexadecimal digits", digest)
	}
	return nil
}

// describe completes m by what the file says of itself, and refuses it where the two differ.
func (m Manifest) describe(digest string, size int64, a *lora.Adapter) (Manifest, error) {
	own := Manifest{Version: ManifestVersion, Digest: digest, Size: size, Model: a.Manifest, Rank: a.Rank, Alpha: a.Alpha}
	for _, p := range a.Pairs {
		own.Targets = append(own.Targets, p.Target)
	}
	if own.Model == (lora.Manifest{}) {
		return m, own.Model.Check(lora.Manifest{}) // says what is missing
	}
	differ := func(field string, given, file any) (Manifest, error) {
		return m, fmt.Errorf("the manifest says %s %v, the file %v", field, given, file)
	}
	switch {
	case m.Version != 0 && m.Version != own.Version:
		return differ("version", m.Version, own.Version)
	case m.Digest != "" && m.Digest != own.Digest:
		return differ("digest", m.Digest, own.Digest)
	case m.Size != 0 && m.Size != own.Size:
		return differ("size", m.Size, own.Size)
	case m.Model != (lora.Manifest{}) && m.Model != own.Model:
		return differ("model", m.Model, own.Model)
	case m.Rank != 0 && m.Rank != own.Rank:
		return differ("rank", m.Rank, own.Rank)
	case m.Alpha != 0 && m.Alpha != own.Alpha:
		return differ("alpha", m.Alpha, own.Alpha)
	case m.Targets != nil && !slices.Equal(m.Targets, own.Targets):
		return differ("targets", m.Targets, own.Targets)
	}
	own.Parent, own.Created, own.Seed, own.Report, own.Canaries = m.Parent, m.Created, m.Seed, m.Report, m.Canaries
	return own, own.check()
}

// check tells whether a manifest is sound in itself.
func (m Manifest) check() error {
	if m.Version != ManifestVersion {
		return fmt.Errorf("version %d: this program reads version %d", m.Version, ManifestVersion)
	}
	if err := checkDigest(m.Digest); err != nil {
		return err
	}
	if m.Parent != "" {
		if err := checkDigest(m.Parent); err != nil {
			return fmt.Errorf("parent: %w", err)
		}
	}
	switch {
	case m.Parent == m.Digest:
		return errors.New("parent: an adapter is not learned from itself")
	case m.Size < 1:
		return fmt.Errorf("size %d: want 1 or more", m.Size)
	case m.Created < event.Earliest || m.Created > event.Latest:
		return fmt.Errorf("created %d: want Unix milliseconds, from 1980 to 9999", m.Created)
	}
	for i, c := range m.Canaries {
		if err := checkCanary(c); err != nil {
			return fmt.Errorf("canaries[%d]: %w", i, err)
		}
	}
	return nil
}

// rounding is how far above 0 a log share of all but 1 may come out.
const rounding = 1e-6

func checkCanary(c proof.Canary) error {
	n := len(c.Context.Candidates)
	if n < 2 || len(c.Base) != n || len(c.Adapter) != n {
		return fmt.Errorf("%d candidates, %d log shares by the base and %d with the adapter: want two candidates or more, and a share of each", n, len(c.Base), len(c.Adapter))
	}
	for i := range n {
		for _, share := range []float64{c.Base[i], c.Adapter[i]} {
			if math.IsNaN(share) || share > rounding || math.IsInf(share, 0) {
				return fmt.Errorf("candidate %d has the log share %v: want a finite number that is 0 or less", i, share)
			}
		}
	}
	return c.Context.Validate()
}

// Change is how much the adapters' answers to the canaries differ from the base's.
type Change struct {
	Canaries int     // how many
	Mean     float64 // mean absolute difference of a log share, over all candidates of all canaries
	First    float64 // share of the canaries whose best candidate is another
}

// Change compares the answers that the manifest holds. Without canaries it is zero.
func (m Manifest) Change() Change {
	base, adapter := make([][]float64, len(m.Canaries)), make([][]float64, len(m.Canaries))
	for i, c := range m.Canaries {
		base[i], adapter[i] = c.Base, c.Adapter
	}
	return CompareShares(base, adapter)
}

// CompareShares compares two rankers' log shares: of the same questions, each in the order of its candidates.
func CompareShares(a, b [][]float64) Change {
	c := Change{Canaries: len(a)}
	if len(a) == 0 {
		return c
	}
	n := 0
	for i := range a {
		for j := range a[i] {
			c.Mean += math.Abs(a[i][j] - b[i][j])
			n++
		}
		if best(a[i]) != best(b[i]) {
			c.First++
		}
	}
	c.Mean /= float64(n)
	c.First /= float64(len(a))
	return c
}

// best is the index of the first of the largest values.
func best(values []float64) int {
	at := 0
	for i, v := range values {
		if v > values[at] {
			at = i
		}
	}
	return at
}
