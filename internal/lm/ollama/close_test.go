package ollama

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/ollama/ollama/api"
)

// agreeable is a server to which everything is fine; hears is told of each request, before the answer.
func agreeable(t *testing.T, hears func(r *http.Request)) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		hears(r)
		switch r.URL.Path {
		case "/api/tags", "/api/ps":
			fmt.Fprint(w, `{"models":[]}`)
		case "/api/create":
			fmt.Fprint(w, `{"status":"success"}`)
		case "/api/generate":
			fmt.Fprint(w, `{"done":true}`)
		}
	}).URL
}

// A merged adapter that is made again while it is in use, by an older instance whose last request goes on, is one model on the
// server: it stays in memory until the last instance is closed.
func TestTheLastOfAModelUnloadsIt(t *testing.T) {
	made := newTaught(t)
	var unloaded atomic.Int32
	url := agreeable(t, func(r *http.Request) {
		var asked api.GenerateRequest
		if r.URL.Path == "/api/generate" && json.NewDecoder(r.Body).Decode(&asked) == nil && asked.KeepAlive != nil && asked.KeepAlive.Duration == 0 {
			unloaded.Add(1)
		}
	})
	i := newInstaller(t, url, made.base, InstallOptions{Merged: true})
	var models []*Model
	for range 3 {
		m, err := i.Adapt(t.Context(), digestOf(t, made.adapters[0]), made.adapters[0])
		must(t, err)
		models = append(models, m)
	}
	if models[0].Name != models[2].Name {
		t.Fatalf("%s and %s", models[0].Name, models[2].Name)
	}
	for k, m := range models {
		must(t, m.Close())
		if n := unloaded.Load(); n > 0 != (k == 2) || n > 1 {
			t.Errorf("%d of 3 instances are closed, and the model was unloaded %d times", k+1, n)
		}
	}
}
