package rltrainer

import (
	"cmp"
	"math"
	"slices"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/policy"
)

// Rollout is a decision and what came of it. The action is the item in slot 1, drawn with probability
// Decision.Slate[0].Probability; the reward is what that slot earned.
type Rollout struct {
	Decision event.Decision
	First    int     // index of slot 1's item among the context's candidates
	Reward   float64 // of slot 1
	Chosen   int     // index of the candidate whose slot earned most, if that is more than nothing; -1: no slot did
	Earned   float64 // by that slot

	// Looks is the probability with which each shown slot was looked at, as far as known: without a click, what the
	// rewards say of it; where something was clicked, nobody knows how far the user would have looked, and it is nil.
	Looks []float64
}

// Reason says why a decision teaches nothing.
type Reason string

// The reasons, in the order in which they are looked for: a decision counts for the first that holds.
const (
	Forgotten    Reason = "forgotten"     // the user asked for it to be forgotten
	Control      Reason = "control"       // the user belongs to those who always get the graph's ranking
	ByGraph      Reason = "graph"         // the graph's ranking was served, or the model had no part in it
	NotExplored  Reason = "not explored"  // the slate was not drawn: nothing says what another would have earned
	OtherModel   Reason = "other model"   // another base model, readout or version of the prompt
	Stale        Reason = "stale"         // older than the bound
	NoChoice     Reason = "no choice"     // fewer than two candidates
	NotShown     Reason = "not shown"     // slot 1 has no reward: nobody saw it, or nobody knows yet
	OtherPrompt  Reason = "other prompt"  // its context and seed do not give the prompt that was read
	OtherThought Reason = "other thought" // exports only: it has a thought where servers answer at once, or the reverse
	OtherScores  Reason = "other scores"  // its shares do not give the final scores, or those not the logged probability
)

// JoinOptions say which decisions a round may learn from.
type JoinOptions struct {
	// Model that learns. Its digest, readout and prompt version must be those of the decision's; adapters may differ.
	Model event.Model
	// Since is the staleness bound: decisions before it are left out. Default: none are.
	Since event.Time
	// Forgotten is, by user, the time before which decisions are left out. Default: nobody is forgotten.
	Forgotten map[string]event.Time
}

// Joined is what a round learns from, and what it leaves out.
type Joined struct {
	Rollouts []Rollout // in the order of time, those of one moment by their id
	Dropped  map[Reason]int
	Repeated int // decisions and rewards that came again; they count once
	Orphans  int // rewards without a decision
}

// tolerance of logged numbers, as shares of themselves or in nats: a decision was computed by the same functions, perhaps
// on another kind of processor.
const tolerance = 1e-6

// Join puts decisions and rewards together, each in any order and any number of times. Nothing is learned from what is not
// certain: a prompt is rebuilt and compared by its digest, and scores and probabilities are computed again.
func Join(decisions []event.Decision, rewards []event.Reward, o JoinOptions) Joined {
	j := Joined{Dropped: map[Reason]int{}}
	earned := map[string]map[int]event.Reward{}
	for _, r := range rewards {
		slots := earned[r.DecisionID]
		if slots == nil {
			slots = map[int]event.Reward{}
			earned[r.DecisionID] = slots
		}
		if _, again := slots[r.Position]; again {
			j.Repeated++
			continue
		}
		slots[r.Position] = r
	}
	seen := make(map[string]bool, len(decisions))
	for _, d := range decisions {
		if seen[d.DecisionID] {
			j.Repeated++
			continue
		}
		seen[d.DecisionID] = true
		r, why := rollout(d, earned[d.DecisionID], o)
		if why != "" {
			j.Dropped[why]++
			continue
		}
		j.Rollouts = append(j.Rollouts, r)
	}
	for id, slots := range earned {
		if !seen[id] {
			j.Orphans += len(slots)
		}
	}
	slices.SortFunc(j.Rollouts, func(a, b Rollout) int {
		return cmp.Or(cmp.Compare(a.Decision.Timestamp, b.Decision.Timestamp), cmp.Compare(a.Decision.DecisionID, b.Decision.DecisionID))
	})
	return j
}

// rollout is a decision's, or why there is none.
func rollout(d event.Decision, earned map[int]event.Reward, o JoinOptions) (Rollout, Reason) {
	switch m := d.Model; {
	case d.Timestamp < o.Forgotten[d.UserID]:
		return Rollout{}, Forgotten
	case d.Control:
		return Rollout{}, Control
	case d.Source != event.Reasoned || m == nil || d.ModelWeight <= 0:
		return Rollout{}, ByGraph
	case !d.Explore:
		return Rollout{}, NotExplored
	case m.Digest != o.Model.Digest || m.Readout != o.Model.Readout || m.PromptVersion != o.Model.PromptVersion:
		return Rollout{}, OtherModel
	case d.Timestamp < o.Since:
		return Rollout{}, Stale
	case len(d.Context.Candidates) < 2 || len(d.Slate) == 0:
		return Rollout{}, NoChoice
	}
	first, shown := earned[1]
	if !shown || first.Examination <= 0 && first.Value == 0 {
		return Rollout{}, NotShown
	}
	if p, err := iot.Asked(d); err != nil || p.Digest != d.Model.PromptDigest {
		return Rollout{}, OtherPrompt
	}
	r := Rollout{Decision: d, First: d.Context.Candidate(d.Slate[0].ItemID), Reward: first.Value, Chosen: -1}
	if r.First < 0 || first.ItemID != d.Slate[0].ItemID || !reproducible(d, r.First) {
		return Rollout{}, OtherScores
	}
	for _, s := range d.Slate {
		e := earned[s.Position]
		if e.Value > r.Earned && e.ItemID == s.ItemID {
			r.Earned, r.Chosen = e.Value, d.Context.Candidate(s.ItemID)
		}
		r.Looks = append(r.Looks, e.Examination)
	}
	if r.Chosen >= 0 {
		r.Looks = nil
	}
	return r, ""
}

// reproducible tells whether a decision's shares give its final scores, and those the probability of its first slot.
func reproducible(d event.Decision, first int) bool {
	graph, model, ok := shares(d)
	if !ok {
		return false
	}
	for i, s := range policy.Pool(graph, model, d.ModelWeight) {
		if !(math.Abs(s.Final-d.Scores[i].Final) <= tolerance*math.Max(1, math.Abs(s.Final))) {
			return false
		}
	}
	p := policy.First(d.Scores, d.Temperature)[first]
	return math.Abs(p-d.Slate[0].Probability) <= tolerance*p
}

// shares of the two rankings, those of the model as logarithms. There are none where a score lacks a share above 0.
func shares(d event.Decision) (graph, model []float64, ok bool) {
	if len(d.Scores) != len(d.Context.Candidates) || !(d.Temperature > 0) {
		return nil, nil, false
	}
	for _, s := range d.Scores {
		if s.Model == nil || !(*s.Model > 0) || !(s.Graph > 0) {
			return nil, nil, false
		}
		graph = append(graph, s.Graph)
		model = append(model, math.Log(*s.Model))
	}
	return graph, model, true
}

// Split cuts rollouts in the order of time into those to learn from and the last share, to judge by. Rollouts of one
// moment stay together, with the later ones.
func Split(rollouts []Rollout, last float64) (earlier, later []Rollout) {
	at := len(rollouts) - int(math.Round(last*float64(len(rollouts))))
	at = max(0, min(at, len(rollouts)))
	for at > 0 && at < len(rollouts) && rollouts[at-1].Decision.Timestamp == rollouts[at].Decision.Timestamp {
		at--
	}
	return rollouts[:at:at], rollouts[at:]
}
