package event

import (
	"encoding/json"
	"strconv"
	"strings"
)

// maxPlain bounds the records that decodePlain takes, in bytes: the strings of its result keep the whole record alive.
const maxPlain = 2 << 10

// decodePlain decodes the interaction as nearly every producer writes it: fields of the contract only, each once, with
// strings that need no unescaping. It is about three times faster than encoding/json and takes valid UTF-8 only. For
// anything else, valid or not, it gives false and leaves the verdict to decode: it never rejects, and what it accepts
// decode reads in the same way.
func decodePlain(raw []byte) (in Interaction, ok bool) {
	if len(raw) > maxPlain {
		return in, false
	}
	p := plainParser{rest: string(raw)}
	if !p.take('{') {
		return in, false
	}
	var seen uint
	for more := true; more; more = p.take(',') {
		name, ok := p.text()
		if !ok || !p.take(':') {
			return in, false
		}
		field := uint(0)
		switch name {
		case "event_id":
			field = 1 << 0
			in.EventID, ok = p.text()
		case "user_id":
			field = 1 << 1
			in.UserID, ok = p.text()
		case "item_id":
			field = 1 << 2
			in.ItemID, ok = p.text()
		case "type":
			field = 1 << 3
			var s string
			s, ok = p.text()
			in.Type = Type(s)
		case "value":
			field = 1 << 4
			var x float64
			x, ok = p.number()
			in.Value = &x
		case "timestamp":
			field = 1 << 5
			in.Timestamp, ok = p.time()
		case "decision_id":
			field = 1 << 6
			in.DecisionID, ok = p.text()
		case "position":
			field = 1 << 7
			var n int
			n, ok = p.integer()
			in.Position = &n
		case "surface":
			field = 1 << 8
			in.Surface, ok = p.text()
		default:
			return in, false
		}
		if !ok || seen&field != 0 {
			return in, false
		}
		seen |= field
	}
	return in, p.take('}') && p.space() == ""
}

// plainParser holds what is still to be read.
type plainParser struct{ rest string }

func (p *plainParser) space() string {
	for p.rest != "" && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\r' || p.rest[0] == '\t') {
		p.rest = p.rest[1:]
	}
	return p.rest
}

// take reads the character c if it comes next.
func (p *plainParser) take(c byte) bool {
	if p.space() == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// text reads a string without escapes.
func (p *plainParser) text() (string, bool) {
	if !p.take('"') {
		return "", false
	}
	for i := range len(p.rest) {
		switch c := p.rest[i]; {
		case c == '"':
			s := p.rest[:i]
			p.rest = p.rest[i+1:]
			return s, true
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

// digits reads the characters of a number, whose grammar is still to be checked.
func (p *plainParser) digits() string {
	p.space()
	i := 0
	for i < len(p.rest) && strings.IndexByte("0123456789+-.eE", p.rest[i]) >= 0 {
		i++
	}
	s := p.rest[:i]
	p.rest = p.rest[i:]
	return s
}

func (p *plainParser) number() (float64, bool) {
	s := p.digits()
	if !json.Valid([]byte(s)) { // strconv reads more than JSON allows
		return 0, false
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil
}

func (p *plainParser) integer() (int, bool) {
	s := p.digits()
	if !json.Valid([]byte(s)) {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func (p *plainParser) time() (t Time, ok bool) {
	if p.space() == "" {
		return 0, false
	}
	if p.rest[0] != '"' {
		n, ok := p.integer()
		return Time(n), ok
	}
	before := p.rest
	if _, ok := p.text(); !ok {
		return 0, false
	}
	quoted := before[:len(before)-len(p.rest)]
	return t, t.UnmarshalJSON([]byte(quoted)) == nil
}
