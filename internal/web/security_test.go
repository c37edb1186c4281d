package web

import (
	"net"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// waitFor fails the test when the condition does not come true within ten seconds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("waited in vain for ", what)
		case <-poll.C:
		}
	}
}

func TestTokenGuardsEverythingThatHoldsData(t *testing.T) {
	st := serve(t, func(o *Options) { o.Token = "sesame" }, nil)
	open := []string{"/healthz", "/readyz", "/openapi.json", "/{$}", "/page/{file}"}
	for _, r := range st.server.routes() {
		if r.open != slices.Contains(open, r.path) {
			t.Errorf("%s %s is open: %v", r.method, r.path, r.open)
		}
		p := strings.NewReplacer("{user}", "u1", "{id}", "d", "{file}", "app.js", "{$}", "").Replace(r.path)
		if r.open {
			if a := st.ask(t, r.method, p, ""); a.status == 401 {
				t.Errorf("%s %s is open and asked for the token", r.method, p)
			}
			continue
		}
		for _, given := range []string{"", "Bearer", "Bearer sesam", "Bearer sesame2", "Basic sesame", "sesame"} {
			a := st.ask(t, r.method, p, "", "Authorization", given).want(t, 401)
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(a.body, "sesame") {
				t.Errorf("%s %s with %q: %v %s", r.method, p, given, a.header, a.body)
			}
		}
	}
	if len(st.queries)+len(st.forgotten) != 0 {
		t.Errorf("without the token: %v %v", st.queries, st.forgotten)
	}
	st.ask(t, "GET", "/v1/users", "", "Authorization", "bearer sesame").want(t, 200)
	st.listen(t, "Authorization", "Bearer sesame").want(kindStats)
	if a := st.ask(t, "GET", "/readyz", ""); strings.Contains(a.body, "no model") {
		t.Errorf("details without the token: %s", a.body)
	}
	if a := st.ask(t, "GET", "/readyz", "", "Authorization", "Bearer sesame"); !strings.Contains(a.body, "no model") {
		t.Errorf("no details with the token: %s", a.body)
	}
}

func TestOnlyOwnHostNamesAreAnsweredOnLoopback(t *testing.T) {
	st := serve(t, func(o *Options) { o.AllowedHosts = []string{"Rec.Example."} }, nil)
	for _, host := range []string{"localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:80", "[::1]", "localhost.", "rec.example:443", "127.0.0.2:8080"} {
		st.ask(t, "GET", "/v1/users", "", "Host", host).want(t, 200)
	}
	for _, host := range []string{"evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"} {
		st.ask(t, "GET", "/v1/users", "", "Host", host).want(t, 421)
		st.ask(t, "GET", "/", "", "Host", host).want(t, 421)
		st.ask(t, "DELETE", urlOf("users", "u1"), "", "Host", host).want(t, 421)
	}
	if len(st.forgotten) != 0 {
		t.Errorf("forgot %v", st.forgotten)
	}
}

