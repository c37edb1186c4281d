// Package rdb decodes what the Redis command DUMP answers for a sorted set. A DUMP costs the server a copy of the
// value's memory, where ZRANGE WITHSCORES formats every score: for a set of 128 entries about a twentieth of the time.
//
// The payload is one value in the format of Redis' database file (RDB), then the format's version and a CRC-64. The
// format is private to Redis but stable: a change of an encoding takes a new type byte, and old ones stay readable, as
// RESTORE has to accept them. So the version is not looked at, and an unknown type is an error by which the caller
// turns to another command. Decoded are all four encodings that sorted sets ever had, and compressed strings.
//
// A payload is hostile input: decoding never panics, and takes memory only in proportion to what was sent (a compressed
// one can grow 88-fold, but never beyond 64 MiB). It is left to the caller to get the payload, and to order the
// entries: compact sets come in rising, others in falling order.
package rdb

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Errors of a payload that cannot be decoded, for errors.Is.
var (
	// ErrType: the value is no sorted set, or one in an encoding that this package does not know.
	ErrType = errors.New("rdb: not a sorted set in a known encoding")
	// ErrChecksum: the payload was changed on its way.
	ErrChecksum = errors.New("rdb: checksum does not match")
	// ErrCorrupt: the payload breaks the rules of its encoding.
	ErrCorrupt = errors.New("rdb: corrupt payload")
)

// Entry is one member of a sorted set.
type Entry struct {
	Member string
	Score  float64 // never NaN
}

// Raw is an entry as it stands in the payload. An integer may stand there as such or as text, whatever its size.
type Raw struct {
	Text    string
	Number  int64
	Integer bool // the member is the decimal digits of Number, instead of Text
	Score   float64
}

// Append appends the member's text.
func (r *Raw) Append(dst []byte) []byte {
	if r.Integer {
		return strconv.AppendInt(dst, r.Number, 10)
	}
	return append(dst, r.Text...)
}

// Decoder decodes payloads. The zero value is ready; it must not be copied after its first use, nor be used by two
// goroutines at once.
type Decoder struct {
	// SkipChecksum leaves the checksum unread, which is a third to half of the work.
	SkipChecksum bool

	text  strings.Builder // what members are made of that do not stand in the payload as they are
	digit [20]byte
	raw   []Raw // of one set
}

// chunk is how many bytes of text are allocated at a time.
const chunk = 16 << 10

// footer is the length of the format's version and the checksum.
const footer = 2 + 8

// Types of a value in an RDB file.
const (
	typeZset         = 3  // skip list, scores as text (before Redis 4)
	typeZset2        = 5  // skip list, scores as little-endian float64
	typeZsetZiplist  = 12 // compact, before Redis 7
	typeZsetListpack = 17 // compact
)

// SortedSet appends the entries of a dumped sorted set to dst, in the order of the payload. Where it fails, nothing is
// appended. Members are parts of the payload, which they keep alive, or of texts that the decoder allocates for many at
// once; so decoding a set allocates nothing but room in dst, and a chunk of 16 KiB once in a while.
func (d *Decoder) SortedSet(dst []Entry, payload string) ([]Entry, error) {
	raw, err := d.RawSet(d.raw[:0], payload)
	if err != nil {
		return dst, err
	}
	d.raw = raw
	dst = slices.Grow(dst, len(raw))
	for i := range raw {
		dst = append(dst, Entry{d.Member(&raw[i]), raw[i].Score})
	}
	return dst, nil
}

// Member is the text of an entry's member; for an integer the decoder makes it.
func (d *Decoder) Member(r *Raw) string {
	if r.Integer {
		return d.number(r.Number)
	}
	return r.Text
}

// RawSet is SortedSet for a caller that needs few of the members as text, which is half of the work where they are integers: see Member.
func (d *Decoder) RawSet(dst []Raw, payload string) ([]Raw, error) {
	if len(payload) < 1+footer {
		return dst, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(payload))
	}
	sum := len(payload) - 8
	if !d.SkipChecksum && checksum(payload[:sum]) != le64(payload, sum) {
		return dst, ErrChecksum
	}
	v := value{d: d, rest: payload[1 : len(payload)-footer]}
	var (
		set []Raw
		ok  bool
	)
	switch t := payload[0]; t {
	case typeZsetListpack:
		set, ok = v.packed(dst, listpackSet)
	case typeZsetZiplist:
		set, ok = v.packed(dst, ziplistSet)
	case typeZset2:
		set, ok = v.skipList(dst, v.binaryScore)
	case typeZset:
		set, ok = v.skipList(dst, v.textScore)
	default:
		return dst, fmt.Errorf("%w: type %d", ErrType, t)
	}
	if !ok || v.rest != "" {
		return dst, fmt.Errorf("%w: type %d, %d bytes", ErrCorrupt, payload[0], len(payload))
	}
	return set, nil
}

// Integer is an entry of two integers.
type Integer struct{ Member, Score int64 }

