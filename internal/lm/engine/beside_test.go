package engine

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/iot"
)

// mapped tells whether a file is still mapped into memory.
func mapped(t *testing.T, path string) bool {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says which files are mapped")
	}
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return strings.Contains(string(maps), path)
}

// An adapter beside a running model answers as one that was opened with the model, bit for bit, and the model goes on as
// if there were none.
func TestWithAdapter(t *testing.T) {
	model := toyModel(t, toyOptions(t, 1))
	adapter := toyAdapter(t, model)
	bare, both := open1(t, Options{Path: model}), open1(t, Options{Path: model, Adapter: adapter})
	m := open1(t, Options{Path: model})
	with, err := m.WithAdapter(adapter)
	must(t, err)
	without := with.Bare()
	if with.identity != both.identity || m.identity != bare.identity || without.identity != bare.identity {
		t.Errorf("they call themselves %+v, %+v and %+v, want %+v and %+v", with.identity, m.identity, without.identity, both.identity, bare.identity)
	}
	differ := false
	for _, p := range toyPrompts(t, iot.FullFigures, 9) {
		if got, want := rank(t, with, p), rank(t, both, p); !slices.Equal(got, want) {
			t.Errorf("beside a model the adapter gives %v, want %v", got, want)
		}
		want := rank(t, bare, p)
		for _, other := range []*Model{m, without} {
			if got := rank(t, other, p); !slices.Equal(got, want) {
				t.Errorf("the bare model gives %v, want %v", got, want)
			}
		}
		differ = differ || !slices.Equal(want, rank(t, with, p))
	}
	if !differ {
		t.Error("the adapter changes nothing")
	}
	if _, err := with.WithAdapter(adapter); err == nil || !strings.Contains(err.Error(), "has one already") {
		t.Errorf("a second adapter over the first: %v", err)
	}
}

// The file of several models is closed by the last of them, in whatever order, and one that is closed twice counts once.
func TestTheLastModelClosesTheFile(t *testing.T) {
	model := toyModel(t, toyOptions(t, 1))
	adapter := toyAdapter(t, toyModel(t, toyOptions(t, 1))) // a file of its own, which stays open
	wrong := toyAdapter(t, toyModel(t, toyOptions(t, 2)))
	m, err := Open(Options{Path: model})
	must(t, err)
	with, err := m.WithAdapter(adapter)
	must(t, err)
	if _, err := m.WithAdapter(wrong); err == nil || !strings.Contains(err.Error(), "it does not belong to this model") {
		t.Errorf("an adapter of another model: %v", err)
	}
	bare := with.Bare()
	must(t, m.Close())
	must(t, m.Close())
	must(t, with.Close())
	if !mapped(t, model) {
		t.Fatal("the file was closed under a model that is open")
	}
	again, err := bare.WithAdapter(adapter) // reads weights from the file
	must(t, err)
	must(t, bare.Close())
	must(t, again.Close())
	for _, path := range []string{model, adapter, wrong} {
		if mapped(t, path) {
			t.Errorf("%s is still mapped", path)
		}
	}
}

// A model that does not say how it is read is read as its adapter was learned, and so is the same model without it.
func TestBareIsReadAsTheAdapterWas(t *testing.T) {
	model := silent(t, toyModel(t, toyOptions(t, 1)))
	lettered := open1(t, Options{Path: model, Readout: Letters, PromptVersion: iot.FullFigures, Trainable: true})
	l, err := lettered.NewAdapter(AdapterOptions{})
	must(t, err)
	with, err := open1(t, Options{Path: model}).WithAdapter(writeFile(t, "letters.gguf", l.Write))
	must(t, err)
	defer with.Close()
	bare := with.Bare()
	defer bare.Close()
	p := toyPrompts(t, iot.FullFigures, 4)[3]
	if got, want := rank(t, bare, p), rank(t, lettered, p); bare.identity != lettered.identity || !slices.Equal(got, want) {
		t.Errorf("%+v gives %v, want %+v and %v", bare.identity, got, lettered.identity, want)
	}
}
