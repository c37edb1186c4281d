package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/r2rec/r2rec/consumer"
	"github.com/r2rec/r2rec/internal/broker"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
)

type trainExaminationCommand struct {
	Since      time.Duration `help:"Decisions older than this are left out." default:"720h"`
	JSON       bool          `help:"One JSON object, for machines."`
	kafkaFlags `embed:""`
}

// Help is shown by `r2rec train examination --help`.
func (trainExaminationCommand) Help() string {
	return `Estimates from your own log how probable it is that a slot is looked at, position by position and surface by surface, and
says what to give to r2rec consume (--examination). Without that a list of which nothing was clicked counts as looked at
to its end, and what is clicked far down counts too little when the model is fitted on clicks.

Only lists that were drawn (--explore-share) say something: there each item could stand anywhere, with a known
probability, by which clicks are weighed. It assumes that how far users look depends on the position alone.

  r2rec train examination
  r2rec consume --examination home=1,0.62,0.44`
}

// leastEffective is of how many slots, drawn evenly, those of a position have to be worth for its estimate to be told.
const leastEffective = 100

// examinationReport is what the command prints for machines.
type examinationReport struct {
	Command  string                           `json:"command"`
	Surfaces map[string][]consumer.Propensity `json:"surfaces"`
	Flags    []string                         `json:"flags"` // of r2rec consume, one a surface that tells enough; joined by ; they are one
}

func (c trainExaminationCommand) Run(p *process) error {
	if c.Since <= 0 {
		return misuse("--since %v: want some time", c.Since)
	}
	kc, err := readKafka(p, c.kafkaFlags, broker.Decisions, broker.Rewards, broker.Users)
	if err != nil {
		return err
	}
	defer kc.Close()
	h := history{kc}
	forgotten, err := h.Forgotten(p.ctx)
	if err != nil {
		return err
	}
	end, err := h.Mark(p.ctx)
	if err != nil {
		return err
	}
	found := consumer.NewPropensities()
	since := event.At(time.Now().Add(-c.Since))
	if _, err := h.Decisions(p.ctx, since, end, func(d event.Decision) error {
		if d.Timestamp >= max(since, forgotten[d.UserID]) {
			found.Decided(d)
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := h.Rewards(p.ctx, since, end, func(r event.Reward) error {
		found.Earned(r)
		return nil
	}); err != nil {
		return err
	}
	r := examinationReport{Command: "train examination", Surfaces: found.Estimate(), Flags: []string{}}
	for _, surface := range slices.Sorted(maps.Keys(r.Surfaces)) {
		name := surface
		if name == "" && len(r.Surfaces) == 1 { // lists of no surface take what is said of any
			name = consumer.AnySurface
		}
		if flag := examinationFlag(name, r.Surfaces[surface]); flag != "" {
			r.Flags = append(r.Flags, flag)
		}
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(r)
	}
	return r.print(p.stdout)
}

// examinationFlag has the positions that tell enough, up to the first that does not; "" where that is position 2. What lies
// above 1 by chance is 1, and no slot is never looked at.
func examinationFlag(surface string, table []consumer.Propensity) string {
	var values []string
	for _, at := range table {
		if at.Effective < leastEffective {
			break
		}
		values = append(values, strconv.FormatFloat(min(1, max(.01, at.Value)), 'f', -1, 64))
	}
	if len(values) < 2 || surface == "" || strings.ContainsAny(surface, "=;") {
		return ""
	}
	return surface + "=" + strings.Join(values, ",")
}

func (r examinationReport) print(w io.Writer) error {
	if len(r.Surfaces) == 0 {
		_, err := fmt.Fprintln(w, "Nothing can be told yet: no list that was drawn (--explore-share) has earned anything in slot 1 by more than a few users.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "surface\tposition\tlooked at\t95 %\tshown\teffective")
	for _, surface := range slices.Sorted(maps.Keys(r.Surfaces)) {
		for _, at := range r.Surfaces[surface] {
			note := ""
			if at.Effective < leastEffective {
				note = "  too few to tell"
			}
			fmt.Fprintf(t, "%s\t%d\t%.3f\t%.3f to %.3f\t%d\t%.0f%s\n", cmp.Or(iot.Clean(surface), "(none)"), at.Position, at.Value, max(0, at.Value-1.96*at.SE), at.Value+1.96*at.SE, at.Shown, at.Effective, note)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Flags) > 0 {
		if _, err := fmt.Fprintf(w, "\nr2rec consume --examination %s\n", shellWord(strings.Join(r.Flags, ";"))); err != nil {
			return err
		}
	}
	if left := len(r.Surfaces) - len(r.Flags); left > 0 {
		_, err := fmt.Fprintf(w, "\nLeft out: %d of %d surfaces. Positions 1 and 2 have to be worth %d slots that were drawn evenly, and --examination names no surface with = or ;,\n"+
			"nor, where there are others, that of lists without one.\n", left, len(r.Surfaces), leastEffective)
		return err
	}
	return nil
}

// shellWord is a word as a shell takes it, without control characters.
func shellWord(s string) string { return "'" + strings.ReplaceAll(iot.Clean(s), "'", `'\''`) + "'" }
