package learn

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama"
)

// A checkpoint is a GGUF file, with three tensors for each parameter (its values and both moments), followed by the
// SHA-256 of all of it.
const (
	checkpointVersion = 1
	keyVersion        = "learn.checkpoint"
	keyRun            = "learn.run"
	keyRates          = "learn.schedule"
	keyStep           = "learn.step"
	keySkipped        = "learn.skipped"
	keyInARow         = "learn.skipped_in_a_row"
)

// The parts of a parameter's state, as prefixes of tensor names.
const (
	partValue  = "value."
	partFirst  = "first."
	partSecond = "second."
	parts      = 3
)

// Save writes a checkpoint, from which Resume goes on bit for bit. It replaces the file at once: after an error, or when
// the program is killed, an older checkpoint there stands as it was.
func (tr *Trainer) Save(path string) error {
	if err := gguf.WriteFile(path, tr.write); err != nil {
		return fmt.Errorf("learn: save checkpoint %s of step %d: %w", path, tr.step, err)
	}
	return nil
}

// Resume goes on from a checkpoint, which must be of the same run: parameters of the same names and shapes, the same
// options, but for MaxSkipped. The caller continues with the batch of step Steps(). The error says what is wrong with
// the file (there is none: fs.ErrNotExist), and then nothing has changed; of one that was read and is damaged, or of another
// run, it has a method Unusable.
func (tr *Trainer) Resume(path string) error {
	data, err := readFile(path, tr.checkpointBytes())
	if err == nil {
		if err = tr.read(data); err != nil {
			err = unusable{err}
		}
	}
	if err != nil {
		return fmt.Errorf("learn: resume from checkpoint %s: %w", path, err)
	}
	return nil
}

// checkpointBytes is more than a checkpoint of this run has.
func (tr *Trainer) checkpointBytes() int64 {
	n := int64(1<<16 + len(tr.opt.Run))
	for _, p := range tr.t.Parameters() {
		n += parts * int64(4*len(p.Value)+256)
	}
	return n
}

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = unusable{fmt.Errorf("it has more bytes than a checkpoint of this run, at most %d: it belongs to another one", most)}
	}
	return data, err
}

// setting is a number that must not change within a run.
type setting struct {
	key   string
	value float64
}

func (o *Options) settings() []setting {
	a := o.Optimiser
	return []setting{
		{"learn.rate", a.Rate}, {"learn.beta1", a.Beta1}, {"learn.beta2", a.Beta2}, {"learn.epsilon", a.Epsilon}, {"learn.decay", a.Decay},
		{"learn.clip", o.Clip}, {"learn.workers", float64(o.Workers)},
	}
}

// rates samples the schedule, to tell one from another: at the first step, and 1, 2, 4, 8 and so on later.
func (o *Options) rates() []float64 {
	rates := []float64{o.Schedule(0)}
	for step := 1; step <= 1<<20; step *= 2 {
		rates = append(rates, o.Schedule(step))
	}
	return rates
}

