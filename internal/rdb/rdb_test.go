package rdb

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestChecksumIsRedis(t *testing.T) {
	if got := checksum("123456789"); got != 0xe9c6d914c4b8d9ca { // the check value in Redis' source
		t.Errorf("checksum is %x", got)
	}
}

func TestFlippedBitIsFound(t *testing.T) {
	for name, encode := range encodings {
		payload := encode(numbered(7, 5, "user-%d"))
		for bit := range 8 * len(payload) {
			b := []byte(payload)
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := new(Decoder).SortedSet(nil, string(b)); !errors.Is(err, ErrChecksum) {
				t.Fatalf("%s with bit %d flipped gives %v, want ErrChecksum", name, bit, err)
			}
		}
	}
}

func TestCutPayloadIsFound(t *testing.T) {
	d := Decoder{SkipChecksum: true}
	have := []Entry{{"kept", 1}}
	for name, encode := range encodings {
		payload := encode(numbered(7, 5, "user-%d"))
		body := payload[:len(payload)-footer]
		for n := range len(body) {
			got, err := d.SortedSet(have, body[:n]+payload[len(body):])
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut after %d of %d bytes gives %v, want ErrCorrupt", name, n, len(body), err)
			}
			if !slices.Equal(got, have) {
				t.Fatalf("a failed decoding leaves %s", show(got))
			}
		}
		if _, err := d.SortedSet(nil, body+"x"+payload[len(body):]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte too much gives %v, want ErrCorrupt", name, err)
		}
	}
}

func TestOtherTypesAreRefused(t *testing.T) {
	for typ := range 256 {
		switch typ {
		case typeZset, typeZset2, typeZsetZiplist, typeZsetListpack:
			continue
		}
		if _, err := new(Decoder).SortedSet(nil, dumped([]byte{byte(typ), 0})); !errors.Is(err, ErrType) {
			t.Errorf("type %d gives %v, want ErrType", typ, err)
		}
	}
}

func TestNaNIsRefused(t *testing.T) {
	nan := []Entry{{"m", math.NaN()}}
	for name, payload := range map[string]string{
		"binary":   encodings["binary"](nan),
		"listpack": encodings["listpack"](nan),
		"text":     dumped([]byte{typeZset, 1, 1, 'm', textNaN}),
	} {
		if got, err := new(Decoder).SortedSet(nil, payload); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s gives %v, %v, want ErrCorrupt", name, got, err)
		}
	}
}

// TestLyingLengthsTakeNoMemory has payloads of a few bytes that announce gigabytes.
func TestLyingLengthsTakeNoMemory(t *testing.T) {
	huge := "\x81\x00\x00\x00\x7f\xff\xff\xff\xff"
	for name, body := range map[string]string{
		"a skip list":          "\x05" + huge,
		"a string":             "\x11" + huge,
		"a member":             "\x05\x01" + huge,
		"a compressed string":  "\x11\xc3\x04" + huge + "\x20\x00\x20\x00",
		"a compressed input":   "\x11\xc3" + huge + "\x04",
		"a listpack":           "\x11\x07\xff\xff\xff\x7f\x02\x00\xff",
		"a listpack's member":  "\x11\x0d\x0d\x00\x00\x00\x02\x00\xf0\xff\xff\xff\x7f\x01\xff",
		"a ziplist's member":   "\x0c\x11\x11\x00\x00\x00\x0a\x00\x00\x00\x02\x00\x00\x80\x7f\xff\xff\xff\xff",
		"a small string":       "\x11\xc3\x04\x80\x03\xc0\x00\x00\x20\x00\x20\x00",
		"a short member":       "\x11\x0c\x0c\x00\x00\x00\x02\x00\xbfx\x02\x01\x01\xff",
		"a score's back link":  "\x11\x0a\x0a\x00\x00\x00\x02\x00\x01\x01\x02\xff",
		"a listpack's count":   "\x11\x0b\x0b\x00\x00\x00\x04\x00\x01\x01\x02\x01\xff",
		"a ziplist's count":    "\x0c\x0f\x0f\x00\x00\x00\x0c\x00\x00\x00\x04\x00\x00\xf2\x02\xf3\xff",
		"LZF before its start": "\x11\xc3\x02\x09\x20\x05",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := new(Decoder).SortedSet(nil, dumped([]byte(body)))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s gives %s, %v, want ErrCorrupt", name, show(got), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s takes %d bytes", name, n)
		}
	}
}

func TestEarlierTextsStay(t *testing.T) {
	var d Decoder
	var all []Entry
	var want []Entry
	for i := range 200 { // several chunks of numbers
		set := numbered(1_000_000*i, 100, "%d")
		want = append(want, set...)
		var err error
		if all, err = d.SortedSet(all, encodings[[]string{"listpack", "compressed"}[i%2]](set)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(all, want) {
		t.Error("members decoded before have changed")
	}
}

func TestDecodingAllocatesByTheChunk(t *testing.T) {
	for _, format := range []string{"%d", "user-%d"} {
		payload := encodings["listpack"](numbered(0, 128, format))
		var d Decoder
		dst := make([]Entry, 0, 128)
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if dst, err = d.SortedSet(dst[:0], payload); err != nil {
				t.Fatal(err)
			}
		}); n >= 1 {
			t.Errorf("%s: %v allocations for a set, want less than one", format, n)
		}
	}
}

