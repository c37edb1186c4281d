package chart

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

// elements reads a picture as XML, which it has to be: the names of its elements.
func elements(t *testing.T, picture []byte) map[string]int {
	t.Helper()
	found := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatalf("%v in %s", err, picture)
		}
		if e, ok := token.(xml.StartElement); ok {
			found[e.Name.Local]++
		}
	}
}

// A picture is XML whatever it is named and whatever its data are, and hostile names stay text.
func TestPicturesAreXML(t *testing.T) {
	hostile := `</text><script>alert("1")</script>&`
	nan := math.NaN()
	for name, panels := range map[string][]Panel{
		"nothing":     nil,
		"no curve":    {{Title: hostile}},
		"no point":    {{Lines: []Line{{Name: hostile}}}},
		"one point":   {{Lines: []Line{{Name: "a", X: []float64{1}, Y: []float64{7}}}}},
		"constant":    {{Lines: []Line{{Name: "a", X: []float64{1, 2, 3}, Y: []float64{.5, .5, .5}}}}},
		"gaps":        {{Lines: []Line{{Name: "a", X: []float64{1, 2, 3, 4}, Y: []float64{nan, 1, nan, math.Inf(1)}}}}},
		"logarithmic": {{Logarithmic: true, Lines: []Line{{Name: "a", X: []float64{0, 100, 1000}, Y: []float64{0, 1, 2}}}}},
		"two": {{Title: "one", Lines: []Line{{Name: "a", X: []float64{1, 2}, Y: []float64{-1, 1e9}}, {Name: "b", X: []float64{1, 2}, Y: []float64{0, 1e9}}}},
			{Title: "two", Lines: []Line{{Name: "c", X: []float64{1, 2}, Y: []float64{1e-9, 2e-9}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Write(&b, hostile, hostile, panels...); err != nil {
				t.Fatal(err)
			}
			found := elements(t, b.Bytes())
			curves := 0
			for _, p := range panels {
				curves += len(p.Lines)
			}
			if found["script"] != 0 || found["svg"] != 1 || found["path"] != curves {
				t.Errorf("%d scripts, %d pictures, %d curves; want 0, 1, %d", found["script"], found["svg"], found["path"], curves)
			}
			if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
				t.Errorf("a place is no number:\n%s", b.String())
			}
		})
	}
}

// A larger value stands higher, and the axis holds all of them.
func TestLargerIsHigher(t *testing.T) {
	for _, y := range [][]float64{{0, 1}, {-3, 12}, {.4121, .4137}, {1e6, 3e6}} {
		var e = span()
		e.add(y[0])
		e.add(y[1])
		low, high, tick := e.ticks()
		if low > y[0] || high < y[1] || (high-low)/tick > 6 {
			t.Errorf("%v: an axis from %v to %v by %v", y, low, high, tick)
		}
		var b bytes.Buffer
		if err := Write(&b, "", "", Panel{Lines: []Line{{X: []float64{0, 1}, Y: y}}}); err != nil {
			t.Fatal(err)
		}
		_, path, _ := strings.Cut(b.String(), `d="M`)
		path, _, _ = strings.Cut(path, `"`)
		first, second, _ := strings.Cut(path, "L")
		if a, z := strings.Fields(first)[1], strings.Fields(second)[1]; len(a) < len(z) || len(a) == len(z) && a <= z {
			t.Errorf("%v is drawn from height %s to %s", y, a, z)
		}
	}
}