// Integers is RawSet for a compact set of which all members and scores stand in the payload as integers, several times as
// fast; ok is false where they do not, or where the payload is none of such a set.
func (d *Decoder) Integers(dst []Integer, payload string) (set []Integer, ok bool) {
	sum := len(payload) - 8
	if len(payload) < 1+footer || payload[0] != typeZsetListpack || !d.SkipChecksum && checksum(payload[:sum]) != le64(payload, sum) {
		return dst, false
	}
	v := value{d: d, rest: payload[1 : len(payload)-footer]}
	packed, ok := v.str()
	if !ok || v.rest != "" {
		return dst, false
	}
	if set, ok = listpackIntegers(dst, packed); !ok {
		return dst, false
	}
	return set, true
}

// number is the text of an integer member.
func (d *Decoder) number(n int64) string {
	digits := strconv.AppendInt(d.digit[:0], n, 10)
	d.reserve(len(digits))
	start := d.text.Len()
	d.text.Write(digits)
	return d.text.String()[start:]
}

// reserve makes room for n bytes of text, so that a text never moves while it is written. Texts made before stay.
func (d *Decoder) reserve(n int) {
	if d.text.Cap()-d.text.Len() < n {
		d.text.Reset()
		d.text.Grow(max(n, chunk))
	}
}

// value is the rest of a payload while it is read. Its methods report false, and leave it anywhere, where it breaks the
// rules.
type value struct {
	d    *Decoder
	rest string
}

// take cuts the next n bytes.
func (v *value) take(n uint64) (string, bool) {
	if n > uint64(len(v.rest)) {
		return "", false
	}
	s := v.rest[:n]
	v.rest = v.rest[n:]
	return s, true
}

// How a length begins: the two high bits, then for two forms the whole byte.
const (
	len6 = iota
	len14
	lenWide
	lenEncoded

	len32 = 0x80
	len64 = 0x81
)

// length reads a length, or for encoded the kind of a string that is not stored as it is.
func (v *value) length() (n uint64, encoded, ok bool) {
	first, ok := v.take(1)
	if !ok {
		return 0, false, false
	}
	b := first[0]
	switch b >> 6 {
	case len6:
		return uint64(b), false, true
	case len14:
		s, ok := v.take(1)
		if !ok {
			return 0, false, false
		}
		return uint64(b&0x3f)<<8 | uint64(s[0]), false, true
	case lenEncoded:
		return uint64(b & 0x3f), true, true
	}
	switch b {
	case len32:
		s, ok := v.take(4)
		if !ok {
			return 0, false, false
		}
		return uint64(be32(s, 0)), false, true
	case len64:
		s, ok := v.take(8)
		if !ok {
			return 0, false, false
		}
		return uint64(be32(s, 0))<<32 | uint64(be32(s, 4)), false, true
	}
	return 0, false, false
}

// Kinds of encoded strings.
const (
	encInt8 = iota
	encInt16
	encInt32
	encLZF
)

func (v *value) str() (string, bool) {
	n, encoded, ok := v.length()
	switch {
	case !ok:
		return "", false
	case !encoded:
		return v.take(n)
	case n == encLZF:
		return v.compressed()
	case n > encLZF:
		return "", false
	}
	s, ok := v.take(1 << n)
	if !ok {
		return "", false
	}
	switch n {
	case encInt8:
		return v.d.number(int64(int8(s[0]))), true
	case encInt16:
		return v.d.number(int64(int16(le16(s, 0)))), true
	default:
		return v.d.number(int64(int32(le32(s, 0)))), true
	}
}

func (v *value) compressed() (string, bool) {
	size, encoded, ok := v.length()
	if !ok || encoded {
		return "", false
	}
	inflated, encoded, ok := v.length()
	if !ok || encoded {
		return "", false
	}
	s, ok := v.take(size)
	if !ok {
		return "", false
	}
	return v.d.inflate(s, inflated)
}

// packed reads a compact set: one string that holds all entries.
func (v *value) packed(dst []Raw, set func([]Raw, string) ([]Raw, bool)) ([]Raw, bool) {
	s, ok := v.str()
	if !ok {
		return nil, false
	}
	return set(dst, s)
}

func (v *value) skipList(dst []Raw, score func() (float64, bool)) ([]Raw, bool) {
	n, encoded, ok := v.length()
	if !ok || encoded {
		return nil, false
	}
	for range n {
		member, ok := v.str()
		if !ok {
			return nil, false
		}
		x, ok := score()
		if !ok || math.IsNaN(x) {
			return nil, false
		}
		dst = append(dst, Raw{Text: member, Score: x})
	}
	return dst, true
}

func (v *value) binaryScore() (float64, bool) {
	s, ok := v.take(8)
	if !ok {
		return 0, false
	}
	return math.Float64frombits(le64(s, 0)), true
}

// Lengths that stand for a score instead.
const (
	textNaN    = 253
	textInf    = 254
	textNegInf = 255
)

func (v *value) textScore() (float64, bool) {
	n, ok := v.take(1)
	if !ok {
		return 0, false
	}
	switch n[0] {
	case textNaN:
		return 0, false
	case textInf:
		return math.Inf(1), true
	case textNegInf:
		return math.Inf(-1), true
	}
	s, ok := v.take(uint64(n[0]))
	if !ok {
		return 0, false
	}
	return parseScore(s)
}

func parseScore(s string) (float64, bool) {
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil && !math.IsNaN(x)
}
