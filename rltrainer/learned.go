package rltrainer

import (
	"context"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/lm/proof"
	"github.com/r2rec/r2rec/internal/ope"
)

// Learned is how learning from the clicks of a replay went.
type Learned struct {
	Rollouts int            `json:"rollouts"` // learned from
	Held     int            `json:"held"`     // later ones, judged by
	Dropped  map[Reason]int `json:"dropped"`  // decisions that teach nothing, by the reason
	Repeated int            `json:"repeated"` // decisions and rewards that came again
	Orphans  int            `json:"orphans"`  // rewards without a decision

	Choices int     `json:"choices"`           // rollouts in which something was chosen
	Clicks  Clicks  `json:"clicks"`            // the trainer's click model
	Before  Outcome `json:"before"`            // the policy that the divergence is measured from, on what was learned from
	After   Outcome `json:"after"`             // the new policy
	Tokens  int     `json:"tokens"`            // read while learning
	Seconds float64 `json:"seconds,omitempty"` // that took
	Steps   []Step  `json:"steps"`             // that changed anything
	// Thoughts are the steps of a policy that thinks, which Before, After and Steps say nothing of.
	Thoughts []ThoughtStep `json:"thoughts,omitempty"`

	Gate   *Judgement `json:"gate,omitempty"`
	Change *Change    `json:"change,omitempty"` // of the decisions that judged
}

// Judgement is what the gate says of a policy.
type Judgement struct {
	Verdict ope.Verdict `json:"verdict"`
	Reason  string      `json:"reason"`
	Found   event.Gate  `json:"found"` // as the log of adapters keeps it
}

// Gate decides by held-out rollouts, in the order of time, whether the policy of the samples that Judge made of them may
// take the place of the one that was logged.
func Gate(held []Rollout, samples []ope.Sample, o ope.GateOptions) (Judgement, error) {
	f, err := ope.Gate(samples, o)
	if err != nil {
		return Judgement{}, err
	}
	bounds := func(b ope.Bounds) event.Bounds { return event.Bounds{Estimate: b.Estimate, Low: b.Low, High: b.High} }
	return Judgement{Verdict: f.Verdict, Reason: f.Reason, Found: event.Gate{
		Round: f.Round, Alpha: f.Alpha, After: held[0].Decision.Timestamp - 1, Until: held[len(held)-1].Decision.Timestamp, Decisions: f.Decisions,
		Users: f.Users, Needed: f.Needed, Margin: f.Margin, Effective: f.Effective, Clipped: f.Clipped, SNIPS: bounds(f.SNIPS), DR: bounds(f.DR),
	}}, nil
}

// mostAsks is the most prompts that are measured to find canaries among.
const mostAsks = 500

// Canaries are the n prompts of rollouts on which an adapter changes most of what its bare base model says, measured on
// some 500 spread over all of them. Both are asked without calibration, from several goroutines; told may be nil (proof.Choose).
func Canaries(ctx context.Context, promptVersion int, rollouts []Rollout, base, adapter Ranker, n int, told func(done, total int)) ([]proof.Canary, error) {
	var asks []proof.Ask
	every := max(1, len(rollouts)/mostAsks)
	for i := 0; i < len(rollouts); i += every {
		d := rollouts[i].Decision
		asks = append(asks, proof.Ask{Context: d.Context, Seed: d.Seed})
	}
	return proof.Choose(ctx, promptVersion, asks, base, adapter, n, told)
}
