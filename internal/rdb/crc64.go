package rdb

// jones is the polynomial of Redis' CRC-64 with its bits reversed (Jones, "Coding theory applied to DNA"): no initial
// and no final inversion. The standard library's hash/crc64 takes eight bytes at a time for two other polynomials only.
const jones = 0x95ac9329ac4bc9b5

// crcTables[k][b] is the checksum of the byte b followed by k zero bytes.
var crcTables = func() (t [8][256]uint64) {
	for b := range 256 {
		crc := uint64(b)
		for range 8 {
			crc = crc>>1 ^ crc&1*jones
		}
		t[0][b] = crc
	}
	for k := 1; k < 8; k++ {
		for b := range 256 {
			crc := t[k-1][b]
			t[k][b] = crc>>8 ^ t[0][byte(crc)]
		}
	}
	return t
}()

// checksum takes eight bytes at a time ("slicing by 8").
func checksum(s string) uint64 {
	var crc uint64
	t := &crcTables
	for len(s) >= 8 {
		crc ^= le64(s, 0)
		crc = t[7][byte(crc)] ^ t[6][byte(crc>>8)] ^ t[5][byte(crc>>16)] ^ t[4][byte(crc>>24)] ^
			t[3][byte(crc>>32)] ^ t[2][byte(crc>>40)] ^ t[1][byte(crc>>48)] ^ t[0][crc>>56]
		s = s[8:]
	}
	for i := range len(s) {
		crc = crc>>8 ^ t[0][byte(crc)^s[i]]
	}
	return crc
}
