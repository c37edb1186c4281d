package event

import "time"

// Time is an instant in Unix milliseconds. It is written as RFC 3339 in UTC with milliseconds, and read from RFC 3339
// or from a JSON integer of Unix milliseconds.
type Time int64

// At converts from the standard library.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std converts to the standard library, in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

func (t Time) String() string { return t.Std().Format("2006-01-02T15:04:05.000Z07:00") }