// TestCompressedTextRefersToItselfOnly has a reference that reaches into a text decoded before, of somebody else's list.
func TestCompressedTextRefersToItselfOnly(t *testing.T) {
	var d Decoder
	if _, err := d.SortedSet(nil, encodings["compressed"](numbered(0, 20, "secret-%d"))); err != nil {
		t.Fatal(err)
	}
	if s, ok := d.inflate("\x20\x05", 3); ok {
		t.Errorf("a reference to before the start reads %q", s)
	}
}

// TestIntegersAreTheSet: whatever the sizes of the integers, and wherever they stand in the payload.
func TestIntegersAreTheSet(t *testing.T) {
	var edges []int64
	for _, bits := range []int{0, 6, 7, 12, 13, 15, 16, 23, 24, 31, 32, 52} {
		edges = append(edges, 1<<bits-1, 1<<bits, -1<<bits, -1<<bits-1)
	}
	d := Decoder{SkipChecksum: true}
	for _, member := range edges {
		for _, score := range edges {
			for n := 1; n < 4; n++ {
				entries := slices.Repeat([]Entry{{strconv.FormatInt(member, 10), float64(score)}}, n)
				got, ok := d.Integers(nil, encodings["listpack"](entries))
				if want := slices.Repeat([]Integer{{member, score}}, n); !ok || !slices.Equal(got, want) {
					t.Fatalf("%s reads as %v, %v; want %v", show(entries), got, ok, want)
				}
			}
		}
	}
	kept := []Integer{{7, 7}}
	for name, encode := range encodings {
		for _, entries := range [][]Entry{{{"1", 1}, {"text", 2}}, {{"1", 1}, {"2", 2.5}}, {{"007", 1}}} {
			if got, ok := d.Integers(kept, encode(entries)); ok || !slices.Equal(got, kept) {
				t.Errorf("%s of %s reads as %v, %v; want none", name, show(entries), got, ok)
			}
		}
	}
	flipped := []byte(encodings["listpack"](numbered(0, 3, "%d")))
	flipped[9] ^= 1
	if got, ok := new(Decoder).Integers(nil, string(flipped)); ok {
		t.Errorf("a flipped bit reads as %v", got)
	}
}

// sameIntegers compares what is read as integers, if it is, with what was decoded of the payload, if it was.
func sameIntegers(t *testing.T, payload string, entries []Entry, err error) {
	d := Decoder{SkipChecksum: true}
	set, ok := d.Integers(nil, payload)
	if !ok {
		return
	}
	same := func(i Integer, e Entry) bool {
		return strconv.FormatInt(i.Member, 10) == e.Member && float64(i.Score) == e.Score
	}
	if err != nil || !slices.EqualFunc(set, entries, same) {
		t.Fatalf("integers are %v, the set is %s, %v", set, show(entries), err)
	}
}

// FuzzSortedSet takes any bytes as a payload. What is decoded must survive being encoded and decoded again.
func FuzzSortedSet(f *testing.F) {
	files, err := filepath.Glob("testdata/*.dump")
	if err != nil || len(files) == 0 {
		f.Fatal("no recorded dumps: ", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, encode := range encodings {
		f.Add([]byte(encode(numbered(0, 3, "%d"))))
		f.Add([]byte(encode([]Entry{{strings.Repeat("long ", 900), 1.5}, {"-7", math.Inf(1)}})))
	}
	f.Add([]byte(dumped([]byte("\x11\xc3\x0b\x13\x01\x13\x00\x60\x00\x02\x01\x02\x03\x20\x00\x01\xff\xff"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload := string(b)
		d := Decoder{SkipChecksum: true}
		entries, err := d.SortedSet(nil, payload)
		sameIntegers(t, payload, entries, err)
		if err != nil {
			if len(entries) != 0 {
				t.Fatalf("%d entries and %v", len(entries), err)
			}
			return
		}
		if size := len(payload) * lzfRatio; len(entries) > size {
			t.Fatalf("%d entries of %d bytes", len(entries), len(payload))
		}
		for name, encode := range encodings {
			again, err := new(Decoder).SortedSet(nil, encode(entries))
			if err != nil || !slices.Equal(again, entries) {
				t.Fatalf("%s: %s became %s, %v", name, show(entries), show(again), err)
			}
		}
	})
}

func BenchmarkSortedSet(b *testing.B) {
	for _, members := range []string{"%d", "user-%d"} {
		payload := encodings["listpack"](numbered(0, 128, members))
		for _, skip := range []bool{false, true} {
			b.Run(fmt.Sprintf("members=%s/checksum=%v", members, !skip), func(b *testing.B) {
				d := Decoder{SkipChecksum: skip}
				var dst []Entry
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if dst, err = d.SortedSet(dst[:0], payload); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
