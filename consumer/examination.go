package consumer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/r2rec/r2rec/internal/event"
)

// Examination says how likely it is that somebody looked at a slot that was shown. The zero value is the cascade.
//
// The cascade (Craswell, Zoeter, Taylor and Ramsey, "An experimental comparison of click position-bias models", WSDM
// 2008) has people read from the top, one slot after the other, and stop when they found something; with several choices
// in a list, at the last of them (as Guo, Liu and Wang do, "Efficient multiple-click models in web search", WSDM 2009). So
// the slots up to the last one that earned anything were examined, those below were not, and where nothing was chosen all
// were.
//
// Propensities take a table in its place: the probability of being looked at by position, whatever was chosen. That is
// the position-based model (Richardson, Dominowska and Ragno, WWW 2007); inverse propensity weighting divides by it.
// Propensities finds the table from what was explored.
type Examination struct {
	// Propensities has for each surface the probability at positions 1, 2, …, more than 0 and at most 1; the last one
	// stands for all below. AnySurface is for surfaces that are not listed; where it is missing too, the cascade holds.
	Propensities map[string][]float64
}

// AnySurface stands for every surface that a table does not list.
const AnySurface = "*"

// ParseExamination reads what a command line says: "cascade", or SURFACE=P1,P2,… such as "home=1,0.7,0.5"; SURFACE may be
// AnySurface. Each part adds to the ones before it.
func ParseExamination(parts []string) (Examination, error) {
	e := Examination{}
	for _, part := range parts {
		if part == "cascade" {
			continue
		}
		surface, list, ok := strings.Cut(part, "=")
		if !ok || surface == "" {
			return e, fmt.Errorf(`%q: want cascade, or SURFACE=P1,P2,… with the probability that each position is looked at, such as home=1,0.7,0.5`, part)
		}
		var table []float64
		for _, text := range strings.Split(list, ",") {
			p, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return e, fmt.Errorf("%q: %q is no number: want a probability, such as 0.7", part, text)
			}
			table = append(table, p)
		}
		if e.Propensities == nil {
			e.Propensities = map[string][]float64{}
		}
		if e.Propensities[surface] != nil {
			return e, fmt.Errorf("surface %q stands twice: give one table for it", surface)
		}
		e.Propensities[surface] = table
	}
	return e, e.validate()
}

func (e Examination) validate() error {
	var errs []error
	for _, surface := range slices.Sorted(maps.Keys(e.Propensities)) {
		table := e.Propensities[surface]
		if len(table) == 0 {
			errs = append(errs, fmt.Errorf("surface %q has no probability, want one for each position", surface))
		}
		for i, p := range table {
			if !(p > 0 && p <= 1) {
				errs = append(errs, fmt.Errorf("surface %q: the probability of position %d is %v, want more than 0 and at most 1", surface, i+1, p))
			}
		}
	}
	return errors.Join(errs...)
}

// examine fills in the examination of one decision's rewards, which are in the order of their positions.
func (e Examination) examine(rewards []event.Reward) {
	if len(rewards) == 0 {
		return
	}
	table, ok := e.Propensities[rewards[0].Surface]
	if !ok {
		table = e.Propensities[AnySurface]
	}
	if len(table) > 0 {
		for i := range rewards {
			rewards[i].Examination = table[min(rewards[i].Position, len(table))-1]
		}
		return
	}
	last := len(rewards) - 1
	for i, r := range slices.Backward(rewards) {
		if r.Attribution != event.ByNothing {
			last = i
			break
		}
	}
	for i := range rewards[:last+1] {
		rewards[i].Examination = 1
	}
}
