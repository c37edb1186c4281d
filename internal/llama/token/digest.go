package token

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
)

// digest writes every field with its length before it, so that no two vocabularies write the same bytes.
func digest(v Vocabulary) string {
	h := sha256.New()
	// Another way to encode with the same vocabulary needs another first line.
	io.WriteString(h, "r2rec token 1\n")
	writeStrings(h, []string{v.Model, v.Pre})
	writeStrings(h, v.Tokens)
	for _, t := range v.Types {
		writeInt(h, int(t))
	}
	writeStrings(h, v.Merges)
	for _, s := range v.specialIDs() {
		writeInt(h, *s.id)
	}
	for _, flag := range []bool{v.AddBOS, v.AddEOS} {
		if flag {
			writeInt(h, 1)
		} else {
			writeInt(h, 0)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeStrings(h hash.Hash, list []string) {
	writeInt(h, len(list))
	for _, s := range list {
		writeInt(h, len(s))
		io.WriteString(h, s)
	}
}

func writeInt(h hash.Hash, n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
