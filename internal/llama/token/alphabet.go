package token

// GPT-2's alphabet writes each byte as one printable character: the printable ones of Latin-1 as themselves, the other
// 68 as U+0100 and following, in the order of the bytes. (openai/gpt-2, encoder.py, bytes_to_unicode.)

// character returns what the alphabet writes for a byte.
func character(b byte) rune {
	switch {
	case b <= ' ':
		return 0x100 + rune(b)
	case b >= 0x7F && b <= 0xA0:
		return 0x121 + rune(b-0x7F)
	case b == 0xAD:
		return 0x143
	}
	return rune(b)
}

// byteOf returns the byte that the alphabet writes as this character, if there is one.
func byteOf(r rune) (byte, bool) {
	switch {
	case r >= 0x100 && r <= 0x120:
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142:
		return byte(r-0x121) + 0x7F, true
	case r == 0x143:
		return 0xAD, true
	}
	return byte(r), r > ' ' && r < 0x7F || r > 0xA0 && r <= 0xFF && r != 0xAD
}

// appendBytes appends the bytes that text writes in the alphabet, or reports that it has a character outside it.
func appendBytes(dst []byte, text string) ([]byte, bool) {
	for _, r := range text {
		b, ok := byteOf(r)
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
	}
	return dst, true
}

// written returns how the alphabet writes a piece of text.
func written(piece string) string {
	runes := make([]rune, len(piece))
	for i := range len(piece) {
		runes[i] = character(piece[i])
	}
	return string(runes)
}
