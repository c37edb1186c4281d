package ollama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// A model that is missed where it is to write is made again, as one that is to rank.
func TestWritingNoticesThatAModelIsLost(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"model 'm' not found"}`)
	})
	made := 0
	m := &Model{Name: "m", client: mustNew(t, Options{BaseURL: server.URL, Model: "m"}), ctx: t.Context(),
		installer: &Installer{opt: InstallOptions{OnReload: ReloadWait, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}},
		install:   func(context.Context) error { made++; return lm.ErrUnavailable }}
	for _, want := range []error{lm.ErrModelMissing, lm.ErrUnavailable} {
		if _, err := m.Write(t.Context(), "x", 1, lm.WriteOptions{Most: 3}); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if m.loads.Wait(); made != 1 {
		t.Errorf("the model is made %d times, want once", made)
	}
}

// A server that has lost its models, with the disk of its container or by somebody's hand, gets them again: meanwhile
// requests are told that the model is away, and then they are answered as before.
func TestModelsThatTheServerLosesComeBack(t *testing.T) {
	url, made := embeddedtest.RealOllama(t), newTaught(t)
	p, err := iot.ContentFree(iot.Figures, 5)
	must(t, err)
	for name, opt := range map[string]InstallOptions{"graph": {OnReload: ReloadGraph}, "wait": {OnReload: ReloadWait}, "merged": {OnReload: ReloadWait, Merged: true}} {
		t.Run(name, func(t *testing.T) {
			i := newInstaller(t, url, made.base, opt)
			bare, err := i.Bare(t.Context())
			must(t, err)
			adapted, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
			must(t, err)
			models := []*Model{adapted, bare}
			var before [][]float64
			for _, m := range models {
				shares, err := m.Rank(t.Context(), p)
				must(t, err)
				before = append(before, shares)
			}
			if near(before[0], before[1]) {
				t.Fatalf("both answer %v: one in the place of the other would not be seen", before)
			}
			must(t, i.Uninstall(t.Context()))
			for k, m := range models {
				want := before[k]
				var got []float64
				for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
					if got, err = m.Rank(t.Context(), p); err == nil {
						break
					}
					if !errors.Is(err, lm.ErrUnavailable) && !errors.Is(err, lm.ErrModelMissing) || time.Since(begun) > time.Minute {
						t.Fatalf("%s is lost: %v", m.Name, err)
					}
				}
				if !near(got, want) {
					t.Fatalf("%s answers %v, and answered %v", m.Name, got, want)
				}
			}
			must(t, errors.Join(adapted.Close(), bare.Close()))
		})
	}
}
