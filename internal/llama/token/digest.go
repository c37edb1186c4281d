package token

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"math"
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
		writeBool(h, flag)
	}
	if v.Model == modelPieces {
		for _, s := range v.Scores {
			writeInt(h, int(math.Float32bits(s)))
		}
		writeBool(h, v.SpacePrefix)
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

func writeBool(h hash.Hash, b bool) {
	if b {
		writeInt(h, 1)
	} else {
		writeInt(h, 0)
	}
}

func writeInt(h hash.Hash, n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
