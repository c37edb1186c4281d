package rdb

// Bounds of LZF: three bytes stand for at most 264, and no set that is kept compact is larger than the limit.
const (
	lzfRatio = 88
	lzfLimit = 64 << 20
)

// inflate decompresses an LZF string of a known length. A control byte below 32 is followed by one more literal byte
// than it says; any other refers back: three bits of length, 13 of distance, where a length of 7 takes one more byte.
func (d *Decoder) inflate(s string, size uint64) (string, bool) {
	if size > lzfLimit || size > uint64(len(s))*lzfRatio {
		return "", false
	}
	d.reserve(int(size))
	start := d.text.Len()
	end := start + int(size)
	for i := 0; i < len(s); {
		control := int(s[i])
		i++
		if control < 32 {
			n := control + 1
			if n > len(s)-i || n > end-d.text.Len() {
				return "", false
			}
			d.text.WriteString(s[i : i+n])
			i += n
			continue
		}
		n := control >> 5
		if n == 7 {
			if i == len(s) {
				return "", false
			}
			n += int(s[i])
			i++
		}
		n += 2
		if i == len(s) {
			return "", false
		}
		distance := control&31<<8 + int(s[i]) + 1
		i++
		from := d.text.Len() - distance
		if from < start || n > end-d.text.Len() {
			return "", false
		}
		for n > 0 { // a reference may reach into what it writes
			k := min(n, d.text.Len()-from)
			d.text.WriteString(d.text.String()[from : from+k])
			n -= k
		}
	}
	return d.text.String()[start:], d.text.Len() == end
}
