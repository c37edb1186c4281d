// Package chart draws pictures as SVG that needs nothing else: no script, no font, no file beside it. They fit light and
// dark surroundings, and say in words what they show.
//
// It promises that names and titles, which may come from outside, stay text, and that the same data give the same bytes.
// What stands in a picture, and why, is left to the caller.
package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Style gives the colours, for light and dark surroundings.
const Style = `
    .paper{fill:#ffffff} text{fill:#1f2328;font:13px system-ui,sans-serif} .faint{fill:#59636e}
    .title{font-weight:600;font-size:15px} .grid{stroke:#d8dee4} .axis{stroke:#59636e}
    .whisker{stroke:#6e7781;stroke-width:2} .dot{fill:#6e7781} .main .whisker{stroke:#0969da;stroke-width:3}
    .main .dot{fill:#0969da} .main text{font-weight:600} .band{fill:#0969da;fill-opacity:.08}
    .curve{fill:none;stroke-width:2} .s0{stroke:#0969da} .s1{stroke:#bc4c00} .s2{stroke:#1a7f37} .s3{stroke:#8250df}
    @media (prefers-color-scheme:dark){
      .paper{fill:#0d1117} text{fill:#e6edf3} .faint{fill:#9198a1} .grid{stroke:#30363d} .axis{stroke:#9198a1}
      .whisker{stroke:#9198a1} .dot{fill:#9198a1} .main .whisker{stroke:#58a6ff} .main .dot{fill:#58a6ff}
      .band{fill:#58a6ff;fill-opacity:.12} .s0{stroke:#58a6ff} .s1{stroke:#f0883e} .s2{stroke:#3fb950} .s3{stroke:#bc8cff}
    }`

// Escape makes text safe within SVG.
func Escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a Buffer takes everything
	return b.String()
}

// Line is one curve: its points in the order of X. Places where Y is not a number are gaps.
type Line struct {
	Name string
	X, Y []float64
}

// Panel is one pair of axes with at most four curves on it.
type Panel struct {
	Title  string
	XLabel string
	Lines  []Line
	// Logarithmic spaces the x axis by ratios; its values must be positive.
	Logarithmic bool
}

// Sizes of a panel, in pixels.
const (
	width   = 640
	left    = 64
	right   = 150 // for the names of the curves
	top     = 34
	plot    = 150
	bottom  = 46
	heading = 52
)

// Write draws panels below each other under a title and a line that says how they came about.
func Write(w io.Writer, title, subtitle string, panels ...Panel) error {
	var b bytes.Buffer
	height := heading + len(panels)*(top+plot+bottom)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "  <title id=\"title\">%s</title>\n  <desc id=\"desc\">%s</desc>\n  <style>%s\n  </style>\n", Escape(title), Escape(inWords(subtitle, panels)), Style)
	fmt.Fprintf(&b, "  <rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", width, height)
	fmt.Fprintf(&b, "  <text class=\"title\" x=\"16\" y=\"26\">%s</text>\n  <text class=\"faint\" x=\"16\" y=\"46\">%s</text>\n", Escape(title), Escape(subtitle))
	for i, p := range panels {
		p.draw(&b, heading+i*(top+plot+bottom))
	}
	fmt.Fprintln(&b, "</svg>")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// draw draws the panel with its upper edge at y.
