package broker

import "time"

// Set makes a writer go by another clock, never give up a record, and wait otherwise when it is closed.
func (w *BoundedWriter) Set(now func() time.Time, patience time.Duration) {
	w.now, w.patience, w.to.MaxAttempts = now, patience, 1<<30
}
