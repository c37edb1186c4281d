package web

import (
	"context"
	"net/http"
)

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Status State `json:"status"`
	}{OK})
}

// readyz answers 503 while a part that r2rec needs is down. Details name servers and errors, so only who may read
// everything else reads them.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	components := s.components(r.Context())
	worst := OK
	for i := range components {
		switch components[i].State {
		case Down:
			worst = Down
		case Degraded:
			if worst == OK {
				worst = Degraded
			}
		}
		if !s.authorised(r) {
			components[i].Detail = ""
		}
	}
	status := http.StatusOK
	if worst == Down {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, struct {
		Status     State       `json:"status"`
		Components []Component `json:"components"`
	}{worst, components})
}

// components returns a copy that may be changed.
func (s *Server) components(ctx context.Context) []Component {
	return append([]Component{}, s.Health.Check(ctx)...)
}
