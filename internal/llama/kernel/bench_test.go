package kernel

import (
	"fmt"
	"testing"
)

// everyVersionBench runs a benchmark with each version that this machine has.
func everyVersionBench(b *testing.B, bench func(b *testing.B)) {
	before := active
	defer func() { active = before }()
	for v := fastest(); v >= generic; v-- {
		active = v
		b.Run(v.String(), bench)
	}
}

func filled(rows, cols, stride int) Matrix {
	m := Matrix{Data: make([]float32, rows*stride), Rows: rows, Cols: cols, Stride: stride}
	for i := range m.Data {
		m.Data[i] = float32(i%17) / 16
	}
	return m
}

func BenchmarkProducts(b *testing.B) {
	for _, s := range []struct {
		name    string
		way     int // index in ways
		m, k, n int
		ldb     int // stride of B beside n
	}{
		{"packed", 2, 900, 64, 64, 0},
		{"packed", 2, 900, 64, 128, 0},
		{"packed", 2, 900, 64, 192, 0},
		{"packed", 2, 900, 192, 64, 0},
		{"scores", 0, 64, 32, 900, 0},
		{"scores", 0, 128, 16, 512, 0},
		{"mixed", 0, 64, 900, 32, 64},
		{"mixed", 0, 64, 900, 16, 192},
		{"transA", 1, 64, 900, 128, 0},
		{"transA", 1, 128, 900, 64, 0},
		{"transA", 1, 900, 64, 32, 64},
		{"packed", 2, 600, 576, 576, 0},
		{"packed", 2, 600, 576, 1536, 0},
		{"packed", 2, 600, 1536, 576, 0},
		{"transA", 1, 576, 600, 1536, 0},
		{"lora", 2, 600, 576, 8, 0},
		{"lora", 2, 600, 8, 576, 0},
		{"packed", 2, 1, 576, 49152, 0},
		{"packed", 2, 2, 576, 49152, 0},
		{"packed", 2, 4, 576, 49152, 0},
	} {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", s.name, s.m, s.k, s.n), func(b *testing.B) {
			everyVersionBench(b, func(b *testing.B) {
				if active == generic && s.m*s.k*s.n > 1<<27 {
					b.Skip("takes too long")
				}
				c, a, w := filled(s.m, s.n, s.n), filled(s.m, s.k, s.k), filled(s.k, s.n, max(s.n, s.ldb))
				at := transposed(a)
				packed := Pack(transposed(w))
				b.ResetTimer()
				for range b.N {
					switch s.way {
					case 0:
						Mul(c, a, w, false)
					case 1:
						MulTransA(c, at, w, true)
					case 2:
						MulPacked(c, a, packed, false)
					}
				}
				flops := 2 * float64(s.m) * float64(s.n) * float64(s.k) * float64(b.N)
				b.ReportMetric(flops/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}
