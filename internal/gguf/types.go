package gguf

import "fmt"

// Type is the number format of a tensor, with ggml's numbers.
type Type uint32

// The types whose numbers can be read.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2 // blocks of 32: a scale as F16, 4 bits a value
	Q4_1 Type = 3 // blocks of 32: a scale and a minimum as F16, 4 bits a value
	Q5_0 Type = 6 // as Q4_0, 5 bits a value
	Q5_1 Type = 7 // as Q4_1, 5 bits a value
	Q8_0 Type = 8 // blocks of 32: a scale as F16, 8 bits a value

	// Blocks of 256 in groups with a scale each.
	Q2_K Type = 10
	Q3_K Type = 11
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14

	IQ4_NL Type = 20 // blocks of 32: a scale as F16, 4 bits a value that choose one of 16 levels
	IQ4_XS Type = 23 // the same in blocks of 256, in groups with a scale each
	BF16   Type = 30
)

// layout says how a type packs its values: bytes for every block of values.
type layout struct {
	name          string
	values, bytes int
}

// layouts lists all types of ggml that a file may have; ggml.h and ggml-common.h are the source.
var layouts = map[Type]layout{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2}, 28: {"F64", 1, 8},
	24: {"I8", 1, 1}, 25: {"I16", 1, 2}, 26: {"I32", 1, 4}, 27: {"I64", 1, 8},
	Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20}, Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24},
	Q8_0: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 36},
	Q2_K: {"Q2_K", 256, 84}, Q3_K: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176},
	Q6_K: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292},
	16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74}, 22: {"IQ2_S", 256, 82},
	18: {"IQ3_XXS", 256, 98}, 21: {"IQ3_S", 256, 110}, 19: {"IQ1_S", 256, 50}, 29: {"IQ1_M", 256, 56},
	IQ4_NL: {"IQ4_NL", 32, 18}, IQ4_XS: {"IQ4_XS", 256, 136},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36}, 41: {"Q1_0", 128, 18},
}

// String is the name that ggml gives the type.
func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	return fmt.Sprintf("Type(%d)", uint32(t))
}

// Block is the smallest unit that a row of this type consists of: so many values in so many bytes. Both are 0 for a type
// that ggml does not have.
func (t Type) Block() (values, bytes int) {
	l := layouts[t]
	return l.values, l.bytes
}