// each calls f for every array of the state, with its tensor's description.
func (tr *Trainer) each(f func(t gguf.Tensor, values []float32) error) error {
	for i, p := range tr.t.Parameters() {
		for _, part := range [parts]struct {
			prefix string
			values []float32
		}{{partValue, p.Value}, {partFirst, tr.moments.first[i]}, {partSecond, tr.moments.second[i]}} {
			t := gguf.Tensor{Name: part.prefix + p.Name, Type: gguf.F32, Shape: []int{len(p.Value) / p.Rows, p.Rows}}
			if err := f(t, part.values); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tr *Trainer) write(w io.Writer) error {
	meta := new(gguf.Metadata)
	gguf.Set(meta, keyVersion, uint32(checkpointVersion))
	gguf.Set(meta, keyRun, tr.opt.Run)
	for _, s := range tr.opt.settings() {
		gguf.Set(meta, s.key, s.value)
	}
	gguf.Set(meta, keyRates, tr.opt.rates())
	gguf.Set(meta, keyStep, uint64(tr.step))
	gguf.Set(meta, keySkipped, uint64(tr.skipped))
	gguf.Set(meta, keyInARow, uint64(tr.inARow))
	var tensors []gguf.Tensor
	if err := tr.each(func(t gguf.Tensor, _ []float32) error {
		tensors = append(tensors, t)
		return nil
	}); err != nil {
		return err
	}
	sum := sha256.New()
	out, err := gguf.NewWriter(io.MultiWriter(w, sum), meta, tensors)
	if err != nil {
		return err
	}
	if err := tr.each(func(t gguf.Tensor, values []float32) error { return out.WriteFloat32(t.Name, values) }); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// read checks everything before it changes anything.
func (tr *Trainer) read(data []byte) error {
	if len(data) < sha256.Size {
		return fmt.Errorf("it has %d bytes: it is truncated", len(data))
	}
	content, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) {
		return errors.New("its checksum is wrong: it is truncated, damaged, or no checkpoint")
	}
	f, err := gguf.Parse(content)
	if err != nil {
		return err
	}
	if err := tr.opt.belongs(f.Metadata); err != nil {
		return err
	}
	step, skipped, inARow, err := counters(f.Metadata)
	if err != nil {
		return err
	}
	if got, want := len(f.Tensors()), parts*len(tr.t.Parameters()); got != want {
		return fmt.Errorf("it has %d tensors, a checkpoint of this run %d", got, want)
	}
	var scratch []float32
	err = tr.each(func(want gguf.Tensor, _ []float32) error {
		scratch, err = tensor(f, want, scratch)
		return err
	})
	if err != nil {
		return err
	}
	err = tr.each(func(want gguf.Tensor, values []float32) error {
		_, err := tensor(f, want, values)
		return err
	})
	if err != nil {
		return err // never: it was read a moment ago
	}
	tr.step, tr.skipped, tr.inARow = step, skipped, inARow
	tr.moments.updates = step - skipped
	tr.t.Refresh()
	return nil
}

// unusable is the error of a checkpoint that was read, and that nothing can go on from.
type unusable struct{ error }

// Unusable tells callers that know only the method what this error is.
func (unusable) Unusable() bool { return true }

// belongs tells whether a checkpoint is of a run with these options.
func (o *Options) belongs(meta *gguf.Metadata) error {
	version, err := meta.Uint(keyVersion)
	if err != nil {
		return err
	}
	if version != checkpointVersion {
		return fmt.Errorf("%s is %d; this program reads version %d", keyVersion, version, checkpointVersion)
	}
	run, err := meta.String(keyRun)
	if err != nil {
		return err
	}
	if run != o.Run {
		return fmt.Errorf("it belongs to the run %.200q, this one is %.200q", run, o.Run)
	}
	for _, s := range o.settings() {
		value, err := meta.Float(s.key)
		if err != nil {
			return err
		}
		if value != s.value {
			return fmt.Errorf("%s was %v, and is %v in this run: set it as it was to go on bit for bit", s.key, value, s.value)
		}
	}
	rates, err := meta.Floats(keyRates)
	if err != nil {
		return err
	}
	want := o.rates()
	if len(rates) != len(want) {
		return fmt.Errorf("%s has %d rates, must be %d", keyRates, len(rates), len(want))
	}
	for i, r := range rates {
		if r != want[i] {
			return fmt.Errorf("%s: its rate at step %d was %v, and is %v in this run: the schedule must stay to go on bit for bit", keyRates, (1<<i)/2, r, want[i])
		}
	}
	return nil
}

func counters(meta *gguf.Metadata) (step, skipped, inARow int, err error) {
	var values [3]int
	most := uint64(math.MaxInt64)
	for i, key := range [...]string{keyStep, keySkipped, keyInARow} {
		v, err := meta.Uint(key)
		if err != nil {
			return 0, 0, 0, err
		}
		if v > most {
			return 0, 0, 0, fmt.Errorf("%s is %d, must be at most %d", key, v, most)
		}
		values[i], most = int(v), v
	}
	return values[0], values[1], values[2], nil
}

// tensor reads one tensor of the state, into dst if its capacity suffices.
func tensor(f *gguf.File, want gguf.Tensor, dst []float32) ([]float32, error) {
	t, ok := f.Tensor(want.Name)
	if !ok {
		return nil, fmt.Errorf("it has no tensor %s", want.Name)
	}
	if t.Type != want.Type || len(t.Shape) != 2 || t.Shape[0] != want.Shape[0] || t.Shape[1] != want.Shape[1] {
		return nil, fmt.Errorf("tensor %s is %v %v, must be %v %v", t.Name, t.Type, t.Shape, want.Type, want.Shape)
	}
	values, err := t.Float32(dst)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if v-v != 0 {
			return nil, fmt.Errorf("tensor %s: value %d is %v: %w", t.Name, i, v, llama.ErrNotFinite)
		}
		if v < 0 && strings.HasPrefix(t.Name, partSecond) {
			return nil, fmt.Errorf("tensor %s: value %d is %v, and a mean of squares must not be negative", t.Name, i, v)
		}
	}
	return values, nil
}
