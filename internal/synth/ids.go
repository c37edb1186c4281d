package synth

import (
	"fmt"
	"strconv"
)

// IDs says how the ids of users and items look.
type IDs string

// Numbers counts from 1, Short ids have 12 letters and digits, UUIDs 36 characters.
const (
	Numbers IDs = "number"
	Short   IDs = "short"
	UUIDs   IDs = "uuid"
)

func (k IDs) validate() error {
	switch k {
	case Numbers, Short, UUIDs:
		return nil
	}
	return fmt.Errorf("synth: IDs is %q, must be %q, %q or %q", string(k), Numbers, Short, UUIDs)
}

// scatter is odd, so that a product with it, cut to any number of low bits, tells all numbers of as many bits apart.
const scatter = 0x9e3779b97f4a7c15

const letters = "0123456789abcdefghjkmnpqrstvwxyz"

func (k IDs) of(i uint64) string {
	switch k {
	case Short:
		var b [12]byte
		for x, n := (i+1)*scatter, 0; n < len(b); n++ {
			b[n] = letters[x&31]
			x >>= 5
		}
		return string(b[:])
	case UUIDs: // version 4; the last 48 bits tell the ids apart
		x := (i + 1) * scatter
		y := x ^ x>>29
		return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(y>>32), uint16(y>>16), y&0xfff, 0x8000|x>>50&0x3fff, x&(1<<48-1))
	default:
		return strconv.FormatUint(i+1, 10)
	}
}
