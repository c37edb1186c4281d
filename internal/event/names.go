package event

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
)

// names is the set of field names that one object of a contract knows, and for fields that hold objects, or lists of
// them, theirs.
type names struct {
	name []string
	sub  []*names // nil where the field holds no object of the contract
}

var (
	interactionNames    = namesOf(reflect.TypeFor[Interaction]())
	itemNames           = namesOf(reflect.TypeFor[Item]())
	userNames           = namesOf(reflect.TypeFor[User]())
	decisionNames       = namesOf(reflect.TypeFor[Decision]())
	rewardNames         = namesOf(reflect.TypeFor[Reward]())
	promotionNames      = namesOf(reflect.TypeFor[Promotion]())
	recommendationNames = namesOf(reflect.TypeFor[Recommendation]())
)

// namesOf reads the names from the JSON tags of t, so that they stand in one place; nil if t holds no object.
func namesOf(t reflect.Type) *names {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	n := &names{}
	for i := range t.NumField() {
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag != "-" {
			n.name = append(n.name, tag)
			n.sub = append(n.sub, namesOf(t.Field(i).Type))
		}
	}
	return n
}

// maxDepth bounds the nesting of what a contract does not know.
const maxDepth = 32

// scanner walks over a record that encoding/json has already accepted, so it need not check the grammar.
type scanner struct {
	raw []byte
	pos int
}

// object walks over one object and checks its names: each known one at most once, and none that differs from a known
// one in case only, because that is a mistake which would otherwise pass as an unknown field.
func (s *scanner) object(known *names) *Error {
	var seen uint64
	s.next() // {
	for s.peek() != '}' {
		key, err := s.key()
		if err != nil {
			return err
		}
		s.next() // :
		field := known.find(key)
		if field < 0 {
			if name, ok := known.miswritten(key); ok {
				return reject(InvalidField, name, string(key), "is spelled with other capitals: write "+name)
			}
			err = s.skip()
		} else if seen&(1<<field) != 0 {
			return reject(DuplicateField, known.name[field], "", "stands twice in one object: send it once")
		} else {
			seen |= 1 << field
			err = s.value(known.sub[field], known.name[field])
		}
		if err != nil {
			return err
		}
		if s.peek() == ',' {
			s.next()
		}
	}
	s.next() // }
	return nil
}

// value walks over the value of a known field.
func (s *scanner) value(sub *names, name string) *Error {
	switch c := s.peek(); {
	case c == '"':
		// encoding/json would replace half a surrogate pair
		if quoted, escaped := s.span(); escaped && halfSurrogate(quoted) {
			return reject(InvalidUTF8, name, string(quoted), "escapes half a surrogate pair, which is no character: send both halves, or UTF-8")
		}
		return nil
	case sub != nil && c == '{':
		return s.object(sub).within(name, -1)
	case c == '[':
		s.next()
		for i := 0; s.peek() != ']'; i++ {
			if err := s.value(sub, ""); err != nil {
				err.Field = strings.TrimPrefix(err.Field, ".")
				return err.within(name, i)
			}
			if s.peek() == ',' {
				s.next()
			}
		}
		s.next()
		return nil
	default:
		return s.skip()
	}
}

// skip walks over any value without looking at its names.
func (s *scanner) skip() *Error {
	depth := 0
	for {
		switch c := s.peek(); c {
		case '"':
			s.span()
		case '{', '[':
			if depth++; depth > maxDepth {
				return reject(TooLarge, "", "", "is nested deeper than "+strconv.Itoa(maxDepth)+" levels: flatten it")
			}
			s.next()
		case '}', ']':
			depth--
			s.next()
		case ',', ':':
			s.next()
		default:
			s.literal()
		}
		if depth == 0 {
			return nil
		}
	}
}

// peek gives the next character that is not white space.
func (s *scanner) peek() byte {
	for {
		switch c := s.raw[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
}

// next walks over the character that peek gives.
func (s *scanner) next() {
	s.peek()
	s.pos++
}

// literal walks over a number, true, false or null.
func (s *scanner) literal() {
	for strings.IndexByte(",]} \t\r\n", s.raw[s.pos]) < 0 {
		s.pos++
	}
}

// span walks over a string and gives it as it stands, with its quotes.
func (s *scanner) span() (quoted []byte, escaped bool) {
	s.peek()
	start := s.pos
	for s.pos++; s.raw[s.pos] != '"'; s.pos++ {
		if s.raw[s.pos] == '\\' {
			escaped = true
			s.pos++
		}
	}
	s.pos++
	return s.raw[start:s.pos], escaped
}

// key walks over the name of a field and gives its meaning.
func (s *scanner) key() ([]byte, *Error) {
	quoted, escaped := s.span()
	if !escaped {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, reject(MalformedJSON, "", string(quoted), "is not a JSON string")
	}
	return []byte(text), nil
}

// halfSurrogate tells whether a quoted string escapes a surrogate without its other half.
func halfSurrogate(quoted []byte) bool {
	escape := func(i int) rune { // the UTF-16 unit escaped at i, or 0
		if i+6 > len(quoted) || quoted[i] != '\\' || quoted[i+1] != 'u' {
			return 0
		}
		unit, err := strconv.ParseUint(string(quoted[i+2:i+6]), 16, 16)
		if err != nil {
			return 0
		}
		return rune(unit)
	}
	for i := 0; i < len(quoted); i++ {
		if quoted[i] != '\\' {
			continue
		}
		unit := escape(i)
		if !utf16.IsSurrogate(unit) {
			i++ // over the escaped character, which may be a backslash
			continue
		}
		if utf16.DecodeRune(unit, escape(i+6)) == '\uFFFD' {
			return true
		}
		i += 11
	}
	return false
}

func (n *names) find(key []byte) int {
	for i, name := range n.name {
		if name == string(key) {
			return i
		}
	}
	return -1
}

func (n *names) miswritten(key []byte) (string, bool) {
	for _, name := range n.name {
		if bytes.EqualFold([]byte(name), key) {
			return name, true
		}
	}
	return "", false
}
