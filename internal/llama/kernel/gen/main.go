// Command gen writes the assembly of package kernel for AVX2 and AVX-512, and the Go declarations of it.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
	ConstraintExpr("amd64")
	for _, v := range []vector{avx2, avx512} {
		product(v)
		elementwise(v)
		exponential(v)
		peak(v)
	}
	codes(avx2)
	Generate()
}
