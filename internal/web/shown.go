package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/r2rec/r2rec/internal/event"
)

// shownHeader says how many impressions were published for an answer that declares what it shows.
const shownHeader = "R2rec-Shown"

// shownWithin bounds how long an answer waits for Kafka to have its impressions.
const shownWithin = 2 * time.Second

// declareShown publishes an impression of every item of a list that the caller is about to show, and tells in a header how
// many. The list is answered whatever happens: an impression that is lost only teaches nothing.
func (s *Server) declareShown(w http.ResponseWriter, r *http.Request, rec event.Recommendation, surface string) {
	n := 0
	if r.Method == http.MethodGet { // HEAD shows nothing
		n = s.Shown(r.Context(), rec, surface)
	}
	w.Header().Set(shownHeader, strconv.Itoa(n))
}

// Shown publishes an impression of every item of a list that is being shown on a surface, and returns how many Kafka has:
// all of them, or none where there is nothing to show, the decision could not be logged, or Kafka failed, which is logged.
// The ids of the events follow from decision and position, so a list that is told again is shown once.
func (s *Server) Shown(ctx context.Context, rec event.Recommendation, surface string) int {
	if rec.DecisionID == "" || len(rec.Items) == 0 {
		return 0
	}
	raw, keys := make([][]byte, len(rec.Items)), make([]string, len(rec.Items))
	for i, it := range rec.Items {
		var err error
		raw[i], err = event.Encode(event.Interaction{
			EventID: fmt.Sprintf("shown-%s-%d", rec.DecisionID, it.Position), UserID: rec.UserID, ItemID: it.ItemID, Type: event.Impression,
			Timestamp: event.At(s.Now()), DecisionID: rec.DecisionID, Position: &it.Position, Surface: surface,
		})
		if err != nil {
			s.log.Error("impressions not published", "decision", rec.DecisionID, "error", err)
			return 0
		}
		keys[i] = rec.UserID
	}
	ctx, cancel := context.WithTimeout(ctx, shownWithin)
	defer cancel()
	if err := s.Publisher.PublishInteractions(ctx, raw, keys); err != nil {
		s.metrics.impressions.WithLabelValues("failed").Add(float64(len(raw)))
		s.log.Error("impressions not published: the list is shown and teaches nothing", "decision", rec.DecisionID, "error", err)
		return 0
	}
	s.metrics.impressions.WithLabelValues("published").Add(float64(len(raw)))
	return len(raw)
}
