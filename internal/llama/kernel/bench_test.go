package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
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

// filled is a matrix of numbers that are neither 0 nor denormal.
func filled(rows, cols, stride int) Matrix {
	m := Matrix{Data: make([]float32, rows*stride), Rows: rows, Cols: cols, Stride: stride}
	for i := range m.Data {
		m.Data[i] = float32(i%17+1) / 16
	}
	return m
}

// quickest runs op b.N times, each beside the same time of limit, and returns the shortest time of either: what they
// take when nothing else has the core.
func quickest(b *testing.B, op, limit func()) (opTime, limitTime time.Duration) {
	b.ReportMetric(0, "ns/op")
	opTime, limitTime = time.Hour, time.Hour
	for range b.N {
		start := time.Now()
		op()
		middle := time.Now()
		limit()
		opTime, limitTime = min(opTime, middle.Sub(start)), min(limitTime, time.Since(middle))
	}
	return opTime, limitTime
}

// Products are compared with the core's peak: a loop of multiply-adds in the same run.
func BenchmarkProducts(b *testing.B) {
	mul := func(c, a, at, w Matrix, _ *Packed) { Mul(c, a, w, false) }
	transA := func(c, a, at, w Matrix, _ *Packed) { MulTransA(c, at, w, true) }
	packed := func(c, a, at, w Matrix, p *Packed) { MulPacked(c, a, p, false) }
	for _, s := range []struct {
		name    string
		run     func(c, a, at, w Matrix, p *Packed)
		m, k, n int
		stride  int // of B, where it is more than n
	}{
		{"packed", packed, 900, 64, 64, 0},
		{"packed", packed, 900, 64, 128, 0},
		{"packed", packed, 900, 64, 192, 0},
		{"packed", packed, 900, 192, 64, 0},
		{"scores", mul, 64, 32, 900, 0},
		{"scores", mul, 64, 32, 896, 0},
		{"scores", mul, 128, 16, 512, 1024},
		{"mixed", mul, 64, 900, 32, 64},
		{"mixed", mul, 64, 900, 16, 192},
		{"plain", mul, 900, 192, 64, 0},
		{"transA", transA, 64, 900, 128, 0},
		{"transA", transA, 128, 900, 64, 0},
		{"transA", transA, 900, 64, 32, 64},
		{"packed", packed, 600, 576, 576, 0},
		{"packed", packed, 600, 576, 1536, 0},
		{"packed", packed, 600, 1536, 576, 0},
		{"plain", mul, 600, 576, 1536, 0},
		{"transA", transA, 576, 600, 1536, 0},
		{"lora", packed, 600, 576, 8, 0},
		{"lora", packed, 600, 8, 576, 0},
		{"loraA", transA, 8, 600, 576, 0},
		{"loraB", transA, 576, 600, 8, 0},
		{"scores", mul, 1, 64, 600, 1024},
		{"mixed", mul, 1, 600, 64, 192},
	} {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", s.name, s.m, s.k, s.n), func(b *testing.B) {
			everyVersionBench(b, func(b *testing.B) {
				c, a, w := filled(s.m, s.n, s.n), filled(s.m, s.k, s.k), filled(s.k, s.n, max(s.n, s.stride))
				at, p := transposed(a), Pack(transposed(w))
				var peakFlops float64
				b.ResetTimer()
				took, peakTook := quickest(b, func() { s.run(c, a, at, w, p) }, func() { peakFlops = FMALoop(10000) })
				rate := 2 * float64(s.m) * float64(s.n) * float64(s.k) / took.Seconds()
				b.ReportMetric(rate/1e9, "GFLOP/s")
				b.ReportMetric(rate/peakFlops*peakTook.Seconds(), "of-peak")
			})
		})
	}
}