func (p Panel) draw(b *bytes.Buffer, y int) {
	along := func(v float64) float64 { return v }
	if p.Logarithmic {
		along = math.Log10
	}
	x, v := span(), span()
	for _, l := range p.Lines {
		for i := range l.Y {
			if finite(l.Y[i]) && finite(along(l.X[i])) {
				x.add(along(l.X[i]))
				v.add(l.Y[i])
			}
		}
	}
	low, high, tick := v.ticks()
	px := func(at float64) float64 { return left + (width-left-right)*(along(at)-x.low)/max(x.high-x.low, 1e-12) }
	py := func(at float64) float64 { return float64(y+top) + plot*(high-at)/(high-low) }
	fmt.Fprintf(b, "  <text x=\"16\" y=\"%d\">%s</text>\n", y+18, Escape(p.Title))
	for i := 0; low+float64(i)*tick <= high+tick/2; i++ {
		at := low + float64(i)*tick
		fmt.Fprintf(b, "  <line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", left, width-right, py(at), py(at))
		fmt.Fprintf(b, "  <text class=\"faint\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left-8, py(at)+4, label(at, tick))
	}
	for _, at := range p.marks(x) {
		fmt.Fprintf(b, "  <text class=\"faint\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", px(at), y+top+plot+18, label(at, at))
	}
	fmt.Fprintf(b, "  <text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", left+(width-left-right)/2, y+top+plot+36, Escape(p.XLabel))
	ends := make([]float64, 0, len(p.Lines)) // where names stand
	for i, l := range p.Lines {
		var path strings.Builder
		pen, last := "M", math.NaN()
		for j := range l.Y {
			if !finite(l.Y[j]) || !finite(along(l.X[j])) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, px(l.X[j]), py(l.Y[j]))
			pen, last = "L", py(l.Y[j])
		}
		fmt.Fprintf(b, "  <path class=\"curve s%d\" d=\"%s\"><title>%s</title></path>\n", i%4, path.String(), Escape(l.Name))
		if finite(last) {
			for _, other := range ends {
				if math.Abs(other-last) < 15 {
					last = other + 15
				}
			}
			ends = append(ends, last)
			fmt.Fprintf(b, "  <line class=\"curve s%d\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\">%s</text>\n", i%4, width-right+8, width-right+20, last, last, width-right+26, last+4, Escape(l.Name))
		}
	}
}

// marks are the places of the x axis that are labelled: those of the first curve where they are few, else the ends.
func (p Panel) marks(x extent) []float64 {
	ends := []float64{x.low, x.high}
	switch {
	case !(x.high >= x.low):
		return nil
	case p.Logarithmic:
		ends = []float64{math.Pow(10, x.low), math.Pow(10, x.high)}
	}
	few := p.Lines[0].X
	for _, at := range few {
		if at < ends[0] || at > ends[1] {
			return ends
		}
	}
	if len(few) <= 8 {
		return few
	}
	return ends
}

// extent is what an axis has to hold.
type extent struct{ low, high float64 }

func span() extent { return extent{math.Inf(1), math.Inf(-1)} }

func (e *extent) add(v float64) { e.low, e.high = min(e.low, v), max(e.high, v) }

// ticks gives ends that are whole ticks, and about four ticks between them.
func (e extent) ticks() (low, high, tick float64) {
	if !(e.high >= e.low) {
		return 0, 1, .25
	}
	if e.high-e.low < 1e-9*math.Abs(e.high) || e.high == e.low { // a constant: room around it
		room := max(.1*math.Abs(e.high), 1e-3)
		e.low, e.high = e.low-room, e.high+room
	}
	size := e.high - e.low
	tick = math.Pow(10, math.Floor(math.Log10(size/3)))
	for _, by := range []float64{1, 2, 5, 10} {
		if size/(tick*by) <= 4 {
			tick *= by
			break
		}
	}
	low, high = tick*math.Floor(e.low/tick+1e-9), tick*math.Ceil(e.high/tick-1e-9)
	if high-low < tick/2 {
		high = low + tick
	}
	return low, high, tick
}

// label writes a value with as many places as its tick needs.
func label(v, tick float64) string {
	places := 0
	if tick = math.Abs(tick); tick > 0 && tick < 1 {
		places = int(math.Ceil(-math.Log10(tick) - 1e-9))
	}
	return fmt.Sprintf("%.*f", min(places, 6), v)
}

// inWords says what the picture shows, for those who cannot see it.
func inWords(subtitle string, panels []Panel) string {
	words := []string{subtitle}
	for _, p := range panels {
		for _, l := range p.Lines {
			known := slices.DeleteFunc(slices.Clone(l.Y), func(v float64) bool { return !finite(v) })
			if n := len(known); n > 0 {
				words = append(words, fmt.Sprintf("%s, %s: from %.4g to %.4g", p.Title, l.Name, known[0], known[n-1]))
			}
		}
	}
	return strings.Join(words, "; ")
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
