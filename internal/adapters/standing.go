package adapters

import (
	"slices"

	"github.com/r2rec/r2rec/internal/event"
)

// Standing says where an adapter is in its life.
type Standing string

// An adapter is served, or why it is not.
const (
	Current    Standing = "current"     // served
	RollingOut Standing = "rolling out" // served to a share of the users
	Retired    Standing = "retired"     // was current, another one followed
	RolledBack Standing = "rolled back" // was served, to all or to a share, and taken back
	Refused    Standing = "refused"     // did not pass the gate
	Void       Standing = "void"        // no record of it counts
)

// Summary is what the log says about one adapter.
type Summary struct {
	Digest   string
	Standing Standing
	Entries  []Entry // its records, void ones too, in the order of the log
}

// Last is the last of the entries that counts; where none does, the last one.
func (s Summary) Last() Entry {
	for _, e := range slices.Backward(s.Entries) {
		if e.Void == "" {
			return e
		}
	}
	return s.Entries[len(s.Entries)-1]
}

// Gate is what the last gate that judged the adapter found; nil where none did.
func (s Summary) Gate() *event.Gate {
	for _, e := range slices.Backward(s.Entries) {
		if e.Record.Gate != nil && e.Void == "" {
			return e.Record.Gate
		}
	}
	return nil
}

// Summaries tells of every adapter in the log, in the order in which they first appear. A roll-back is told with the
// adapter that it takes back. Records that cannot be read are of no adapter; they stand in State.Entries only.
func (s State) Summaries() []Summary {
	at := map[string]int{}
	var out []Summary
	for _, e := range s.Entries {
		digest, standing := e.about()
		if digest == "" {
			continue
		}
		i, known := at[digest]
		if !known {
			i = len(out)
			at[digest] = i
			out = append(out, Summary{Digest: digest, Standing: Void})
		}
		out[i].Entries = append(out[i].Entries, e)
		if e.Void == "" {
			out[i].Standing = standing
		}
		// Whoever was rolled back to is current again, without a record of its own.
	}
	for i := range out {
		switch {
		case out[i].Digest == s.Current:
			out[i].Standing = Current
		case out[i].Digest == s.Candidate:
			out[i].Standing = RollingOut
		}
	}
	return out
}

// about is the adapter that an entry tells of, and what became of it once it is neither current nor rolled out.
func (e Entry) about() (digest string, then Standing) {
	switch e.Record.Kind {
	case event.RollBack:
		return e.Record.Parent, RolledBack
	case event.Refuse:
		return e.Record.Adapter, Refused
	}
	return e.Record.Adapter, Retired
}

// Lineage is the current adapter, the one that it replaced, the one before that and so on, ending before the bare base
// model: what can be rolled back to, nearest first.
func (s State) Lineage() []string {
	parents := map[string]string{}
	for _, e := range s.Entries {
		if e.installs() {
			parents[e.Record.Adapter] = e.Record.Parent
		}
	}
	var out []string
	for at := s.Current; at != "" && !slices.Contains(out, at); at = parents[at] {
		out = append(out, at)
	}
	return out
}

// Served lists every adapter that was ever current, the last one first.
func (s State) Served() []string {
	var out []string
	for _, e := range slices.Backward(s.Entries) {
		if e.installs() && !slices.Contains(out, e.Record.Adapter) {
			out = append(out, e.Record.Adapter)
		}
	}
	return out
}

// Record is the newest record that counts and made the adapter served, to all or to a share.
func (s State) Record(adapter string) (event.Promotion, bool) {
	for _, e := range slices.Backward(s.Entries) {
		if e.Void == "" && e.Record.Adapter == adapter && (e.Record.Kind == event.Promote || e.Record.Kind == event.Complete) {
			return e.Record, true
		}
	}
	return event.Promotion{}, false
}
