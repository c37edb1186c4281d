package rdb

// A listpack is its length in bytes (4), its number of elements (2, lpMany where that does not fit), the elements and
// lpEnd. An element is its encoding, its data, and the length of both (1 to 5 bytes) for going backwards.
const (
	lpHeader = 6
	lpMany   = 0xffff
	lpEnd    = 0xff
)

// element of a listpack or ziplist: a string, or an integer that stands for its digits.
type element struct {
	text  string
	n     int64
	isInt bool
}

func (e element) raw(score float64) Raw {
	return Raw{Text: e.text, Number: e.n, Integer: e.isInt, Score: score}
}

func (e element) score() (float64, bool) {
	if e.isInt {
		return float64(e.n), true
	}
	return parseScore(e.text)
}

func listpackSet(dst []Raw, s string) ([]Raw, bool) {
	s, count, ok := listpack(s)
	if !ok {
		return nil, false
	}
	read := 0
	for i := lpHeader; i < len(s); read += 2 {
		m, next, ok := lpElement(s, i)
		if !ok {
			return nil, false
		}
		e, next, ok := lpElement(s, next)
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

// listpack is what a listpack holds before lpEnd, and how many elements it says these are.
func listpack(s string) (elements string, count int, ok bool) {
	if len(s) < lpHeader+1 || uint64(le32(s, 0)) != uint64(len(s)) || s[len(s)-1] != lpEnd {
		return "", 0, false
	}
	return s[:len(s)-1], int(le16(s, 4)), true
}

// listpackIntegers is listpackSet for integers only.
func listpackIntegers(dst []Integer, s string) ([]Integer, bool) {
	s, count, ok := listpack(s)
	if !ok {
		return nil, false
	}
	read := 0
	for i := lpHeader; i < len(s); read += 2 {
		if len(s)-i >= 2*(1+8+1) { // two of any size
			// What most elements are: 2, 3, 4 or 8 bytes behind their encoding.
			if m := s[i] - lpInt16; m < byte(len(lpSizes)) {
				next := i + lpSizes[m]
				if e := s[next] - lpInt16; e < byte(len(lpSizes)) {
					dst = append(dst, Integer{
						int64(le64(s, i+1)<<lpUnused[m]) >> lpUnused[m],
						int64(le64(s, next+1)<<lpUnused[e]) >> lpUnused[e],
					})
					i = next + lpSizes[e]
					continue
				}
			}
		}
		m, next, ok := lpElement(s, i)
		if !ok || !m.isInt {
			return nil, false
		}
		e, next, ok := lpElement(s, next)
		if !ok || !e.isInt {
			return nil, false
		}
		dst = append(dst, Integer{m.n, e.n})
		i = next
	}
	return dst, read == count || count == lpMany
}

// lpInt16 is the first of four encodings of integers, of which follow how long such elements are, with encoding and
// length, and how many bits are unused of eight bytes.
const lpInt16 = 0xf1

var (
	lpSizes  = [...]int{1 + 2 + 1, 1 + 3 + 1, 1 + 4 + 1, 1 + 8 + 1}
	lpUnused = [...]uint{64 - 16, 64 - 24, 64 - 32, 0}
)

// lpElement reads the element at s[i:] and finds the next.
func lpElement(s string, i int) (e element, next int, ok bool) {
	if i >= len(s) {
		return element{}, 0, false
	}
	b := s[i]
	size, width := 0, 0 // of the text, and of encoding and integer
	switch {
	case b < 0x80:
		e, width = element{n: int64(b), isInt: true}, 1
	case b < 0xc0:
		size, width = int(b&0x3f), 1
	case b < 0xe0:
		width = 2
	case b < 0xf0:
		width = 2
	case b == 0xf0:
		width = 5
	case b == 0xf1:
		width = 3
	case b == 0xf2:
		width = 4
	case b == 0xf3:
		width = 5
	case b == 0xf4:
		width = 9
	default:
		return element{}, 0, false
	}
	if width > len(s)-i {
		return element{}, 0, false
	}
	switch {
	case b < 0xc0:
	case b < 0xe0:
		e = element{n: int64(int16(uint16(b)<<11|uint16(s[i+1])<<3) >> 3), isInt: true}
	case b < 0xf0:
		size = int(b&0x0f)<<8 | int(s[i+1])
	case b == 0xf0:
		n := le32(s, i+1)
		if uint64(n) > uint64(len(s)) {
			return element{}, 0, false
		}
		size = int(n)
	case b == 0xf1:
		e = element{n: int64(int16(le16(s, i+1))), isInt: true}
	case b == 0xf2:
		e = element{n: int24(le24(s, i+1)), isInt: true}
	case b == 0xf3:
		e = element{n: int64(int32(le32(s, i+1))), isInt: true}
	case b == 0xf4:
		e = element{n: int64(le64(s, i+1)), isInt: true}
	}
	end := i + width + size
	next = end + lpBackLen(width+size)
	if next > len(s) {
		return element{}, 0, false
	}
	if !e.isInt {
		e.text = s[i+width : end]
	}
	return e, next, true
}

// lpBackLen is in how many bytes the length of an element is written behind it.
func lpBackLen(n int) int {
	switch {
	case n <= 127:
		return 1
	case n < 1<<14-1:
		return 2
	case n < 1<<21-1:
		return 3
	case n < 1<<28-1:
		return 4
	}
	return 5
}
