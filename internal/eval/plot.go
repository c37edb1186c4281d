package eval

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/r2rec/r2rec/internal/chart"
)

// Sizes of the picture, in pixels.
const (
	plotWidth  = 460 // of the axis
	plotRight  = 70  // of the values' column
	plotTop    = 62
	plotRow    = 26
	plotBottom = 56
	plotName   = 30 // most characters of a name; the whole of it is its tooltip
	plotRune   = 8  // a wide letter of a name
)

// WritePlot writes a picture of the report, one SVG that needs nothing else: HR@1 of each ranker as a dot on its interval,
// the best first, the main ranker marked.
func (r *Report) WritePlot(w io.Writer) error {
	rows := slices.Clone(r.All)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(b.HR1, a.HR1) })
	low, high, tick := plotRange(rows)
	left := 100 // of the axis
	for _, row := range rows {
		left = max(left, 30+plotRune*utf8.RuneCountInString(row.label(plotName)))
	}
	x := func(v float64) float64 { return float64(left) + plotWidth*(v-low)/(high-low) }
	width, bottom := left+plotWidth+plotRight, plotTop+plotRow*len(rows)
	height := bottom + plotBottom

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "  <title id=\"title\">HR@1 with 95 %% intervals</title>\n  <desc id=\"desc\">%s</desc>\n  <style>%s\n  </style>\n",
		plotText(rows), chart.Style)
	fmt.Fprintf(&b, "  <rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", width, height)
	fmt.Fprintf(&b, "  <text class=\"title\" x=\"16\" y=\"26\">The right one first: HR@1 with 95 %% intervals</text>\n")
	fmt.Fprintf(&b, "  <text class=\"faint\" x=\"16\" y=\"46\">%d cases of %d users; intervals by resampling users</text>\n", r.All[0].N, r.Users)
	for i := 0; ; i++ {
		v := low + float64(i)*tick
		if v > high+tick/2 {
			break
		}
		fmt.Fprintf(&b, "  <line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x(v), x(v), plotTop, bottom)
		fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.2f</text>\n", x(v), bottom+18, v)
	}
	fmt.Fprintf(&b, "  <line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", left, left+plotWidth, bottom, bottom)
	fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">HR@1: share of cases whose answer stands first</text>\n",
		left+plotWidth/2, bottom+42)
	for i, row := range rows {
		y := plotTop + plotRow*i + plotRow/2
		class, name := "row", chart.Escape(row.label(plotName))
		if row.Lead == nil {
			class = "row main"
		}
		fmt.Fprintf(&b, "  <g class=\"%s\">\n    <title>%s</title>\n", class, chart.Escape(row.label(200)))
		if row.Lead == nil {
			fmt.Fprintf(&b, "    <rect class=\"band\" x=\"8\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\"/>\n", y-plotRow/2, width-16, plotRow)
		}
		fmt.Fprintf(&b, "    <text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left-14, y+5, name)
		if !math.IsNaN(row.Interval.Low) {
			fmt.Fprintf(&b, "    <line class=\"whisker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x(row.Interval.Low), x(row.Interval.High), y, y)
		}
		fmt.Fprintf(&b, "    <circle class=\"dot\" cx=\"%.1f\" cy=\"%d\" r=\"5\"/>\n", x(row.HR1), y)
		fmt.Fprintf(&b, "    <text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n  </g>\n", width-16, y+5, share(row.HR1))
	}
	fmt.Fprintln(&b, "</svg>")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// plotRange gives the ends of the axis, which are shares and whole ticks, and the distance of its ticks.
func plotRange(rows []Row) (low, high, tick float64) {
	low, high = 1, 0
	for _, row := range rows {
		for _, v := range []float64{row.Interval.Low, row.HR1, row.Interval.High} {
			if !math.IsNaN(v) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	tick = 0.1
	if high-low < 0.3 {
		tick = 0.05
	}
	// Rounded, for a bound that lies on a tick must not be taken for one beside it.
	low = max(0, tick*math.Floor(low/tick+1e-9))
	high = min(1, tick*math.Ceil(high/tick-1e-9))
	if high-low < tick {
		low, high = max(0, low-tick), min(1, high+tick)
	}
	return low, high, tick
}

// label is the name of the row's ranker, at most so many characters of it, and that it was taught answers.
func (r Row) label(most int) string {
	name := printable(r.Name, most)
	if r.Taught > 0 {
		name += leakyMark
	}
	return name
}

// plotText says what the picture shows, for those who cannot see it.
func plotText(rows []Row) string {
	text := ""
	for i, row := range rows {
		if i > 0 {
			text += "; "
		}
		text += row.label(200) + " " + share(row.HR1)
		if !math.IsNaN(row.Interval.Low) {
			text += " (" + bounds(row.Interval, share) + ")"
		}
	}
	return chart.Escape(text)
}
