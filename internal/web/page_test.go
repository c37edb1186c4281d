package web

import (
	"regexp"
	"strings"
	"testing"
)

// TestPageFitsTogether finds scripts that import a file, or look for an element, that does not exist.
func TestPageFitsTogether(t *testing.T) {
	assets, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllSubmatch(assets["index.html"].body, -1) {
		if ids[string(m[1])] {
			t.Errorf("id %s stands twice", m[1])
		}
		ids[string(m[1])] = true
	}
	for name, a := range assets {
		if !strings.HasSuffix(name, ".js") {
			continue
		}
		for _, m := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllSubmatch(a.body, -1) {
			if _, ok := assets[string(m[1])]; !ok {
				t.Errorf("%s imports %s, which does not exist", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllSubmatch(a.body, -1) {
			if !ids[string(m[1])] {
				t.Errorf("%s looks for the element %s, which does not exist", name, m[1])
			}
		}
	}
}

// TestPageKnowsEveryKindOfMessage keeps the page, the server and openapi.json at one list of kinds.
func TestPageKnowsEveryKindOfMessage(t *testing.T) {
	assets, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{kindPhase, kindStats, kindHealth, kindApplied, kindLoop} {
		if !regexp.MustCompile(`\b` + kind + `: `).Match(assets["app.js"].body) {
			t.Errorf("the page does not listen to %s", kind)
		}
	}
	for _, kind := range []string{kindPhase, kindStats, kindHealth, kindApplied, kindDecision, kindDropped, kindLoop} {
		if !strings.Contains(string(openAPI), `"`+kind+`": {`) {
			t.Errorf("openapi.json does not describe %s", kind)
		}
	}
}

// TestPageFollowsNoLinkThatWantsTheToken: a browser that follows one sends no token, so a script has to.
func TestPageFollowsNoLinkThatWantsTheToken(t *testing.T) {
	st := serve(t, nil, nil)
	guarded := map[string]bool{}
	for _, r := range st.server.routes() {
		guarded[r.path] = !r.open
	}
	links := regexp.MustCompile(`<a href="(/[^"]*)"(?: id="([^"]+)")?`).FindAllSubmatch(st.server.assets["index.html"].body, -1)
	if len(links) == 0 {
		t.Error("the page has no link: this test looks for none")
	}
	for _, m := range links {
		if guarded[string(m[1])] && (len(m[2]) == 0 || !strings.Contains(string(st.server.assets["app.js"].body), `$("`+string(m[2])+`").addEventListener("click"`)) {
			t.Errorf("the link to %s is answered 401 where there is a token", m[1])
		}
	}
}
