package ollama

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
)

// Adapters that are out of use are deleted but for the last ones, and what others made never is.
func TestPruneDeletesWhatIsOutOfUse(t *testing.T) {
	url := embeddedtest.RealOllama(t)
	made := newTaught(t)
	others := newInstaller(t, url, made.base, InstallOptions{})
	theirs, err := others.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
	must(t, err)
	must(t, theirs.Close())
	i := newInstaller(t, url, made.base, InstallOptions{Keep: 1})
	var names []string
	use := func(k int) *Model {
		m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[k]), made.adapters[k])
		must(t, err)
		names = append(names, m.Name)
		return m
	}
	has := func(name string) bool {
		all, err := Models(t.Context(), url)
		must(t, err)
		return slices.Contains(all, name)
	}
	first := use(0)
	must(t, first.Close())
	if !has(first.Name) {
		t.Error("the adapter that was used last is deleted")
	}
	second := use(1)
	if !has(first.Name) || !has(second.Name) {
		t.Error("an adapter is deleted while nothing else went out of use")
	}
	must(t, second.Close())
	if has(first.Name) || !has(second.Name) {
		t.Errorf("the adapter before the last one is there: %v, the last one: %v", has(first.Name), has(second.Name))
	}
	deleted, err := i.Prune(t.Context(), "")
	must(t, err)
	if !slices.Equal(deleted, []string{second.Name}) || has(second.Name) {
		t.Errorf("pruned %v", deleted)
	}
	if !has(theirs.Name) {
		t.Error("the model of another program is deleted")
	}
}

// What was served last stays through a restart, and is not deleted under another program that follows the same log.
func TestPruneKeepsWhatAnotherProcessUsed(t *testing.T) {
	made, url := newTaught(t), embeddedtest.RealOllama(t)
	one := newInstaller(t, url, made.base, InstallOptions{Keep: 2})
	theirs, err := one.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
	must(t, err)
	defer func() { must(t, theirs.Close()) }()
	other, err := NewInstaller(one.opt)
	must(t, err)
	defer func() { must(t, other.Close()) }()
	bare, err := other.Bare(t.Context())
	must(t, err)
	ours, err := other.Adapt(t.Context(), digestOf(t, made.adapters[1]), made.adapters[1])
	must(t, err)
	must(t, bare.Close())
	must(t, ours.Close())
	have, err := Models(t.Context(), url)
	must(t, err)
	if !slices.Contains(have, theirs.Name) {
		t.Errorf("%s is deleted", theirs.Name)
	}
}

// While one looks for what is out of use, and deletes it, nobody makes a model that would be deleted on its way into use;
// and while one is made, nothing is deleted.
func TestMakingAndDeletingExcludeEachOther(t *testing.T) {
	made := newTaught(t)
	var look atomic.Pointer[func()]
	url := before(t, embeddedtest.RealOllama(t), func(_ http.ResponseWriter, r *http.Request) bool {
		if f := look.Load(); f != nil && (r.URL.Path == "/api/tags" || r.URL.Path == "/api/create" || r.Method == http.MethodDelete) {
			(*f)()
		}
		return false
	})
	i := newInstaller(t, url, made.base, InstallOptions{Keep: 1})
	looks := 0
	held := func() {
		looks++
		if len(i.turn) == 0 {
			t.Error("somebody else may begin")
		}
	}
	look.Store(&held)
	for k := range 2 {
		m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[k]), made.adapters[k])
		must(t, err)
		must(t, m.Close())
	}
	look.Store(nil)
	if looks < 2*(2+1)+1 { // list and create, list to prune; and one deletion
		t.Errorf("%d requests were looked at", looks)
	}
}

func TestNamesAreReadBack(t *testing.T) {
	n := newNames("r2rec", strings.Repeat("d00d", 16))
	adapter := strings.Repeat("ab01", 16)
	ofOthers := []string{"r2rec-d00dd00dd00e:copy1", "x-r2rec-d00dd00dd00d:copy1"} // another base, another prefix
	for name, want := range map[string]struct {
		adapter string
		copy    int
		ok      bool
	}{
		n.copyOf(1):                          {"", 1, true},
		n.copyOf(12):                         {"", 12, true},
		n.layer(adapter, 3):                  {adapter[:12], 3, true},
		n.merged(adapter):                    {adapter[:12], 0, true},
		"r2rec-d00dd00dd00d:latest":          {},
		"r2rec-d00dd00dd00d:copy0":           {},
		"r2rec-d00dd00dd00d":                 {},
		"r2rec-d00dd00dd00e:copy1":           {},
		"r2rec-d00dd00dd00d-ab01:layer1":     {},
		"r2rec-d00dd00dd00d-ab01ab01ab01":    {},
		"x-r2rec-d00dd00dd00d:copy1":         {},
		"smollm2:135m":                       {},
		"r2rec-d00dd00dd00d-ab01ab01ab01:x1": {},
	} {
		if a, c, ok := n.parse(name); a != want.adapter || c != want.copy || ok != want.ok {
			t.Errorf("%s: %q, %d, %v, want %+v", name, a, c, ok, want)
		}
		if ok := Made(name); ok != (want.ok || slices.Contains(ofOthers, name)) {
			t.Errorf("%s is one that was made here: %v", name, ok)
		}
	}
}
