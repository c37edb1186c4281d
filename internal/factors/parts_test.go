package factors

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestPartsAndJoin(t *testing.T) {
	e, _ := world(t, 50, 40, 1)
	m := fitted(t, e, Options{Dimensions: 3})
	for _, n := range []int{1, 7, 64} { // some are empty
		got, err := Join("m", m.Parts("m", n))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("in %d parts it comes back as another", n)
		}
	}
}

// Join refuses every kind of damage, and says what it is.
func TestJoinRefuses(t *testing.T) {
	e, _ := world(t, 50, 40, 2)
	m := fitted(t, e, Options{Dimensions: 3})
	e, _ = world(t, 50, 40, 2)
	other := fitted(t, e, Options{Dimensions: 3, Seed: 5})
	headOf := func(b []byte) int { return 8 + int(binary.LittleEndian.Uint32(b[4:])) }
	for name, c := range map[string]struct {
		damage func(parts [][]byte) [][]byte // of bodies, without their checksums
		want   string
	}{
		"no parts":            {func([][]byte) [][]byte { return nil }, "they are of 0 items"},
		"an empty part":       {func(p [][]byte) [][]byte { p[1] = nil; return p }, "part 2 of 3: it does not begin as factors do"},
		"something else":      {func(p [][]byte) [][]byte { p[1] = []byte("GIF89a and more"); return p }, "it does not begin as factors do"},
		"the head cut off":    {func(p [][]byte) [][]byte { p[0] = p[0][:20]; return p }, "its head is cut off"},
		"a head that is none": {func(p [][]byte) [][]byte { p[0][9] = '!'; return p }, "its head: "},
		"cut off":             {func(p [][]byte) [][]byte { p[2] = p[2][:len(p[2])-1]; return p }, "part 3 of 3: it is cut off"},
		"cut between items":   {func(p [][]byte) [][]byte { p[2] = p[2][:headOf(p[2])]; return p }, "it is cut off"},
		"more":                {func(p [][]byte) [][]byte { p[0] = append(p[0], 1, 2); return p }, "2 bytes follow its end"},
		"in disorder":         {func(p [][]byte) [][]byte { p[0], p[1] = p[1], p[0]; return p }, `it is part 2 of 3 of "m"`},
		"one is missing":      {func(p [][]byte) [][]byte { return p[:2] }, `it is part 1 of 3 of "m"`},
		"of another name":     {func(p [][]byte) [][]byte { p[1] = bodies(m.Parts("x", 3))[1]; return p }, `it is part 2 of 3 of "x"`},
		"of another training": {func(p [][]byte) [][]byte { p[1] = bodies(other.Parts("m", 3))[1]; return p }, "it is of another training than the first"},
		"not a number": {func(p [][]byte) [][]byte {
			binary.LittleEndian.PutUint32(p[1][len(p[1])-4:], math.Float32bits(float32(math.NaN())))
			return p
		}, "is not of numbers up to 1000"},
		"no dimensions": {func(p [][]byte) [][]byte {
			p[0] = bytes.Replace(p[0], []byte(`"dimensions":3`), []byte(`"dimensions":0`), 1)
			return p
		}, "a number is missing or 0"},
		"an id of none":  {func(p [][]byte) [][]byte { p[0][headOf(p[0])] = 0; return p }, "an item's id has 0 bytes, want 1 to 64"},
		"a long id":      {func(p [][]byte) [][]byte { p[0][headOf(p[0])] = 65; return p }, "an item's id has 65 bytes, want 1 to 64"},
		"another's item": {func(p [][]byte) [][]byte { p[0][headOf(p[0])+1] = '#'; return p }, "belongs to another part"},
	} {
		if _, err := Join("m", sealed(c.damage(bodies(m.Parts("m", 3))))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Join("m", sealed(bodies(m.Parts("m", 3)))); err != nil {
		t.Error(err)
	}
	for place := range 40 { // whichever byte is damaged
		parts := m.Parts("m", 1)
		parts[0][place*len(parts[0])/40] ^= 1
		if _, err := Join("m", parts); err == nil {
			t.Errorf("byte %d of 40 can be damaged", place)
		}
	}
}

// bodies are parts without their checksums.
func bodies(parts [][]byte) [][]byte {
	for i, p := range parts {
		parts[i] = p[:len(p)-4]
	}
	return parts
}

// sealed are bodies with their checksums.
func sealed(bodies [][]byte) [][]byte {
	for i, b := range bodies {
		bodies[i] = binary.LittleEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, castagnoli))
	}
	return bodies
}

// Vectors beside which the penalty is lost in rounding say nothing, and are not read.
func TestVectorsThatAreTooLong(t *testing.T) {
	m := &Model{training: Training{Dimensions: 3, Penalty: 1e-3, Confidence: 8, Sweeps: 1, Items: 2}, items: []string{"a", "b"},
		vectors: []float32{1e6, 1e6, 1e6, 9e5, 9e5, 9e5}}
	if err := m.complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if product, fit := m.Taste([]Edge{{"a", 1}, {"b", 1}}).Of("a"); product != 0 || fit != 0 {
		t.Errorf("%v and %v", product, fit)
	}
	if _, err := Join("m", m.Parts("m", 1)); err == nil || !strings.Contains(err.Error(), "is not of numbers up to 1000") {
		t.Error(err)
	}
}

// What Join takes is a model that scores without a fault, and that parts into the same again.
func FuzzJoin(f *testing.F) {
	e, of := world(f, 20, 10, 3)
	m := fitted(f, e, Options{Dimensions: 2, Sweeps: 1})
	f.Add(bodies(m.Parts("m", 1))[0])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, part []byte) {
		m, err := Join("m", sealed([][]byte{part})) // or nothing that is tried would get far
		if err != nil {
			return
		}
		again, err := Join("m", m.Parts("m", 1))
		if err != nil || !slices.Equal(again.items, m.items) || !slices.Equal(again.vectors, m.vectors) {
			t.Fatalf("it comes back as another: %v", err)
		}
		product, fit := m.Taste(of["u1"]).Of(m.items[0])
		if math.IsNaN(product) || math.IsNaN(fit) || product < 0 || fit < 0 {
			t.Errorf("%v and %v", product, fit)
		}
	})
}
