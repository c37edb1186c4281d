package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// valueType is GGUF's number for the type of a metadata value.
type valueType uint32

const (
	typeUint8 valueType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// metadata reads n keys with their values.
func (r *reader) metadata(n uint64) (*Metadata, error) {
	m := new(Metadata)
	for i := range n {
		key, err := r.string()
		if err != nil {
			return nil, fmt.Errorf("metadata key %d: %w", i, err)
		}
		if m.Has(key) {
			return nil, fmt.Errorf("metadata key %q stands twice", key)
		}
		value, err := r.value()
		if err != nil {
			return nil, fmt.Errorf("metadata key %q: %w", key, err)
		}
		m.set(key, value)
	}
	return m, nil
}

func (r *reader) value() (any, error) {
	kind, err := r.uint32()
	if err != nil {
		return nil, err
	}
	if valueType(kind) != typeArray {
		return r.scalar(valueType(kind))
	}
	kind, err = r.uint32()
	if err != nil {
		return nil, err
	}
	n, err := r.uint64()
	if err != nil {
		return nil, err
	}
	return r.array(valueType(kind), n)
}

func (r *reader) scalar(kind valueType) (any, error) {
	switch kind {
	case typeUint8:
		return first(numbers[uint8](r, 1))
	case typeInt8:
		return first(numbers[int8](r, 1))
	case typeUint16:
		return first(numbers[uint16](r, 1))
	case typeInt16:
		return first(numbers[int16](r, 1))
	case typeUint32:
		return first(numbers[uint32](r, 1))
	case typeInt32:
		return first(numbers[int32](r, 1))
	case typeFloat32:
		return first(numbers[float32](r, 1))
	case typeUint64:
		return first(numbers[uint64](r, 1))
	case typeInt64:
		return first(numbers[int64](r, 1))
	case typeFloat64:
		return first(numbers[float64](r, 1))
	case typeBool:
		return first(r.bools(1))
	case typeString:
		return r.string()
	}
	return nil, fmt.Errorf("unknown value type %d before byte %d", kind, r.pos)
}

func (r *reader) array(kind valueType, n uint64) (any, error) {
	switch kind {
	case typeUint8:
		return numbers[uint8](r, n)
	case typeInt8:
		return numbers[int8](r, n)
	case typeUint16:
		return numbers[uint16](r, n)
	case typeInt16:
		return numbers[int16](r, n)
	case typeUint32:
		return numbers[uint32](r, n)
	case typeInt32:
		return numbers[int32](r, n)
	case typeFloat32:
		return numbers[float32](r, n)
	case typeUint64:
		return numbers[uint64](r, n)
	case typeInt64:
		return numbers[int64](r, n)
	case typeFloat64:
		return numbers[float64](r, n)
	case typeBool:
		return r.bools(n)
	case typeString:
		return r.strings(n)
	case typeArray:
		return nil, errors.New("arrays in arrays are not supported, as in llama.cpp")
	}
	return nil, fmt.Errorf("unknown type %d of array values before byte %d", kind, r.pos)
}

func numbers[T number](r *reader, n uint64) ([]T, error) {
	var one T
	size := uint64(binary.Size(one))
	if err := r.count(n, size, fmt.Sprintf("%T values", one)); err != nil {
		return nil, err
	}
	b, err := r.take(n * size)
	if err != nil {
		return nil, err
	}
	values := make([]T, n)
	_, err = binary.Decode(b, binary.LittleEndian, values)
	return values, err
}

func (r *reader) bools(n uint64) ([]bool, error) {
	b, err := r.take(n)
	if err != nil {
		return nil, err
	}
	values := make([]bool, n)
	for i, v := range b {
		if v > 1 {
			return nil, fmt.Errorf("bool at byte %d is %d instead of 0 or 1", r.pos-len(b)+i, v)
		}
		values[i] = v == 1
	}
	return values, nil
}

func (r *reader) strings(n uint64) ([]string, error) {
	if err := r.count(n, 8, "strings"); err != nil {
		return nil, err
	}
	values := make([]string, 0, min(n, atFirst))
	for i := range n {
		s, err := r.string()
		if err != nil {
			return nil, fmt.Errorf("string %d: %w", i, err)
		}
		values = append(values, s)
	}
	return values, nil
}

func first[T any](values []T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// appendMetadata writes the keys and values.
func appendMetadata(b []byte, m *Metadata) ([]byte, error) {
	for key, value := range m.All() {
		const maxKey = 1<<16 - 1
		if key == "" || len(key) > maxKey {
			return nil, fmt.Errorf("metadata key %.100q: want 1 to %d bytes", key, maxKey)
		}
		b = appendString(b, key)
		b = appendValue(b, value)
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func appendValue(b []byte, value any) []byte {
	kind, n, isArray := typeOf(value)
	if isArray {
		b = binary.LittleEndian.AppendUint32(b, uint32(typeArray))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(kind))
	if isArray {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	switch v := value.(type) {
	case string:
		return appendString(b, v)
	case []string:
		for _, s := range v {
			b = appendString(b, s)
		}
		return b
	}
	b, err := binary.Append(b, binary.LittleEndian, value)
	if err != nil {
		panic(err) // Set takes only values of fixed size besides strings
	}
	return b
}

// typeOf returns the type of a value, or that of its elements and their number.
func typeOf(value any) (kind valueType, n int, isArray bool) {
	switch v := value.(type) {
	case uint8:
		return typeUint8, 0, false
	case int8:
		return typeInt8, 0, false
	case uint16:
		return typeUint16, 0, false
	case int16:
		return typeInt16, 0, false
	case uint32:
		return typeUint32, 0, false
	case int32:
		return typeInt32, 0, false
	case float32:
		return typeFloat32, 0, false
	case bool:
		return typeBool, 0, false
	case string:
		return typeString, 0, false
	case uint64:
		return typeUint64, 0, false
	case int64:
		return typeInt64, 0, false
	case float64:
		return typeFloat64, 0, false
	case []uint8:
		return typeUint8, len(v), true
	case []int8:
		return typeInt8, len(v), true
	case []uint16:
		return typeUint16, len(v), true
	case []int16:
		return typeInt16, len(v), true
	case []uint32:
		return typeUint32, len(v), true
	case []int32:
		return typeInt32, len(v), true
	case []float32:
		return typeFloat32, len(v), true
	case []bool:
		return typeBool, len(v), true
	case []string:
		return typeString, len(v), true
	case []uint64:
		return typeUint64, len(v), true
	case []int64:
		return typeInt64, len(v), true
	case []float64:
		return typeFloat64, len(v), true
	}
	panic(fmt.Sprintf("metadata value of type %T", value)) // Set does not take it
}
