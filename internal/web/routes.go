package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// route is one method on one path pattern of net/http.
type route struct {
	method, path string
	open         bool // answered without the token: holds no data
	handle       http.HandlerFunc
}

// routes is the whole surface; openapi.json describes each of them.
func (s *Server) routes() []route {
	return append(s.probes(), []route{
		{"GET", "/v1/users", false, s.users},
		{"GET", "/v1/users/{user}/recommendations", false, s.recommendations},
		{"GET", "/v1/users/{user}/history", false, s.history},
		{"GET", "/v1/users/{user}/why", false, s.why},
		{"GET", "/v1/users/{user}/traces", false, s.traces},
		{"DELETE", "/v1/users/{user}", false, s.forget},
		{"GET", "/v1/decisions/{id}", false, s.decision},
		{"POST", "/v1/events", false, s.events},
		{"GET", "/v1/adapters", false, s.adapters},
		{"POST", "/v1/adapters/rollback", false, s.rollBack},
		{"GET", "/v1/loop", false, s.loop},
		{"GET", "/v1/stream", false, s.stream},
		{"GET", "/openapi.json", true, s.openapi},
		{"GET", "/{$}", true, s.index},
		{"GET", "/page/{file}", true, s.asset},
	}...)
}

// probes is what those ask who watch over a process.
func (s *Server) probes() []route {
	metrics := promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
	return []route{
		{"GET", "/healthz", true, s.healthz},
		{"GET", "/readyz", true, s.readyz},
		{"GET", "/metrics", false, metrics.ServeHTTP},
	}
}

// handler builds the chain that every request goes through: headers, recovery and measuring around the mux, and within
// it, for each route, the checks of guard.
func (s *Server) handler(loopback bool) http.Handler {
	return s.observe(s.protect(s.mux(s.routes(), loopback, "there is nothing at this path; /openapi.json lists what there is")))
}

func (s *Server) mux(routes []route, loopback bool, nothing string) http.Handler {
	mux := http.NewServeMux()
	ours := s.ours(loopback)
	methods := map[string][]string{}
	for _, r := range routes {
		mux.Handle(r.method+" "+r.path, s.guard(ours, r.open, r.handle))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		if slices.Contains(allowed, http.MethodGet) {
			allowed = append(allowed, http.MethodHead)
		}
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		mux.Handle(path, s.guard(ours, true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", allow)
			fail(w, http.StatusMethodNotAllowed, "this path answers "+allow)
		}))
	}
	mux.Handle("/", s.guard(ours, true, func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, nothing)
	}))
	return mux
}
