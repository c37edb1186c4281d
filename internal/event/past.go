package event

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"regexp"
)

// Past is what something was learned from: the events of a data set up to a time. The zero value stands for none, or for
// what does not say.
type Past struct {
	Before Time `json:"before"` // 1 ms after the last of them
	// Digest tells data sets apart: SHA-256 of the ids of these events, in lower-case hexadecimal. What came later does not count,
	// so that it stays as a data set grows.
	Digest string `json:"digest"`
}

// PastOf is that of the events before a time, which come in the order of time. Refused records are left out. It reaches to the
// last event and no further, so that of what a data set has had since, before that time too, it says nothing.
func PastOf(events iter.Seq2[Interaction, error], before Time) (p Past) {
	sum := sha256.New()
	for in, err := range events {
		if err != nil {
			continue
		}
		if in.Timestamp >= before {
			break
		}
		_, _ = io.WriteString(sum, in.EventID+"\n") // a hash takes every write
		p.Before = in.Timestamp + 1
	}
	if p != (Past{}) {
		p.Digest = hex.EncodeToString(sum.Sum(nil))
	}
	return p
}

// Later is the one that reaches further. What has learned from both says it of both: who goes on learning from another data
// set no longer tells what was known of the first, where that ended earlier.
func (p Past) Later(q Past) Past {
	if q.Before > p.Before {
		return q
	}
	return p
}

var pastDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Check tells what is wrong with one that was read from a file.
func (p Past) Check() error {
	switch {
	case p == Past{}:
		return nil
	case p.Before < Earliest || p.Before > Latest:
		return fmt.Errorf("before is %d ms, want %d to %d", int64(p.Before), int64(Earliest), int64(Latest))
	case !pastDigest.MatchString(p.Digest):
		return fmt.Errorf("digest is %.80q, want 64 lower-case hexadecimal digits", p.Digest)
	}
	return nil
}
