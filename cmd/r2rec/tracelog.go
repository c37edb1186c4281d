package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/rltrainer"
)

// traceLog keeps traces as they are written, one a line under a first line that names the run, so that a run which ends
// at any instruction goes on where it stood: a last line that is not whole is written again.
type traceLog struct {
	path   string
	mu     sync.Mutex
	file   *os.File
	whole  int64 // bytes of whole lines
	traces map[int]rltrainer.Trace
}

type traceLogHead struct {
	Run string `json:"run"`
}

func openTraceLog(path, run string, examples int) (l *traceLog, err error) {
	l = &traceLog{path: path, traces: make(map[int]rltrainer.Trace)}
	if l.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("traces so far: %w", err)
	}
	if err = lockFile(l.file); err == nil {
		err = l.read(run, examples)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("traces so far, %s: %w", path, err), l.file.Close())
	}
	return l, nil
}

// read takes what is there and leaves the file at the end of its last whole line.
func (l *traceLog) read(run string, examples int) error {
	r := bufio.NewReader(l.file)
	whole := int64(0)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil {
			break
		}
		if n == 1 {
			var head traceLogHead
			if err := json.Unmarshal(line, &head); err != nil || head.Run != run {
				return errors.New("they are of other flags, models or data; remove the file to begin anew")
			}
		} else {
			var t rltrainer.Trace
			if err := json.Unmarshal(line, &t); err != nil {
				return fmt.Errorf("line %d: %w; remove the file to begin anew", n, err)
			}
			if t.Example < 0 || t.Example >= examples {
				return fmt.Errorf("line %d: example %d of %d; remove the file to begin anew", n, t.Example, examples)
			}
			l.traces[t.Example] = t
		}
		whole += int64(len(line))
	}
	if err := l.file.Truncate(whole); err != nil {
		return err
	}
	l.whole = whole
	if whole > 0 {
		return nil
	}
	head, err := json.Marshal(traceLogHead{run})
	if err != nil {
		return err
	}
	l.whole = int64(len(head)) + 1
	_, err = l.file.WriteAt(append(head, '\n'), 0)
	return err
}

// add keeps a trace, and tells how many there are now.
func (l *traceLog) add(t rltrainer.Trace) (done int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	if _, err := l.file.WriteAt(append(line, '\n'), l.whole); err != nil { // what follows a line that is not whole overwrites it
		return 0, fmt.Errorf("traces so far: %w", err)
	}
	l.whole += int64(len(line)) + 1
	l.traces[t.Example] = t
	return len(l.traces), nil
}

func (l *traceLog) has(example int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.traces[example]
	return ok
}

func (l *traceLog) done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.traces)
}

// all traces, by example.
func (l *traceLog) all() []rltrainer.Trace {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]rltrainer.Trace, 0, len(l.traces))
	for _, t := range l.traces {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b rltrainer.Trace) int { return a.Example - b.Example })
	return out
}

func (l *traceLog) Close() error { return l.file.Close() }

// remove ends the log: everything stands elsewhere.
func (l *traceLog) remove() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeTraces writes those that are chosen to a file, whole or not at all. Each says of which events it is: they know the answers.
func writeTraces(path string, of event.Past, traces []rltrainer.Trace, chosen func(rltrainer.Trace) bool) error {
	return gguf.WriteFile(path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		lines := json.NewEncoder(out)
		lines.SetEscapeHTML(false)
		for _, t := range traces {
			if chosen(t) {
				if err := lines.Encode(struct {
					rltrainer.Trace
					LearnedEvents event.Past `json:"learned_events"`
				}{t, of}); err != nil {
					return err
				}
			}
		}
		return out.Flush()
	})
}
