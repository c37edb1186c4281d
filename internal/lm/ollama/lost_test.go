package ollama

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/r2rec/r2rec/internal/embedded/embeddedtest"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

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
				for j := range want {
					if math.Abs(got[j]-want[j]) > 1e-6 {
						t.Fatalf("%s answers %v, and answered %v", m.Name, got, want)
					}
				}
			}
			must(t, errors.Join(adapted.Close(), bare.Close()))
		})
	}
}
