package web

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

const eventStream = "text/event-stream"

// stream sends the feed as server-sent events until the client goes away or the server ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead { // what is written to it goes nowhere, so its end would not be noticed
		w.Header().Set("Content-Type", eventStream)
		return
	}
	sub := s.Feed.subscribe(s.MaxStreams)
	if sub == nil {
		unavailable(w, retryAfter, "too many streams are open")
		return
	}
	defer s.Feed.unsubscribe(sub)
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("X-Accel-Buffering", "no") // a proxy in between must not hold messages back
	control := http.NewResponseController(w)
	write := func(b []byte) bool {
		// The server's deadline is for a whole answer; a stream has one for each write instead. It is the system's
		// clock that this is compared with, whatever clock the options give.
		if err := control.SetWriteDeadline(time.Now().Add(s.timeouts.keepAlive)); err != nil {
			return false
		}
		if _, err := w.Write(b); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !write([]byte("retry: 2000\n\n")) {
		return
	}
	// Comments keep proxies from closing a quiet stream, and find out that a client is gone.
	keepAlive := time.NewTicker(s.timeouts.keepAlive)
	defer keepAlive.Stop()
	var buf bytes.Buffer
	for {
		buf.Reset()
		select {
		case <-s.ending:
			return
		case <-r.Context().Done():
			return
		case <-keepAlive.C:
			buf.WriteString(": still here\n\n")
		case m := <-sub.queue:
			if n := sub.dropped.Swap(0); n > 0 {
				appendMessage(&buf, encode(kindDropped, droppedMessage{n}))
			}
			appendMessage(&buf, m)
		}
		if !write(buf.Bytes()) {
			return
		}
	}
}

// appendMessage writes the wire form. The data is one line, because JSON escapes line breaks.
func appendMessage(buf *bytes.Buffer, m message) {
	buf.WriteString("event: ")
	buf.WriteString(m.kind)
	buf.WriteString("\ndata: ")
	buf.Write(m.data)
	buf.WriteString("\n\n")
}

// tell gives sampled events their titles and sends them, so that whoever applies events never waits for a look-up.
func (s *Server) tell(ctx context.Context) {
	for {
		var batch []sample
		select {
		case <-ctx.Done():
			return
		case first := <-s.Feed.samples:
			batch = append(batch, first)
		}
		for more := true; more; {
			select {
			case next := <-s.Feed.samples:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		items := make([]string, len(batch))
		for i, b := range batch {
			items[i] = b.interaction.ItemID
		}
		titles, err := s.Explorer.Titles(ctx, items)
		if err != nil {
			s.log.Debug("no titles for the stream", "error", err) // the ids are shown instead
		}
		for _, b := range batch {
			in := b.interaction
			s.Feed.send(kindApplied, appliedMessage{
				EventID: in.EventID, UserID: in.UserID, ItemID: in.ItemID, Title: titles[in.ItemID], Type: in.Type,
				Value: in.Value, Timestamp: in.Timestamp, DecisionID: in.DecisionID, Own: b.own, Simulated: in.Surface == SimulatedSurface,
			}, false)
		}
	}
}

// report sends counters and health once a tick while somebody watches.
func (s *Server) report(ctx context.Context) {
	ticker := time.NewTicker(s.Tick)
	defer ticker.Stop()
	before, at := s.Feed.applied.Load(), s.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		applied, now := s.Feed.applied.Load(), s.Now()
		m := statsMessage{Applied: applied, Decisions: s.Feed.decisions.Load()}
		if d := now.Sub(at).Seconds(); d > 0 {
			m.PerSecond = float64(applied-before) / d
		}
		before, at = applied, now
		if !s.Feed.watching() {
			continue
		}
		s.Feed.send(kindHealth, healthMessage{s.components(ctx)}, true)
		s.tellLoop(ctx)
		stats, err := s.Explorer.Stats(ctx)
		if err != nil {
			s.log.Debug("no graph counters for the stream", "error", err) // health says that Redis is down
			continue
		}
		m.Stats = stats
		s.Feed.send(kindStats, m, true)
	}
}

// tellLoop sends how learning goes, where that changed.
func (s *Server) tellLoop(ctx context.Context) {
	if s.Loop == nil {
		return
	}
	state, err := s.Loop.Loop(ctx)
	if err != nil {
		s.log.Debug("the stream does not tell how learning goes", "error", err)
		return
	}
	s.Feed.change(kindLoop, state.lists())
}
