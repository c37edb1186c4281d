package broker

import "time"

// Set makes a writer go by another clock, try a record as often, and wait otherwise when it is closed.
func (w *BoundedWriter) Set(now func() time.Time, attempts int, patience time.Duration) {
	w.now, w.patience, w.to.MaxAttempts = now, patience, attempts
}
