// Package logs reads logs of decisions from CSV files, for internal/ope: a plain form of its own, and the Open Bandit
// Dataset's (Saito, Aihara, Matsutani and Narita 2020).
//
// What it promises: every row counts or is an error that names line, column and value; files may be gzipped; columns that
// it does not need may be there, in any order.
//
// What it leaves to others: the estimators.
package logs

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/ope"
)

// Log is what a file holds: samples, or impressions that still need a policy to be judged by them.
type Log struct {
	Samples     []ope.Sample
	Modelled    bool // the samples carry a model of the reward
	Impressions []Impression
}

// Columns of the plain form; a model's are there all or not at all.
var (
	plain = []string{"user", "reward", "logged", "target"}
	model = []string{"q", "v", "vlogged"}
)

// Open reads a file of either form.
func Open(path string) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// Read reads a log; its header tells the form.
func Read(r io.Reader) (*Log, error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, _ := buffered.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		defer z.Close()
		r = z
	}
	t := &table{csv: csv.NewReader(r), at: map[string]int{}}
	t.csv.ReuseRecord = true
	header, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: want a header line that names the columns")
	} else if err != nil {
		return nil, err
	}
	for i, name := range header {
		name = strings.TrimPrefix(strings.TrimSpace(name), "\ufeff")
		if _, twice := t.at[name]; twice && name != "" {
			return nil, fmt.Errorf("the column %q stands twice", name)
		}
		t.at[name] = i
		t.names = append(t.names, name)
	}
	switch {
	case t.has(plain...):
		return t.samples()
	case t.has(impression...) && (t.has("propensity_score") || t.has("action_prob")):
		return t.impressions()
	}
	return nil, fmt.Errorf("its columns are %.300q: want %s (and %s where there is a model of the reward), or Open Bandit's %s with propensity_score or action_prob",
		t.names, strings.Join(plain, ", "), strings.Join(model, ", "), strings.Join(impression, ", "))
}

// table is a CSV file of named columns.
type table struct {
	csv   *csv.Reader
	names []string
	at    map[string]int
	row   []string
}

func (t *table) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { _, ok := t.at[n]; return !ok })
}

// next goes to the next row; false at the end.
func (t *table) next() (bool, error) {
	var err error
	t.row, err = t.csv.Read()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

func (t *table) line() int {
	line, _ := t.csv.FieldPos(0)
	return line
}

func (t *table) wrong(name, want string) error {
	return fmt.Errorf("line %d: %s %.80q: want %s", t.line(), name, t.text(name), want)
}

func (t *table) text(name string) string { return t.row[t.at[name]] }

func (t *table) number(name string) (float64, error) {
	v, err := strconv.ParseFloat(t.text(name), 64)
	if err != nil {
		return 0, t.wrong(name, "a number")
	}
	return v, nil
}

func (t *table) samples() (*Log, error) {
	l := &Log{Modelled: t.has(model...)}
	read := plain[1:]
	if l.Modelled {
		read = slices.Concat(read, model)
	} else if i := slices.IndexFunc(model, func(c string) bool { return t.has(c) }); i >= 0 {
		return nil, fmt.Errorf("it has the column %s, but not all of %s: a model of the reward needs all of them", model[i], strings.Join(model, ", "))
	}
	for {
		more, err := t.next()
		if err != nil || !more {
			return l, err
		}
		s := ope.Sample{User: strings.Clone(t.text("user"))}
		into := map[string]*float64{"reward": &s.Reward, "logged": &s.Logged, "target": &s.Target, "q": &s.Q, "v": &s.V, "vlogged": &s.VLogged}
		for _, name := range read {
			if *into[name], err = t.number(name); err != nil {
				return nil, err
			}
		}
		if err := ope.Check([]ope.Sample{s}); err != nil {
			var wrong *ope.SampleError
			if errors.As(err, &wrong) {
				return nil, fmt.Errorf("line %d: %s is %v: want %s", t.line(), strings.ToLower(wrong.Field), wrong.Value, wrong.Want)
			}
			return nil, err
		}
		l.Samples = append(l.Samples, s)
	}
}
