package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Writer writes a GGUF file from beginning to end: metadata and descriptions first, then the data of each tensor in the
// order of their descriptions, in pieces as small as the caller likes. It holds no tensor in memory.
//
// After an error every further call fails: what has been written is no whole file.
type Writer struct {
	w       io.Writer
	align   uint64
	tensors []Tensor // those not yet written whole
	left    int      // bytes that the first of them lacks
	buffer  []byte
	err     error
}

// NewWriter writes the header, the metadata and the descriptions: of each tensor, name, type and shape count. Tensor data
// is aligned as the metadata say in general.alignment, or else to 32 bytes. Writes are small: w should be buffered.
func NewWriter(w io.Writer, m *Metadata, tensors []Tensor) (*Writer, error) {
	align, err := alignment(m)
	if err != nil {
		return nil, err
	}
	b := []byte(magic)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Len()))
	if b, err = appendMetadata(b, m); err != nil {
		return nil, err
	}
	if b, err = appendTensors(b, tensors, align); err != nil {
		return nil, err
	}
	b = append(b, make([]byte, padded(uint64(len(b)), align)-uint64(len(b)))...)
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	out := &Writer{w: w, align: align, tensors: tensors}
	if len(tensors) > 0 {
		out.left = tensors[0].size()
	}
	return out, nil
}

// appendTensors writes the descriptions.
func appendTensors(b []byte, tensors []Tensor, align uint64) ([]byte, error) {
	names := make(map[string]bool, len(tensors))
	var offset uint64
	for _, t := range tensors {
		if err := checkName(t.Name); err != nil {
			return nil, err
		}
		if names[t.Name] {
			return nil, fmt.Errorf("tensor %q stands twice", t.Name)
		}
		names[t.Name] = true
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Shape)))
		for _, d := range t.Shape {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, offset)
		offset = padded(offset+uint64(t.size()), align)
	}
	return b, nil
}

// WriteFloat32 writes the next values of a tensor, which must be the first that is not yet whole, converted to its type:
// F32, F16, BF16 or Q8_0, of which it takes whole blocks. A value that the type cannot hold, NaN and infinity among them,
// is an error.
func (w *Writer) WriteFloat32(name string, values []float32) error {
	return w.do(name, func(t Tensor) ([]byte, error) {
		encode := encoders[t.Type]
		if encode == nil {
			return nil, fmt.Errorf("numbers cannot be written as %v: only as F32, F16, BF16 and Q8_0", t.Type)
		}
		if block, _ := t.Type.Block(); len(values)%block != 0 {
			return nil, fmt.Errorf("%d values: %v takes multiples of %d", len(values), t.Type, block)
		}
		if err := fits(values, t.Type); err != nil {
			return nil, err
		}
		w.buffer = encode(w.buffer[:0], values)
		return w.buffer, nil
	})
}

// WriteBytes writes the next bytes of a tensor, which must be the first that is not yet whole, as they are.
func (w *Writer) WriteBytes(name string, data []byte) error {
	return w.do(name, func(Tensor) ([]byte, error) { return data, nil })
}

func (w *Writer) do(name string, data func(Tensor) ([]byte, error)) error {
	if w.err == nil {
		if err := w.write(name, data); err != nil {
			w.err = fmt.Errorf("write tensor %q: %w", name, err)
		}
	}
	return w.err
}

func (w *Writer) write(name string, data func(Tensor) ([]byte, error)) error {
	if len(w.tensors) == 0 {
		return errors.New("all tensors are written")
	}
	t := w.tensors[0]
	if t.Name != name {
		return fmt.Errorf("out of order: %q lacks %d bytes", t.Name, w.left)
	}
	b, err := data(t)
	if err != nil {
		return err
	}
	if len(b) > w.left {
		return fmt.Errorf("%d bytes are more than the %d it lacks", len(b), w.left)
	}
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	if w.left -= len(b); w.left > 0 {
		return nil
	}
	size := uint64(t.size())
	if _, err := w.w.Write(make([]byte, padded(size, w.align)-size)); err != nil {
		return err
	}
	if w.tensors = w.tensors[1:]; len(w.tensors) > 0 {
		w.left = w.tensors[0].size()
	}
	return nil
}

// Close tells whether every tensor was written whole. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err == nil && len(w.tensors) > 0 {
		w.err = fmt.Errorf("tensor %q lacks %d bytes, and %d more tensors are not written", w.tensors[0].Name, w.left, len(w.tensors)-1)
	}
	return w.err
}