// A product with few rows reads its weights once for all of them: it is compared with merely reading the same memory.
func BenchmarkFewRows(b *testing.B) {
	for _, s := range []struct{ m, k, n int }{{1, 576, 49152}, {2, 576, 49152}, {3, 576, 49152}, {4, 576, 49152}, {1, 576, 1536}, {1, 1536, 576}, {4, 576, 1536}, {1, 576, 576}} {
		b.Run(fmt.Sprintf("%dx%dx%d", s.m, s.k, s.n), func(b *testing.B) {
			everyVersionBench(b, func(b *testing.B) {
				c, a, p := filled(s.m, s.n, s.n), filled(s.m, s.k, s.k), Pack(filled(s.n, s.k, s.k))
				b.ResetTimer()
				took, readTook := quickest(b, func() { MulPacked(c, a, p, false) }, func() { Max(p.data) })
				b.ReportMetric(float64(4*len(p.data))/took.Seconds()/1e9, "GB/s")
				b.ReportMetric(readTook.Seconds()/took.Seconds(), "of-reading")
			})
		})
	}
}

// A product with codes is compared with that of the numbers they stand for.
func BenchmarkOneRowOfCodes(b *testing.B) {
	for _, s := range []struct{ k, n int }{{576, 1536}, {1536, 576}, {576, 49152}} {
		for _, bits := range []int{4, 8} {
			b.Run(fmt.Sprintf("%dx%d/%d bits", s.k, s.n, bits), func(b *testing.B) {
				codes, w := randomCodes(rand.New(rand.NewPCG(1, 2)), s.n, s.k, bits, 32)
				c, a, p, coded := filled(1, s.n, s.n), filled(1, s.k, s.k), Pack(w), PackCodes(codes)
				b.ResetTimer()
				took, numbersTook := quickest(b, func() { MulPacked(c, a, coded, false) }, func() { MulPacked(c, a, p, false) })
				b.ReportMetric(float64(s.k*s.n)/took.Seconds()/1e9, "G/s")
				b.ReportMetric(float64(len(coded.coded.codes)+4*len(coded.coded.scales))/took.Seconds()/1e9, "GB/s")
				b.ReportMetric(numbersTook.Seconds()/took.Seconds(), "x-numbers")
			})
		}
	}
}

// Moving is compared with copying the same numbers.
func BenchmarkMoving(b *testing.B) {
	for _, s := range []struct {
		name       string
		rows, cols int
		run        func(dst, src Matrix, p *Packed)
	}{
		{"Transpose", 900, 32, func(dst, src Matrix, _ *Packed) { Transpose(dst, src) }},
		{"Repack", 192, 64, func(_, src Matrix, p *Packed) { p.Repack(src) }},
	} {
		b.Run(s.name, func(b *testing.B) {
			everyVersionBench(b, func(b *testing.B) {
				src := filled(s.rows, s.cols, 64)
				dst, p := filled(s.cols, s.rows, s.rows), Pack(src)
				b.ResetTimer()
				took, copyTook := quickest(b, func() { s.run(dst, src, p) }, func() { copy(dst.Data, src.Data) })
				b.ReportMetric(took.Seconds()*1e9/float64(s.rows*s.cols), "ns/element")
				b.ReportMetric(copyTook.Seconds()/took.Seconds(), "of-copying")
			})
		})
	}
}

// The functions on slices, for a row that stays in the first-level cache.
func BenchmarkElementwise(b *testing.B) {
	for _, f := range elementwises {
		b.Run(f.name, func(b *testing.B) {
			everyVersionBench(b, func(b *testing.B) {
				const n = 576
				s := make([][]float32, f.slices)
				for i := range s {
					s[i] = filled(1, n, n).Data
				}
				took, _ := quickest(b, func() {
					for range 10 {
						copy(s[0], s[f.slices-1]) // else the results of ExpSum grow without limit
						f.run(s, 1, 1)
					}
				}, func() {})
				b.ReportMetric(took.Seconds()*1e9/(10*n), "ns/element")
			})
		})
	}
}
