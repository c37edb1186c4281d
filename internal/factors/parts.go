package factors

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strings"
)

// A model travels in parts, because a large one is more than a server should answer at once: items are dealt to the parts
// by a hash of their id. A part is
//
//	magic "r2f1", length of the head (uint32), the head in JSON,
//	for each of its items: length of the id (uint8), the id, the vector as float32,
//	CRC-32C of all before (uint32)
//
// in little endian. Every part repeats the head, by which parts of different models are told apart.
const magic = "r2f1"

// maxID is the most bytes of an id, as the contract has it.
const maxID = 64

// IsID tells whether a user or an item can go by this id.
func IsID(id string) bool { return len(id) > 0 && len(id) <= maxID }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head of a part.
type head struct {
	Model    string   `json:"model"` // as the caller names it
	Part     int      `json:"part"`
	Parts    int      `json:"parts"`
	Items    int      `json:"items"` // in this part
	Training Training `json:"training"`
}

// Parts gives the model, under a name, in n parts.
func (m *Model) Parts(name string, n int) [][]byte {
	in := make([][]int32, n)
	for i, id := range m.items {
		p := partOf(id, n)
		in[p] = append(in[p], int32(i))
	}
	parts := make([][]byte, n)
	for p, items := range in {
		text, err := json.Marshal(head{name, p, n, len(items), m.training})
		if err != nil { // a training is numbers, all of them finite
			panic(err)
		}
		b := append([]byte(magic), 0, 0, 0, 0)
		binary.LittleEndian.PutUint32(b[len(magic):], uint32(len(text)))
		b = append(b, text...)
		for _, i := range items {
			b = append(b, byte(len(m.items[i])))
			b = append(b, m.items[i]...)
			for _, v := range m.vector(i) {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
		parts[p] = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	}
	return parts
}

func partOf(id string, n int) int {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int(h.Sum32() % uint32(n))
}

// Join reads a model that Parts wrote under this name, from all of its parts in order. It refuses, and says why, what it
// cannot use with certainty: a part of another model, one that is cut off or goes on, and vectors that are not numbers.
func Join(name string, parts [][]byte) (*Model, error) {
	m := &Model{}
	for p, b := range parts {
		if err := m.join(name, p, len(parts), b); err != nil {
			return nil, fmt.Errorf("read factors %q: part %d of %d: %w", name, p+1, len(parts), err)
		}
	}
	if len(m.items) == 0 || len(m.items) != m.training.Items {
		return nil, fmt.Errorf("read factors %q: they are of %d items, want %d", name, len(m.items), m.training.Items)
	}
	m.sort()
	for i := range m.items[1:] {
		if m.items[i] == m.items[i+1] {
			return nil, fmt.Errorf("read factors %q: item %q stands twice", name, m.items[i])
		}
	}
	return m, m.complete(context.Background())
}

func (m *Model) join(name string, p, n int, b []byte) error {
	if len(b) < len(magic)+8 || string(b[:len(magic)]) != magic {
		return errors.New("it does not begin as factors do")
	}
	b, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b, castagnoli) != sum {
		return errors.New("its checksum is wrong: it is damaged or cut off")
	}
	b = b[len(magic):]
	size, b := binary.LittleEndian.Uint32(b), b[4:]
	if uint64(size) > uint64(len(b)) {
		return errors.New("its head is cut off")
	}
	var h head
	d := json.NewDecoder(bytes.NewReader(b[:size]))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return fmt.Errorf("its head: %w", err)
	}
	if d.More() {
		return errors.New("its head: something follows it")
	}
	switch {
	case h.Model != name || h.Part != p || h.Parts != n:
		return fmt.Errorf("it is part %d of %d of %q", h.Part+1, h.Parts, h.Model)
	case p > 0 && h.Training != m.training:
		return errors.New("it is of another training than the first")
	}
	if err := h.Training.check(); err != nil {
		return fmt.Errorf("its head: %w", err)
	}
	m.training = h.Training
	r, vector := bytes.NewReader(b[size:]), make([]byte, 4*h.Training.Dimensions)
	there := max(0, min(h.Items, r.Len()/(2+len(vector))))
	m.items, m.vectors = slices.Grow(m.items, there), slices.Grow(m.vectors, there*h.Training.Dimensions)
	for range h.Items {
		length, err := r.ReadByte()
		if err != nil {
			return errors.New("it is cut off")
		}
		id := make([]byte, length)
		if !IsID(string(id)) {
			return fmt.Errorf("an item's id has %d bytes, want 1 to %d", len(id), maxID)
		}
		if _, err := io.ReadFull(r, id); err != nil {
			return errors.New("it is cut off")
		}
		if _, err := io.ReadFull(r, vector); err != nil {
			return errors.New("it is cut off")
		}
		if partOf(string(id), n) != p {
			return fmt.Errorf("item %q belongs to another part", id)
		}
		m.items = append(m.items, string(id))
		for k := range h.Training.Dimensions {
			m.vectors = append(m.vectors, math.Float32frombits(binary.LittleEndian.Uint32(vector[4*k:])))
		}
		if !usable(m.vectors[len(m.vectors)-h.Training.Dimensions:]) {
			return fmt.Errorf("the vector of item %q is not of numbers up to 1000", id)
		}
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes follow its end", r.Len())
	}
	return nil
}

// check refuses what Fit cannot have written.
func (t Training) check() error {
	o := Options{Dimensions: t.Dimensions, Penalty: t.Penalty, Confidence: t.Confidence, Sweeps: t.Sweeps}
	if t.Dimensions == 0 || t.Penalty == 0 || t.Confidence == 0 || t.Sweeps == 0 {
		return errors.New("a number is missing or 0")
	}
	return o.complete()
}

// sort brings items and vectors into the order of the items' ids.
func (m *Model) sort() {
	n := m.training.Dimensions
	order := make([]int32, len(m.items))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(m.items[a], m.items[b]) })
	items, vectors := make([]string, len(m.items)), make([]float32, 0, len(m.vectors))
	for i, from := range order {
		items[i] = m.items[from]
		vectors = append(vectors, m.vectors[int(from)*n:(int(from)+1)*n]...)
	}
	m.items, m.vectors = items, vectors
}
