package sizing

import (
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/synth"
)

// Size classes as jemalloc(3) lists them.
func TestClasses(t *testing.T) {
	for quantum, want := range map[int]map[int]int{
		16: {1: 8, 8: 8, 9: 16, 17: 32, 24: 32, 128: 128, 129: 160, 256: 256, 257: 320, 2048: 2048, 2049: 2560, 14337: 16384, 16385: 20480},
		8:  {1: 8, 9: 16, 17: 24, 24: 24, 33: 40, 64: 64, 65: 80, 128: 128, 129: 160, 3000: 3072},
	} {
		for n, class := range want {
			if got := (Server{Quantum: quantum}).class(n); got != class {
				t.Errorf("quantum %d: %d bytes take %d, want %d", quantum, n, got, class)
			}
		}
	}
}

// By MEMORY USAGE of Redis 7.0.15 with Debian's jemalloc: the value's part of sorted sets with scores like 14e12.
func TestSortedSetsAsRedisCountsThem(t *testing.T) {
	for _, c := range []struct {
		n    int64
		of   ID
		want float64
	}{
		{1, ID{Bytes: 12}, 16 + 32}, {128, ID{Bytes: 12}, 16 + 3584}, {128, ID{Bytes: 36}, 16 + 7168},
	} {
		if got := (Server{Quantum: 16}).sortedSet(c.n, c.of); got != c.want {
			t.Errorf("%d members of %d bytes take %v, want %v", c.n, c.of.Bytes, got, c.want)
		}
	}
	s := Server{Quantum: 16}
	if compact, table := s.sortedSet(256, ID{Bytes: 12}), s.sortedSet(257, ID{Bytes: 12}); table < 4*compact {
		t.Errorf("257 members take %v, 256 %v: a skip list takes several times the memory", table, compact)
	}
}

func TestNumbersTakeWhatTheirSizeAsksFor(t *testing.T) {
	for most, want := range map[int64]float64{100: 2, 127: 2, 4095: (127*2 + 3968*3) / 4095., 1_000_000: 5} {
		got := ID{Most: most}.element()
		if diff := got - want; diff < -.1 || diff > .1 {
			t.Errorf("numbers up to %d take %v bytes, want %v", most, got, want)
		}
	}
}

func shape() Shape {
	return Shape{Users: 1000, Items: 100, Edges: 20_000, UserID: ID{Bytes: 36}, ItemID: ID{Most: 100}, ByUser: synth.UserLaw, ByItem: synth.ItemLaw,
		Bound: 128, SettledBound: 1000, Settled: .02, Catalogue: 100, TitleBytes: 40, Categories: 2, CategoryBytes: 12, Partitions: 24, Prefix: "r2:"}
}

func TestMoreTakesMore(t *testing.T) {
	base, err := shape().Size(Server{Quantum: 16})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Shape, *Server){
		"edges":           func(s *Shape, _ *Server) { s.Edges *= 2 },
		"users":           func(s *Shape, _ *Server) { s.Users *= 2 },
		"longer ids":      func(s *Shape, _ *Server) { s.ItemID = ID{Bytes: 36} },
		"purchases":       func(s *Shape, _ *Server) { s.Settled *= 2 },
		"latent factors":  func(s *Shape, _ *Server) { s.Factors = 16 },
		"recommendations": func(s *Shape, _ *Server) { s.Recommended, s.DocumentBytes, s.Ranked = 100, 3000, 20 },
		"forgotten users": func(s *Shape, _ *Server) { s.Forgotten = 100 },
		"a cluster":       func(_ *Shape, s *Server) { s.Cluster = true },
	} {
		s, server := shape(), Server{Quantum: 16}
		change(&s, &server)
		if more, err := s.Size(server); err != nil || more.Bytes <= base.Bytes {
			t.Errorf("more %s: %d bytes, %v; without %d", name, more.Bytes, err, base.Bytes)
		}
	}
}

func TestShapesThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(*Shape){
		"Users is 0":   func(s *Shape) { s.Users = 0 },
		"Bound is 129": func(s *Shape) { s.Bound = 129 },
		"ItemID":       func(s *Shape) { s.ItemID = ID{Bytes: 65} },
		"Settled is 2": func(s *Shape) { s.Settled = 2 },
		"Forgotten":    func(s *Shape) { s.Forgotten = -1 },
		"Factors":      func(s *Shape) { s.Factors = -1 },
		"edges do not": func(s *Shape) { s.Edges = 1e6 },
		"an exponent":  func(s *Shape) { s.ByUser.Exponent = 3 },
	} {
		s := shape()
		change(&s)
		if _, err := s.Size(Server{Quantum: 16}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
	for _, server := range []Server{{Quantum: 4}, {Quantum: 8, Compact: -1}, {Quantum: 8, Compact: 255}} {
		if _, err := shape().Size(server); err == nil {
			t.Errorf("%+v is accepted for lists of up to 128 edges", server)
		}
	}
	wide := shape()
	wide.Bound = 129
	if _, err := wide.Size(Server{Quantum: 16, Compact: 258}); err != nil {
		t.Errorf("lists of 129 where 258 stay compact: %v", err)
	}
}