func TestHostsThatCannotBeAskedForAreRefused(t *testing.T) {
	for _, host := range []string{"rec.example.com", "Rec.Example.", "rec.example.com:8443", "rec", "a_b.internal", "xn--bcher-kva.example", "10.0.0.5", "10.0.0.5:80", "::1", "[fd00::1]:80", "[fd00::1]"} {
		if err := CheckHost(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"", ".", ":80", "https://rec.example.com", "http://rec.example.com:80/", "rec.example.com/", "rec.example.com:https", "rec.example.com:", "rec.example.com:70000",
		"*.example.com", "*", " rec.example.com", "bücher.example", "user@rec.example.com"} {
		if CheckHost(host) == nil {
			t.Errorf("%q was taken", host)
		}
	}
}

func TestOtherAddressesAnswerForEveryNameUnlessToldWhich(t *testing.T) {
	for _, c := range []struct {
		allowed []string
		want    int
	}{{nil, 200}, {[]string{"rec.example"}, 421}, {[]string{"other.example"}, 200}} {
		st := serve(t, func(o *Options) { o.AllowedHosts = c.allowed }, nil)
		w := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "http://other.example/healthz", nil)
		st.server.handler(false).ServeHTTP(w, req)
		if w.Code != c.want {
			t.Errorf("allowed %v: %d, want %d", c.allowed, w.Code, c.want)
		}
		for _, address := range []string{"10.1.2.3:8080", "[fd00::1]:8080"} { // by which probes ask
			w, req := httptest.NewRecorder(), httptest.NewRequest("GET", "/healthz", nil)
			req.Host = address
			if st.server.handler(false).ServeHTTP(w, req); w.Code != 200 {
				t.Errorf("allowed %v, by the address %s: %d, want 200", c.allowed, address, w.Code)
			}
		}
	}
	for a, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "0.0.0.0": false, "10.0.0.1": false, "::": false} {
		if got := isLoopback(&net.TCPAddr{IP: net.ParseIP(a)}); got != want {
			t.Errorf("isLoopback(%s) = %v", a, got)
		}
	}
}

func TestOtherSitesCannotAct(t *testing.T) {
	st := serve(t, nil, nil)
	post := func(headers ...string) answer {
		return st.ask(t, "POST", "/v1/events", event1(1), append(headers, "Content-Type", "application/json")...)
	}
	for _, h := range [][]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://localhost:1"},
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
	} {
		post(h...).want(t, 403)
		st.ask(t, "DELETE", urlOf("users", "u1"), "", h...).want(t, 403)
	}
	if len(st.published)+len(st.forgotten) != 0 {
		t.Errorf("%v %v", st.published, st.forgotten)
	}
	post().want(t, 202)
	post("Origin", st.base).want(t, 202)
	post("Sec-Fetch-Site", "same-origin").want(t, 202)

	// Asking for a recommendation is reading that has effects.
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200} {
		st.ask(t, "GET", urlOf("users", "u1", "recommendations"), "", "Sec-Fetch-Site", site).want(t, want)
		st.ask(t, "GET", "/", "", "Sec-Fetch-Site", site).want(t, 200)
	}
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	st := serve(t, nil, nil)
	for _, p := range []string{"/", "/page/app.js", "/v1/users", "/none"} {
		h := st.ask(t, "GET", p, "").header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", p, h)
		}
		csp := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: %q", p, csp)
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s is open to other sites", p)
		}
	}
}

// TestPageKeepsToItsPolicy looks for what the policy would block and for ways to turn text into markup.
func TestPageKeepsToItsPolicy(t *testing.T) {
	assets, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	inline := regexp.MustCompile(`(?i)<script(>|[^>]*>\s*[^\s<])|<style|\sstyle=|\son[a-z]+=`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setAttribute\("style"`)
	foreign := regexp.MustCompile(`(?i)(src|href|url\(|fetch\(|from )\s*=?\s*["'(]?(https?:)?//`)
	for name, a := range assets {
		if m := inline.Find(a.body); strings.HasSuffix(name, ".html") && m != nil {
			t.Errorf("%s: inline %q", name, m)
		}
		if m := markup.Find(a.body); m != nil {
			t.Errorf("%s: %q makes markup of text", name, m)
		}
		if m := foreign.Find(a.body); m != nil {
			t.Errorf("%s: %q loads from elsewhere", name, m)
		}
	}
}

func TestAssetsAreServedWithTheirTypeAndRevalidated(t *testing.T) {
	st := serve(t, nil, nil)
	a := st.ask(t, "GET", "/", "").want(t, 200)
	if a.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(a.body, "<title>") {
		t.Errorf("%v", a.header)
	}
	st.ask(t, "GET", "/", "", "If-None-Match", a.header.Get("ETag")).want(t, 304)
	for _, m := range regexp.MustCompile(`(?:src|href)="(/page/[^"]+)"`).FindAllStringSubmatch(a.body, -1) {
		st.ask(t, "GET", m[1], "").want(t, 200)
	}
}
