package kernel

// version is an instruction set for which the kernels exist.
type version int

const (
	generic version = iota // plain Go
	avx2                   // AVX2 and FMA
	avx512                 // AVX-512 F, DQ, BW and VL
)

func (v version) String() string { return [...]string{"generic", "avx2", "avx512"}[v] }

// active is the version that runs, the fastest of the machine. Only tests and benchmarks set it otherwise.
var active = fastest()

// Version names the instruction set in use: generic, avx2 or avx512.
func Version() string { return active.String() }
