package event

import (
	"strconv"
	"unicode/utf8"
)

// ErrorReason says in one word why a record was rejected. The set is closed and small, so that rejections can be counted
// by it.
type ErrorReason string

// Why a record is rejected.
const (
	MalformedJSON       ErrorReason = "malformed_json"         // not exactly one JSON object
	InvalidUTF8         ErrorReason = "invalid_utf8"           // bytes or escapes that are no text
	TooLarge            ErrorReason = "too_large"              // more bytes or deeper nesting than the contract allows
	DuplicateField      ErrorReason = "duplicate_field"        // a field of the contract stands twice
	MissingField        ErrorReason = "missing_field"          // a required field is absent, null or empty
	InvalidField        ErrorReason = "invalid_field"          // a field has the wrong JSON type or breaks a rule
	UnknownType         ErrorReason = "unknown_type"           // an interaction type that does not exist
	TimestampOutOfRange ErrorReason = "timestamp_out_of_range" // before 1980, in the future, or in another unit
	KeyMismatch         ErrorReason = "key_mismatch"           // the record's key is not the id in its value
)

// Reasons lists every ErrorReason, in the order of the constants.
var Reasons = []ErrorReason{MalformedJSON, InvalidUTF8, TooLarge, DuplicateField, MissingField, InvalidField, UnknownType, TimestampOutOfRange, KeyMismatch}

// Error says which rule of a contract a record breaks. Every error of this package's decoders, of Validate and of
// Encode is an *Error.
type Error struct {
	Reason ErrorReason
	Field  string // path of the field, such as context.chains[2].via; empty: the record as a whole
	Value  string // the offending value, at most maxShown bytes of it, unquoted; empty where there is none to show
	Rule   string // the rule, and how to follow it
}

// Error gives field, value and rule on one line of printable text, whatever the value holds.
func (e *Error) Error() string {
	s := e.Field
	if s == "" {
		s = "record"
	}
	if e.Value != "" {
		s += " " + strconv.Quote(e.Value)
	}
	return s + ": " + e.Rule
}

// maxShown bounds Error.Value in bytes: enough to find the record, too little to flood a log.
const maxShown = 64

func reject(reason ErrorReason, field, value, rule string) *Error {
	return &Error{Reason: reason, Field: field, Value: shorten(value), Rule: rule}
}

// shorten cuts between characters and marks the cut.
func shorten(s string) string {
	const mark = "…"
	if len(s) <= maxShown {
		return s
	}
	end := maxShown - len(mark)
	for end > maxShown-len(mark)-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// within puts the path of the enclosing value in front of the field; i < 0 means that it is not a list.
func (e *Error) within(parent string, i int) *Error {
	if e == nil {
		return nil
	}
	if i >= 0 {
		parent += "[" + strconv.Itoa(i) + "]"
	}
	if e.Field != "" {
		parent += "." + e.Field
	}
	e.Field = parent
	return e
}

// first returns the first rejection as an error, and a true nil if there is none.
func first(errs ...*Error) *Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// asError keeps a nil *Error from becoming a non-nil error.
func asError(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}
