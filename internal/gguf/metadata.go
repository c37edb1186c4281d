package gguf

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
)

// ErrMissing says that the metadata has no such key.
var ErrMissing = errors.New("missing")

// Value lists the types of metadata values.
type Value interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64 | bool | string |
		[]uint8 | []int8 | []uint16 | []int16 | []uint32 | []int32 | []uint64 | []int64 | []float32 | []float64 | []bool | []string
}

// Metadata are the keys and values of a file, in its order. The zero value is empty and ready.
//
// Its typed getters return an error that wraps ErrMissing for a key that is not there, and one that names the key, the
// type it has and the type that was asked for where these differ.
type Metadata struct {
	keys   []string
	values map[string]any
}

// Set adds a key, or gives it a new value in its old place.
func Set[V Value](m *Metadata, key string, value V) { m.set(key, value) }

func (m *Metadata) set(key string, value any) {
	if m.values == nil {
		m.values = map[string]any{}
	}
	if _, known := m.values[key]; !known {
		m.keys = append(m.keys, key)
	}
	m.values[key] = value
}

// Delete removes a key if it is there.
func (m *Metadata) Delete(key string) {
	if m.Has(key) {
		delete(m.values, key)
		m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return k == key })
	}
}

// Clone copies the collection, so that keys can be set without changing the original. Array values are shared.
func (m *Metadata) Clone() *Metadata {
	return &Metadata{keys: slices.Clone(m.keys), values: maps.Clone(m.values)}
}

// Len is the number of keys.
func (m *Metadata) Len() int { return len(m.keys) }

// Has tells whether a key is there.
func (m *Metadata) Has(key string) bool {
	_, ok := m.values[key]
	return ok
}

// All goes through keys and values in order. Each value has one of the types of Value.
func (m *Metadata) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, key := range m.keys {
			if !yield(key, m.values[key]) {
				return
			}
		}
	}
}

func get[T any](m *Metadata, key, want string, as func(any) (T, bool)) (T, error) {
	var none T
	value, ok := m.values[key]
	if !ok {
		return none, fmt.Errorf("metadata key %q: %w", key, ErrMissing)
	}
	converted, ok := as(value)
	if !ok {
		switch value.(type) {
		case uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32, float64, bool:
			return none, fmt.Errorf("metadata key %q: %T %v is no %s", key, value, value, want)
		}
		return none, fmt.Errorf("metadata key %q: %T is no %s", key, value, want)
	}
	return converted, nil
}

// Uint returns an integer of any width that is not negative.
func (m *Metadata) Uint(key string) (uint64, error) {
	return get(m, key, "integer of 0 or more", func(v any) (uint64, bool) {
		if u, ok := v.(uint64); ok {
			return u, true
		}
		i, ok := integer(v)
		return uint64(i), ok && i >= 0
	})
}

// Int returns an integer of any width.
func (m *Metadata) Int(key string) (int64, error) { return get(m, key, "64-bit integer", integer) }

// Float returns a number in single or double precision.
func (m *Metadata) Float(key string) (float64, error) {
	return get(m, key, "floating-point number", func(v any) (float64, bool) {
		switch v := v.(type) {
		case float32:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	})
}

// Bool returns a truth value.
func (m *Metadata) Bool(key string) (bool, error) { return get(m, key, "bool", as[bool]) }

// String returns a string, which may be any bytes.
func (m *Metadata) String(key string) (string, error) { return get(m, key, "string", as[string]) }

// Strings returns an array of strings. It must not be changed.
func (m *Metadata) Strings(key string) ([]string, error) {
	return get(m, key, "array of strings", as[[]string])
}

// Floats returns an array in single or double precision.
func (m *Metadata) Floats(key string) ([]float64, error) {
	return get(m, key, "array of floating-point numbers", func(v any) ([]float64, bool) {
		switch v := v.(type) {
		case []float32:
			return convert[float32, float64](v), true
		case []float64:
			return slices.Clone(v), true
		}
		return nil, false
	})
}

// Ints returns an array of integers of any width.
func (m *Metadata) Ints(key string) ([]int64, error) {
	return get(m, key, "array of 64-bit integers", func(v any) ([]int64, bool) {
		switch v := v.(type) {
		case []uint8:
			return convert[uint8, int64](v), true
		case []int8:
			return convert[int8, int64](v), true
		case []uint16:
			return convert[uint16, int64](v), true
		case []int16:
			return convert[int16, int64](v), true
		case []uint32:
			return convert[uint32, int64](v), true
		case []int32:
			return convert[int32, int64](v), true
		case []uint64:
			tooLarge := func(u uint64) bool { return u > math.MaxInt64 }
			return convert[uint64, int64](v), !slices.ContainsFunc(v, tooLarge)
		case []int64:
			return slices.Clone(v), true
		}
		return nil, false
	})
}

func as[T any](v any) (T, bool) {
	t, ok := v.(T)
	return t, ok
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case int64:
		return v, true
	}
	return 0, false
}

type number interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64
}

func convert[From, To number](from []From) []To {
	to := make([]To, len(from))
	for i, v := range from {
		to[i] = To(v)
	}
	return to
}

// alignment returns that of tensor data, a power of two.
func alignment(m *Metadata) (uint64, error) {
	if !m.Has(keyAlignment) {
		return defaultAlignment, nil
	}
	const largest = 1 << 16
	align, err := m.Uint(keyAlignment)
	if err != nil {
		return 0, err
	}
	if align == 0 || align&(align-1) != 0 || align > largest {
		return 0, fmt.Errorf("metadata key %q: %d: want a power of two up to %d", keyAlignment, align, largest)
	}
	return align, nil
}
