package event

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the contracts, in bytes unless stated otherwise. docs/contracts.md and the schemas repeat them.
const (
	maxID         = 64 // user and item ids: Redis keeps a sorted set compact only while its members are not longer
	maxEventID    = 128
	maxName       = 64 // decision ids, surfaces, categories, readouts
	maxDigest     = 128
	maxTitle      = 1024
	maxText       = 4096 // prose: reasons, notes, steps of a thought
	maxCategories = 32   // in number
	maxPosition   = 10000
	maxSeed       = 1<<53 - 1 // the largest integer that every JSON reader keeps exact
	maxSmall      = 1<<31 - 1 // counts and versions, in number
)

// checkRequired checks a required text of 1 to limit bytes.
func checkRequired(field, s string, limit int) *Error {
	if s == "" {
		return reject(MissingField, field, "", "is required: send a text of 1 to "+strconv.Itoa(limit)+" bytes")
	}
	return checkText(field, s, limit)
}

// checkText checks a text of at most limit bytes: valid UTF-8 without control characters.
func checkText(field, s string, limit int) *Error {
	if len(s) > limit {
		return reject(InvalidField, field, s, "has "+strconv.Itoa(len(s))+" bytes: send at most "+strconv.Itoa(limit))
	}
	for i, r := range s {
		if r < ' ' || r >= 0x7f && unicode.IsControl(r) {
			return reject(InvalidField, field, s, "holds a control character: remove it")
		}
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return reject(InvalidUTF8, field, s, "is not valid UTF-8: encode it as UTF-8")
		}
	}
	return nil
}

// checkID checks an optional identifier of at most limit bytes: it is compared byte by byte and becomes part of Redis
// keys, so nothing that looks like another id, or like a damaged one, is let in.
func checkID(field, s string, limit int) *Error {
	if err := checkText(field, s, limit); err != nil {
		return err
	}
	if strings.Contains(s, "\uFFFD") {
		return reject(InvalidField, field, s, "holds U+FFFD, the mark of text that was damaged on its way: send the original id")
	}
	if strings.TrimSpace(s) != s {
		return reject(InvalidField, field, s, "begins or ends with a space: remove it")
	}
	return nil
}

// checkRequiredID checks a required identifier of 1 to limit bytes.
func checkRequiredID(field, s string, limit int) *Error {
	if s == "" {
		return checkRequired(field, s, limit)
	}
	return checkID(field, s, limit)
}

func checkCategories(categories []string) *Error {
	if len(categories) > maxCategories {
		return reject(InvalidField, "categories", strconv.Itoa(len(categories)), "are too many: send at most "+strconv.Itoa(maxCategories))
	}
	for i, c := range categories {
		if err := checkRequired("", c, maxName); err != nil {
			return err.within("categories", i)
		}
	}
	return nil
}

// checkOneOf checks an optional word of a closed set.
func checkOneOf[S ~string](field string, s S, allowed ...S) *Error {
	if slices.Contains(allowed, s) {
		return nil
	}
	reason, rule := InvalidField, "must be one of"
	if s == "" {
		reason, rule = MissingField, "is required: send one of"
	}
	for i, a := range allowed {
		if i > 0 {
			rule += ","
		}
		rule += " " + string(a)
	}
	return reject(reason, field, string(s), rule)
}

// checkRange checks a finite number between low and high, both allowed. NaN is in no range.
func checkRange(field string, x, low, high float64) *Error {
	if x >= low && x <= high && !math.IsInf(x, 0) {
		return nil
	}
	rule := "must be a finite number"
	switch {
	case !math.IsInf(low, 0) && !math.IsInf(high, 0):
		rule = "must be between " + number(low) + " and " + number(high)
	case !math.IsInf(low, 0):
		rule = "must be a finite number of at least " + number(low)
	}
	return reject(InvalidField, field, number(x), rule)
}

func checkFinite(field string, x float64) *Error {
	return checkRange(field, x, math.Inf(-1), math.Inf(1))
}

// checkSize checks that a number is finite and not negative.
func checkSize(field string, x float64) *Error { return checkRange(field, x, 0, math.Inf(1)) }

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func checkInt(field string, n, low, high int) *Error {
	if n >= low && n <= high {
		return nil
	}
	return reject(InvalidField, field, strconv.Itoa(n), "must be between "+strconv.Itoa(low)+" and "+strconv.Itoa(high))
}
