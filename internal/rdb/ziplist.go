package rdb

// A ziplist is its length in bytes (4), the offset of its last element (4), its number of elements (2, lpMany where
// that does not fit), the elements and lpEnd. An element is the length of the one before (1 byte, or zlWide and 4), its
// encoding and its data.
const (
	zlHeader = 10
	zlWide   = 0xfe
)

func ziplistSet(dst []Raw, s string) ([]Raw, bool) {
	if len(s) < zlHeader+1 || uint64(le32(s, 0)) != uint64(len(s)) || s[len(s)-1] != lpEnd {
		return nil, false
	}
	count := int(le16(s, 8))
	s = s[:len(s)-1]
	read := 0
	for i := zlHeader; i < len(s); read += 2 {
		m, next, ok := zlElement(s, i)
		if !ok {
			return nil, false
		}
		e, next, ok := zlElement(s, next)
		if !ok {
			return nil, false
		}
		score, ok := e.score()
		if !ok {
			return nil, false
		}
		dst = append(dst, m.raw(score))
		i = next
	}
	return dst, read == count || count == lpMany
}

// zlElement reads the element at s[i:] and finds the next.
func zlElement(s string, i int) (e element, next int, ok bool) {
	if i >= len(s) {
		return element{}, 0, false
	}
	switch s[i] {
	case lpEnd:
		return element{}, 0, false
	case zlWide:
		i += 5
	default:
		i++
	}
	if i >= len(s) {
		return element{}, 0, false
	}
	b := s[i]
	if b < 0xc0 {
		return zlText(s, i)
	}
	if b > 0xf0 && b < zlWide { // 0 to 12 within the encoding
		return element{n: int64(b&0x0f) - 1, isInt: true}, i + 1, true
	}
	widths := [...]struct {
		encoding byte
		bytes    int
	}{{0xfe, 1}, {0xc0, 2}, {0xf0, 3}, {0xd0, 4}, {0xe0, 8}}
	for _, w := range widths {
		if b != w.encoding {
			continue
		}
		if w.bytes > len(s)-i-1 {
			return element{}, 0, false
		}
		e.isInt = true
		switch w.bytes {
		case 1:
			e.n = int64(int8(s[i+1]))
		case 2:
			e.n = int64(int16(le16(s, i+1)))
		case 3:
			e.n = int24(le24(s, i+1))
		case 4:
			e.n = int64(int32(le32(s, i+1)))
		case 8:
			e.n = int64(le64(s, i+1))
		}
		return e, i + 1 + w.bytes, true
	}
	return element{}, 0, false
}

// zlText reads a string element whose encoding stands at s[i].
func zlText(s string, i int) (e element, next int, ok bool) {
	b := s[i]
	var size uint64
	width := 1
	switch b >> 6 {
	case 0:
		size = uint64(b)
	case 1:
		width = 2
		if len(s)-i < width {
			return element{}, 0, false
		}
		size = uint64(b&0x3f)<<8 | uint64(s[i+1])
	default:
		width = 5
		if len(s)-i < width {
			return element{}, 0, false
		}
		size = uint64(be32(s, i+1))
	}
	i += width
	if size > uint64(len(s)-i) {
		return element{}, 0, false
	}
	next = i + int(size)
	return element{text: s[i:next]}, next, true
}
