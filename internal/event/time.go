package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// Time is an instant in Unix milliseconds. It is written as RFC 3339 in UTC with milliseconds, and read from RFC 3339
// or from a JSON integer of Unix milliseconds.
type Time int64

// The range of every instant in a contract. Earlier ones are sent in the wrong unit or come from a broken clock; later
// ones cannot be written as RFC 3339. Latest lies below 2^53/8, so that eight times any instant is exact in a float64:
// the graph relies on it.
const (
	Earliest Time = 315532800000    // 1980-01-01T00:00:00.000Z
	Latest   Time = 253402300799999 // 9999-12-31T23:59:59.999Z
)

// At converts from the standard library.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std converts to the standard library, in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

func (t Time) String() string { return t.Std().Format(timeLayout) }

// MarshalJSON writes RFC 3339 in UTC with milliseconds. A year that RFC 3339 cannot express is an error.
func (t Time) MarshalJSON() ([]byte, error) {
	std := t.Std()
	if y := std.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("%d ms is in the year %d: RFC 3339 has four digits", int64(t), y)
	}
	b := make([]byte, 0, len(timeLayout)+2)
	b = append(b, '"')
	b = std.AppendFormat(b, timeLayout)
	return append(b, '"'), nil
}

// UnmarshalJSON reads RFC 3339 with a zone, or an integer of Unix milliseconds; what is finer than a millisecond is cut
// off. An integer too large for 64 bits becomes the largest one, so that it is rejected for its size and not for its
// form.
func (t *Time) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	if raw[0] == '"' {
		var std time.Time
		if err := std.UnmarshalJSON(raw); err != nil {
			return timeError(raw)
		}
		*t = At(std)
		return nil
	}
	ms, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil && ms == 0 { // a number out of range gives the nearest bound
		return timeError(raw)
	}
	*t = Time(ms)
	return nil
}

// timeError is of the one type to which encoding/json adds the path of the field.
func timeError(raw []byte) error {
	return &json.UnmarshalTypeError{Value: shorten(string(raw)), Type: reflect.TypeFor[Time]()}
}

// checkTime checks an instant against the range of every contract and against notAfter.
func checkTime(field string, t, notAfter Time) *Error {
	out := func(rule string) *Error {
		return reject(TimestampOutOfRange, field, strconv.FormatInt(int64(t), 10), rule)
	}
	sane := func(t Time) bool { return t >= Earliest && t <= Latest && t <= notAfter }
	switch {
	case t == 0:
		return reject(MissingField, field, "", "is missing or zero: send RFC 3339 or Unix milliseconds")
	case sane(t):
		return nil
	case t > 0 && t < Earliest && sane(t*1000):
		return out("looks like seconds; multiply by 1000")
	case t > notAfter && t/1000 >= Earliest && sane(t/1000):
		return out("looks like microseconds; divide by 1000")
	case t > notAfter && t/1_000_000 >= Earliest && sane(t/1_000_000):
		return out("looks like nanoseconds; divide by 1000000")
	case t < Earliest:
		return out("is before 1980-01-01: send Unix milliseconds or RFC 3339")
	case t > Latest:
		return out("is after the year 9999: send Unix milliseconds or RFC 3339")
	default:
		return out("is later than " + notAfter.String() + ", the latest that is accepted here: check the producer's clock")
	}
}

// Skew is how far the timestamp of an event may lie after the time of its Kafka record, unless it is configured otherwise.
const Skew = 24 * time.Hour
