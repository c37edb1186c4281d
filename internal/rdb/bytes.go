package rdb

// The integers of the format, read at offset i of a string; they panic where it is too short.

func le16(s string, i int) uint16 {
	s = s[i : i+2]
	return uint16(s[0]) | uint16(s[1])<<8
}

func le24(s string, i int) uint32 {
	s = s[i : i+3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16
}

func le32(s string, i int) uint32 {
	s = s[i : i+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func le64(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func be32(s string, i int) uint32 {
	s = s[i : i+4]
	return uint32(s[3]) | uint32(s[2])<<8 | uint32(s[1])<<16 | uint32(s[0])<<24
}

// int24 extends the sign of a 24-bit integer.
func int24(u uint32) int64 { return int64(int32(u<<8) >> 8) }
