package power

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

// Sizes of the picture, in pixels.
const (
	plotWidth  = 560 // of the axes
	plotHeight = 260
	plotLeft   = 70
	plotRight  = 150 // of the lines' names
	plotTop    = 66
	plotBottom = 60
)

// plotStyle gives the colours, for light and dark surroundings; lines take theirs in turn.
const plotStyle = `
    .paper{fill:#ffffff} text{fill:#1f2328;font:13px system-ui,sans-serif} .faint{fill:#59636e}
    .title{font-weight:600;font-size:15px} .grid{stroke:#d8dee4} .axis{stroke:#59636e} .mark{stroke:#59636e;stroke-dasharray:4 4}
    .line{fill:none;stroke-width:3} .l0 .line{stroke:#6e7781} .l0 .dot{fill:#6e7781} .l1 .line{stroke:#bf8700} .l1 .dot{fill:#bf8700}
    .l2 .line{stroke:#0969da} .l2 .dot{fill:#0969da} .l3 .line{stroke:#8250df} .l3 .dot{fill:#8250df}
    @media (prefers-color-scheme:dark){
      .paper{fill:#0d1117} text{fill:#e6edf3} .faint{fill:#9198a1} .grid{stroke:#30363d} .axis{stroke:#9198a1} .mark{stroke:#9198a1}
      .l0 .line{stroke:#9198a1} .l0 .dot{fill:#9198a1} .l1 .line{stroke:#d29922} .l1 .dot{fill:#d29922}
      .l2 .line{stroke:#58a6ff} .l2 .dot{fill:#58a6ff} .l3 .line{stroke:#bc8cff} .l3 .dot{fill:#bc8cff}
    }`

// WritePlot writes a picture of the result, one SVG that needs nothing else: the share of gates that promote against the
// decisions they were given, one line an improvement, and how many are needed.
func (r *Result) WritePlot(w io.Writer) error {
	points := r.Policies[0].Points
	low, high := math.Log(float64(points[0].Decisions)), math.Log(float64(points[len(points)-1].Decisions))
	if high == low {
		high++
	}
	x := func(n int) float64 { return plotLeft + plotWidth*(math.Log(float64(n))-low)/(high-low) }
	y := func(share float64) float64 { return plotTop + plotHeight*(1-share) }
	width, height := plotLeft+plotWidth+plotRight, plotTop+plotHeight+plotBottom
	gates := points[0].Promoted + points[0].Refused + points[0].Underpowered

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "  <title id=\"title\">Share of gates that promote, by the decisions they are given</title>\n  <desc id=\"desc\">%s</desc>\n  <style>%s\n  </style>\n", r.plotText(), plotStyle)
	fmt.Fprintf(&b, "  <rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", width, height)
	fmt.Fprintf(&b, "  <text class=\"title\" x=\"16\" y=\"26\">How many decisions a gate needs: share of gates that promote</text>\n")
	fmt.Fprintf(&b, "  <text class=\"faint\" x=\"16\" y=\"46\">%d gates a point; one line a true improvement, in reward a decision</text>\n", gates)
	for i := range 5 {
		share := float64(i) / 4
		fmt.Fprintf(&b, "  <line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plotLeft, plotLeft+plotWidth, y(share), y(share))
		fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n", plotLeft-10, y(share)+5, share)
	}
	last := math.Inf(-1)
	for _, p := range points {
		if at := x(p.Decisions); at-last >= 44 { // numbers do not touch
			fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", at, plotTop+plotHeight+18, p.Decisions)
			last = at
		}
	}
	fmt.Fprintf(&b, "  <line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plotLeft, plotLeft+plotWidth, y(0), y(0))
	fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">decisions, each doubling equally far</text>\n", plotLeft+plotWidth/2, height-16)
	if at := x(r.Needed); r.Needed > 0 && at > plotLeft && at < plotLeft+plotWidth {
		fmt.Fprintf(&b, "  <line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", at, at, y(1), y(0))
		fmt.Fprintf(&b, "  <text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d needed</text>\n", at, y(1)-5, r.Needed)
	}
	fmt.Fprintf(&b, "  <line class=\"mark\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plotLeft, plotLeft+plotWidth, y(r.Alpha), y(r.Alpha))
	for i, p := range r.Policies {
		fmt.Fprintf(&b, "  <g class=\"l%d\">\n    <polyline class=\"line\" points=\"", i%4)
		for _, q := range p.Points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(q.Decisions), y(q.Share()))
		}
		fmt.Fprint(&b, "\"/>\n")
		for _, q := range p.Points {
			fmt.Fprintf(&b, "    <circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%d decisions: %d of %d promote, %d are underpowered</title></circle>\n",
				x(q.Decisions), y(q.Share()), q.Decisions, q.Promoted, gates, q.Underpowered)
		}
		name := plotTop + 12 + 24*i
		fmt.Fprintf(&b, "    <circle class=\"dot\" cx=\"%d\" cy=\"%d\" r=\"5\"/>\n", plotLeft+plotWidth+22, name)
		fmt.Fprintf(&b, "    <text x=\"%d\" y=\"%d\">better by %s</text>\n  </g>\n", plotLeft+plotWidth+34, name+5, reward(p.Improvement))
	}
	fmt.Fprintln(&b, "</svg>")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// plotText says what the picture shows, for those who cannot see it.
func (r *Result) plotText() string {
	var b bytes.Buffer
	for i, p := range r.Policies {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "better by %s:", reward(p.Improvement))
		for _, q := range p.Points {
			fmt.Fprintf(&b, " %.3f of %d", q.Share(), q.Decisions)
		}
	}
	return b.String()
}

// reward shows three digits, and 0 as such.
func reward(v float64) string { return fmt.Sprintf("%.3g", math.Round(v*1e5)/1e5+0) } // -0 + 0 is 0
