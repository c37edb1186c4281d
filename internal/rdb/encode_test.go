package rdb

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Encoders of what a current server does not write: older types, and encodings that its settings rule out. The server
// itself says, by RESTORE, whether they are right.

func dumped(body []byte) string {
	body = binary.LittleEndian.AppendUint16(body, 6)
	return string(binary.LittleEndian.AppendUint64(body, checksum(string(body))))
}

func appendLength(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, len14<<6|byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint32(append(b, len32), uint32(n))
	}
}

func appendString(b []byte, s string) []byte { return append(appendLength(b, len(s)), s...) }

// literals is s as LZF that saves nothing; enough to see that the type byte of a string is obeyed.
func literals(s string) (b []byte) {
	for len(s) > 0 {
		n := min(32, len(s))
		b = append(append(b, byte(n-1)), s[:n]...)
		s = s[n:]
	}
	return b
}

func appendLZF(b []byte, s string) []byte {
	packed := literals(s)
	b = appendLength(append(b, lenEncoded<<6|encLZF), len(packed))
	return append(appendLength(b, len(s)), packed...)
}

func scoreText(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1<<52 {
		return strconv.FormatInt(int64(x), 10)
	}
	switch {
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	}
	return strconv.FormatFloat(x, 'g', 17, 64)
}

// integer tells whether a compact encoding stores s as an integer.
func integer(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s
}

func encodeListpack(entries []Entry) string {
	var b []byte
	for _, e := range entries {
		b = appendLP(appendLP(b, e.Member), scoreText(e.Score))
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(lpHeader+len(b)+1))
	head = binary.LittleEndian.AppendUint16(head, uint16(min(2*len(entries), lpMany)))
	return string(append(append(head, b...), lpEnd))
}

func appendLP(b []byte, s string) []byte {
	start := len(b)
	n, isInt := integer(s)
	switch {
	case isInt && n >= 0 && n < 1<<7:
		b = append(b, byte(n))
	case isInt && n >= -1<<12 && n < 1<<12:
		b = append(b, 0xc0|byte(n>>8)&0x1f, byte(n))
	case isInt && n == int64(int16(n)):
		b = binary.LittleEndian.AppendUint16(append(b, 0xf1), uint16(n))
	case isInt && n >= -1<<23 && n < 1<<23:
		b = append(b, 0xf2, byte(n), byte(n>>8), byte(n>>16))
	case isInt && n == int64(int32(n)):
		b = binary.LittleEndian.AppendUint32(append(b, 0xf3), uint32(n))
	case isInt:
		b = binary.LittleEndian.AppendUint64(append(b, 0xf4), uint64(n))
	case len(s) < 1<<6:
		b = append(append(b, 0x80|byte(len(s))), s...)
	case len(s) < 1<<12:
		b = append(append(b, 0xe0|byte(len(s)>>8), byte(len(s))), s...)
	default:
		b = append(binary.LittleEndian.AppendUint32(append(b, 0xf0), uint32(len(s))), s...)
	}
	// The length of all that, seven bits a byte, the high ones first; all but the first carry a flag.
	n = int64(len(b) - start)
	if n < 1<<7 {
		return append(b, byte(n))
	}
	if n < 1<<14-1 {
		return append(b, byte(n>>7), byte(n)|0x80)
	}
	return append(b, byte(n>>14), byte(n>>7)|0x80, byte(n)|0x80) // up to 2 MiB
}

func encodeZiplist(entries []Entry) string {
	var b []byte
	last, tail := 0, 0
	add := func(s string) {
		tail = len(b)
		if last < zlWide {
			b = append(b, byte(last))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, zlWide), uint32(last))
		}
		b = appendZL(b, s)
		last = len(b) - tail
	}
	for _, e := range entries {
		add(e.Member)
		add(scoreText(e.Score))
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(zlHeader+len(b)+1))
	head = binary.LittleEndian.AppendUint32(head, uint32(zlHeader+tail))
	head = binary.LittleEndian.AppendUint16(head, uint16(min(2*len(entries), lpMany)))
	return string(append(append(head, b...), lpEnd))
}

func appendZL(b []byte, s string) []byte {
	n, isInt := integer(s)
	if len(s) > 31 {
		isInt = false
	}
	switch {
	case isInt && n >= 0 && n <= 12:
		return append(b, 0xf1+byte(n))
	case isInt && n == int64(int8(n)):
		return append(b, 0xfe, byte(n))
	case isInt && n == int64(int16(n)):
		return binary.LittleEndian.AppendUint16(append(b, 0xc0), uint16(n))
	case isInt && n >= -1<<23 && n < 1<<23:
		return append(b, 0xf0, byte(n), byte(n>>8), byte(n>>16))
	case isInt && n == int64(int32(n)):
		return binary.LittleEndian.AppendUint32(append(b, 0xd0), uint32(n))
	case isInt:
		return binary.LittleEndian.AppendUint64(append(b, 0xe0), uint64(n))
	case len(s) < 1<<6:
		return append(append(b, byte(len(s))), s...)
	case len(s) < 1<<14:
		return append(append(b, 0x40|byte(len(s)>>8), byte(len(s))), s...)
	default:
		return append(binary.BigEndian.AppendUint32(append(b, 0x80), uint32(len(s))), s...)
	}
}

func encodeSkipList(b []byte, entries []Entry, score func([]byte, float64) []byte) []byte {
	b = appendLength(b, len(entries))
	for _, e := range entries {
		n, isInt := integer(e.Member)
		switch {
		case isInt && n == int64(int8(n)):
			b = append(b, lenEncoded<<6+encInt8, byte(n))
		case isInt && n == int64(int16(n)):
			b = binary.LittleEndian.AppendUint16(append(b, lenEncoded<<6|encInt16), uint16(n))
		case isInt && n == int64(int32(n)):
			b = binary.LittleEndian.AppendUint32(append(b, lenEncoded<<6|encInt32), uint32(n))
		default:
			b = appendString(b, e.Member)
		}
		b = score(b, e.Score)
	}
	return b
}

func appendBinary(b []byte, x float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
}

func appendText(b []byte, x float64) []byte {
	switch {
	case math.IsInf(x, 1):
		return append(b, textInf)
	case math.IsInf(x, -1):
		return append(b, textNegInf)
	}
	s := scoreText(x)
	return append(append(b, byte(len(s))), s...)
}

// encodings are the ways to store a set, by name; the entries must be in the order of a set.
var encodings = map[string]func([]Entry) string{
	"listpack":   func(es []Entry) string { return dumped(appendString([]byte{typeZsetListpack}, encodeListpack(es))) },
	"ziplist":    func(es []Entry) string { return dumped(appendString([]byte{typeZsetZiplist}, encodeZiplist(es))) },
	"compressed": func(es []Entry) string { return dumped(appendLZF([]byte{typeZsetListpack}, encodeListpack(es))) },
	"binary":     func(es []Entry) string { return dumped(encodeSkipList([]byte{typeZset2}, es, appendBinary)) },
	"text":       func(es []Entry) string { return dumped(encodeSkipList([]byte{typeZset}, es, appendText)) },
}

// show is a set for a test's message.
func show(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%q=%s ", e.Member, scoreText(e.Score))
	}
	return b.String()
}
