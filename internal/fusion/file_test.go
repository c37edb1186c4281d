package fusion

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	films "github.com/r2rec/r2rec/internal/dataset"
	"github.com/r2rec/r2rec/internal/event"
)

func saved(t testing.TB, m *Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheDefaultModelLoads(t *testing.T) {
	training := Default().Training()
	if training.Examples < MinExamples || training.Note == "" || len(training.Without) != 0 {
		t.Errorf("the default model says: %+v; want enough examples, a note what they were, and all evidence", training)
	}
}

// What it was fitted on is told beside its file, which stays as it is: its digest stands in decisions.
func TestTheDefaultModelWasFittedOnTheBundledData(t *testing.T) {
	d, err := films.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(bytes.NewReader(defaultFile))
	if err != nil || m.Training().LearnedEvents != (event.Past{}) || saved(t, m) != string(defaultFile) {
		t.Errorf("the file is another: %+v, %v", m.Training(), err)
	}
	learned := m.Learned()
	if got := event.PastOf(d.Interactions(), event.At(time.Unix(1436920119, 0))); got != learned {
		t.Errorf("the bundled data before the time of its note are %+v, want %+v", got, learned)
	}
	if got := quick(t, FitOptions{LearnedEvents: learned}).Learned(); got != learned {
		t.Errorf("another that says so learned from %+v, want %+v", got, learned)
	}
	if got := quick(t, FitOptions{}).Learned(); got != (event.Past{}) {
		t.Errorf("one that does not say learned from %+v", got)
	}
}

func TestSaveAndLoad(t *testing.T) {
	for _, m := range []*Model{quick(t, FitOptions{Note: `"<é>"`}), quick(t, FitOptions{Hidden: block, Without: []Group{Recency, User}}), quick(t, FitOptions{LearnedEvents: defaultLearned}), Default()} {
		text := saved(t, m)
		loaded, err := Load(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m, loaded) {
			t.Errorf("loaded %+v, saved %+v", loaded.training, m.training)
		}
		if saved(t, loaded) != text {
			t.Error("saved again, the bytes are others")
		}
	}
}

func TestSaveReportsTheWriter(t *testing.T) {
	full := errors.New("disk full")
	if err := quick(t, FitOptions{}).Save(failing{full}); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if _, err := Load(iotest.ErrReader(full)); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// Load refuses every kind of damage, and says what it is.
func TestLoadRefuses(t *testing.T) {
	f := func(m *Model) file {
		f := file{Version: version, Inputs: columnNames(), Training: m.Training()}
		for _, n := range m.members {
			f.Networks = append(f.Networks, n.store(m.training.Hidden))
		}
		for _, n := range m.plain {
			f.Plain = append(f.Plain, n.store(m.training.Hidden))
		}
		return f
	}
	m := quick(t, FitOptions{})
	for name, c := range map[string]struct {
		damage func(*file)
		want   string
	}{
		"fewer inputs":         {func(f *file) { f.Inputs = f.Inputs[1:] }, "it has 80 inputs, want 81: fit it again"},
		"inputs in disorder":   {func(f *file) { f.Inputs[2], f.Inputs[4] = f.Inputs[4], f.Inputs[2] }, `its input 2 is "support share", want "liked share"`},
		"unknown group":        {func(f *file) { f.Training.Without = []Group{"colour"} }, `training.without: "colour"`},
		"group twice":          {func(f *file) { f.Training.Without = []Group{User, User} }, "training.without is"},
		"groups in disorder":   {func(f *file) { f.Training.Without = []Group{User, Recency} }, "training.without is"},
		"no units":             {func(f *file) { f.Training.Hidden = 0 }, "training.hidden is 0, want 1 to 1024"},
		"too many units":       {func(f *file) { f.Training.Hidden = 1e9 }, "training.hidden is 1000000000"},
		"no networks":          {func(f *file) { f.Training.Ensemble, f.Networks = 0, nil }, "training.ensemble is 0"},
		"a network more":       {func(f *file) { f.Networks = append(f.Networks, f.Networks[0]) }, "it has 3 networks, want training.ensemble: 2"},
		"a network less":       {func(f *file) { f.Networks = f.Networks[1:] }, "it has 1 networks, want training.ensemble: 2"},
		"a plain network less": {func(f *file) { f.Plain = f.Plain[1:] }, "it has 1 plain networks, want training.ensemble, 2, or none"},
		"a plain weight less":  {func(f *file) { f.Plain[1].Out = nil }, "plain[1].out has 0 weights, want 5"},
		"a unit less":          {func(f *file) { f.Networks[1].Hidden = f.Networks[1].Hidden[1:] }, "networks[1].hidden has 4 rows, want one a unit: 5"},
		"a weight less":        {func(f *file) { f.Networks[1].Hidden[2] = f.Networks[1].Hidden[2][1:] }, "networks[1].hidden[2] has 80 weights, want 81"},
		"a bias more":          {func(f *file) { f.Networks[0].Bias = append(f.Networks[0].Bias, 1) }, "networks[0].bias has 6 weights, want 5"},
		"an output less":       {func(f *file) { f.Networks[0].Out = nil }, "networks[0].out has 0 weights, want 5"},
		"a linear weight less": {func(f *file) { f.Networks[0].Linear = f.Networks[0].Linear[1:] }, "networks[0].linear has 77 weights, want 78"},
		"a past of no digest":  {func(f *file) { f.Training.LearnedEvents.Before = 1e12 }, `training.learned_events: digest is ""`},
		"a past of no time":    {func(f *file) { f.Training.LearnedEvents.Digest = defaultLearned.Digest }, "training.learned_events: before is 0 ms"},
		"a huge weight":        {func(f *file) { f.Networks[0].Out[3] = 1e7 }, "networks[0].out[3] is 1e+07"},
	} {
		t.Run(name, func(t *testing.T) {
			stored := f(m)
			c.damage(&stored)
			if _, err := stored.model(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}

	text := saved(t, m)
	bias := text[strings.Index(text, `"bias":[`)+len(`"bias":[`):]
	bias = bias[:strings.IndexByte(bias, ',')]
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "read its version"},
		"cut off":         {text[:len(text)/2], "read its version"},
		"more after it":   {text + "{}", "read its version"},
		"another version": {strings.Replace(text, `"version":2`, `"version":1`, 1), "its version is 1, this program reads 2: fit it again"},
		"no version":      {"{}", "its version is 0"},
		"unknown field":   {strings.Replace(text, `"version":2`, `"version":2,"x":1`, 1), `unknown field "x"`},
		"past in words":   {strings.Replace(text, `"note":`, `"learned_events":{"before":"long ago"},"note":`, 1), "long ago"},
		"null weight":     {strings.Replace(text, `"bias":[`+bias, `"bias":[null`, 1), "a weight is null"},
		"too large":       {strings.Replace(text, `"bias":[`+bias, `"bias":[1e99`, 1), "1e99"},
		"text":            {strings.Replace(text, `"bias":[`+bias, `"bias":["1"`, 1), "cannot unmarshal string"},
		"endless":         {text + strings.Repeat(" ", maxFile), "the file is larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(strings.NewReader(c.text)); err == nil || !strings.HasPrefix(err.Error(), "load fusion: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Whatever Load takes gives finite scores and is stored again as it is.
func FuzzLoad(f *testing.F) {
	text := saved(f, quick(f, FitOptions{Hidden: 1}))
	f.Add([]byte(text))
	f.Add([]byte(strings.Replace(text, `"hidden":1`, `"hidden":2`, 1)))
	f.Add([]byte(strings.Replace(text, `"out":[`, `"out":[1000000,`, 1)))
	f.Add([]byte(strings.Replace(text, `"without":[]`, `"without":["user"]`, 1)))
	f.Add([]byte(strings.Replace(text, `"without":[]`, `"without":null`, 1)))
	f.Add([]byte(`{"version":1}`))
	list := world(1, 6, source(1))[0].List
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Load(bytes.NewReader(text))
		if err != nil {
			return
		}
		for i, s := range m.Scores(list) {
			if math.IsNaN(s) || math.IsInf(s, 0) {
				t.Errorf("candidate %d scores %v", i, s)
			}
		}
		again, err := Load(strings.NewReader(saved(t, m)))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Error("stored again, the model is another")
		}
	})
}
