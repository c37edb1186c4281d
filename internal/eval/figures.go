package eval

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// Figure is one measured number for machines; its metric's name is part of a contract.
type Figure struct {
	Metric  string
	Value   float64
	Unit    string // cases, share (0 to 1), mean or probability
	Ranker  string // whose it is
	Against string // with whom it was compared; empty: with nobody
}

// MarshalJSON writes {"command":"eval","metric","value","unit","ranker"}, and "against" where there is one.
func (f Figure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Command string  `json:"command"`
		Metric  string  `json:"metric"`
		Value   float64 `json:"value"`
		Unit    string  `json:"unit"`
		Ranker  string  `json:"ranker"`
		Against string  `json:"against,omitempty"`
	}{"eval", f.Metric, f.Value, f.Unit, f.Ranker, f.Against})
}

// WriteFigures writes one JSON object a line. A metric that stands twice is an error, and then nothing is written.
func WriteFigures(w io.Writer, figures []Figure) error {
	var out []byte
	seen := map[string]bool{}
	for _, f := range figures {
		if seen[f.Metric] {
			return fmt.Errorf("write figures: the metric %s stands twice", f.Metric)
		}
		seen[f.Metric] = true
		line, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("write figures: %s: %w", f.Metric, err)
		}
		out = append(append(out, line...), '\n')
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// known leaves out the figures that are NaN.
func known(figures []Figure) []Figure {
	return slices.DeleteFunc(figures, func(f Figure) bool { return math.IsNaN(f.Value) })
}
