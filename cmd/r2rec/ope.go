package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/r2rec/r2rec/internal/ope"
	"github.com/r2rec/r2rec/internal/ope/logs"
)

// opeCommand are the commands of off-policy evaluation.
type opeCommand struct {
	Log   opeLogCommand   `cmd:"" name:"log" default:"withargs" help:"Estimate from a log what another policy would have earned (the default: r2rec ope LOG)."`
	Power opePowerCommand `cmd:"" help:"Find out how many decisions a gate needs, in a world whose truth is known."`
}

// Help is shown by `r2rec ope --help`.
func (opeCommand) Help() string { return opeLogCommand{}.Help() }

type opeLogCommand struct {
	Log       string  `arg:"" help:"CSV file of logged decisions; may be gzipped." type:"existingfile" placeholder:"LOG"`
	PolicyOf  string  `help:"Open Bandit log whose policy is to be judged. Needed for an Open Bandit log, wrong for others." type:"existingfile" placeholder:"LOG"`
	Clip      float64 `help:"Largest importance weight; what is above counts as this." default:"10"`
	Level     float64 `help:"Level of the intervals." default:"0.95"`
	Resamples int     `help:"How often users are resampled." default:"2000"`
	Seed      uint64  `help:"Seed of the resampling." default:"1"`
	JSON      bool    `help:"Figures for machines, one JSON object a line."`
}

// Help is shown by `r2rec ope log --help`.
func (opeLogCommand) Help() string {
	return `What would a policy earn that never acted? Decisions that another one made and logged, each with its probability, tell:
by the direct method (DM: a model of the reward), by inverse propensities (IPS), self-normalised (SNIPS), and doubly
robust (DR). Intervals resample users. Where a few decisions would weigh as much as all others the log tells nothing:
the verdict is "refused", with the reason, and there is no estimate.

LOG is a CSV file with the columns
  user, reward, logged (probability of the logged action by the policy that took it), target (by the judged policy)
and, where there is a model of the reward that was not fitted on the same users,
  q (predicted reward of the logged action), v and vlogged (Σ over all actions of probability times q, by either policy)

  r2rec ope decisions.csv

or a log of the Open Bandit Dataset (item_id, position, click, propensity_score or action_prob, user_feature_*). Then
--policy-of names the log of another policy, whose click rate is estimated from LOG and printed beside the one observed:

  r2rec ope random/women.csv --policy-of bts/women.csv

r2rec ope power --help is about the number of decisions it takes.`
}

// opeFolds is in how many parts the users are put, for the model of the reward of an Open Bandit log.
const opeFolds = 5

func (c opeLogCommand) Run(p *process) error {
	if err := checkCounts(count{"--resamples", c.Resamples, 200}); err != nil {
		return wrong(err)
	}
	if !(c.Clip >= 1) {
		return misuse("--clip %v: want 1 or more", c.Clip)
	}
	if !(c.Level > 0 && c.Level < 1) {
		return misuse("--level %v: want a share between 0 and 1, such as 0.95", c.Level)
	}
	out := opeReport{level: c.Level}
	samples, err := c.samples(&out)
	if err != nil {
		return err
	}
	out.Report, err = ope.Evaluate(samples, ope.Options{Clip: c.Clip, Level: c.Level, Resampling: ope.Resampling{Resamples: c.Resamples, Seed: c.Seed}})
	if err != nil {
		return fmt.Errorf("%s: %w", c.Log, err)
	}
	if c.JSON {
		return writeOpeFigures(p.stdout, out.figures())
	}
	return out.table(p.stdout)
}

// samples reads the log, and judges the other one's policy where there is one.
func (c opeLogCommand) samples(out *opeReport) ([]ope.Sample, error) {
	log, err := logs.Open(c.Log)
	if err != nil {
		return nil, err
	}
	if log.Impressions == nil {
		if c.PolicyOf != "" {
			return nil, fmt.Errorf("--policy-of is for Open Bandit logs: %s says by itself, in the column target, what the judged policy does", c.Log)
		}
		out.modelled = log.Modelled
		return log.Samples, nil
	}
	if c.PolicyOf == "" {
		return nil, fmt.Errorf("%s is an Open Bandit log: name the log of the policy to judge, --policy-of FILE", c.Log)
	}
	other, err := logs.Open(c.PolicyOf)
	if err != nil {
		return nil, fmt.Errorf("--policy-of: %w", err)
	}
	if other.Impressions == nil {
		return nil, fmt.Errorf("--policy-of %s: is no Open Bandit log with rows: want item_id, position, click and propensity_score", c.PolicyOf)
	}
	judged, err := logs.Judge(log.Impressions, other.Impressions, opeFolds)
	if err != nil {
		return nil, fmt.Errorf("%s judged by %s: %w", c.PolicyOf, c.Log, err)
	}
	observed := make([]ope.Sample, len(other.Impressions))
	for i, im := range other.Impressions {
		observed[i] = ope.Sample{User: im.User, Reward: im.Click, Logged: im.Propensity, Target: im.Propensity}
	}
	own, err := ope.Evaluate(observed, ope.Options{Level: c.Level, Resampling: ope.Resampling{Resamples: c.Resamples, Seed: c.Seed}})
	if err != nil {
		return nil, fmt.Errorf("--policy-of %s: %w", c.PolicyOf, err)
	}
	out.modelled, out.observed, out.missing = true, &own.Logged, judged.Missing
	return judged.Samples, nil
}

// opeReport is what was found, and the judged policy's own click rate where it is known.
type opeReport struct {
	ope.Report
	level    float64
	modelled bool
	observed *ope.Bounds
	missing  float64 // share of the judged policy's draws that the log never made
}

// verdict is refused or estimated.
func (r opeReport) verdict() string {
	if r.Refused != "" {
		return "refused"
	}
	return "estimated"
}

// estimate is one line of the report.
type estimate struct {
	metric, name string
	ope.Bounds
}

// values are the rewards a decision that were measured or estimated.
func (r opeReport) values() []estimate {
	out := []estimate{{"logged", "earned by the policy that logged", r.Logged}}
	if r.observed != nil {
		out = append(out, estimate{"observed", "earned by the judged policy, in its own log", *r.observed})
	}
	if r.Refused != "" {
		return out
	}
	if r.modelled {
		out = append(out, estimate{"dm", "judged policy by DM, if its model is right", r.DM})
	}
	out = append(out, estimate{"ips", "judged policy by IPS", r.IPS}, estimate{"snips", "judged policy by SNIPS", r.SNIPS})
	if r.modelled {
		out = append(out, estimate{"dr", "judged policy by DR", r.DR})
	}
	out = append(out, estimate{"snips_difference", "judged less logging, by SNIPS", r.SNIPSDifference})
	if r.modelled {
		out = append(out, estimate{"dr_difference", "judged less logging, by DR", r.DRDifference})
	}
	return out
}

func (r opeReport) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "reward a decision\testimate\t%g %% interval\n", 100*r.level)
	for _, v := range r.values() {
		fmt.Fprintf(t, "%s\t%.5f\t%.5f to %.5f\n", v.name, v.Estimate, v.Low, v.High)
	}
	fmt.Fprintln(t, "\nweights\t\t")
	fmt.Fprintf(t, "decisions, users\t%d\t%d\n", r.Decisions, r.Users)
	fmt.Fprintf(t, "effective sample\t%.4g\t%.3g %% of the decisions\n", r.Effective, 100*r.Effective/float64(r.Decisions))
	fmt.Fprintf(t, "clipped\t%.4g %%\tlargest weight %.4g\n", 100*r.Clipped, r.MaxWeight)
	fmt.Fprintf(t, "mean weight\t%.4f\tafter clipping\n", r.MeanWeight.Estimate)
	if r.observed != nil {
		fmt.Fprintf(t, "never logged\t%.4g %%\tof what the judged policy draws\n", 100*r.missing)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	reason := ""
	if r.Refused != "" {
		reason = ": " + r.Refused
	}
	_, err := fmt.Fprintf(w, "\nverdict: %s%s\n", r.verdict(), reason)
	return err
}

// opeFigure is one number for machines; its metric's name is part of a contract.
type opeFigure struct {
	Command string   `json:"command"`
	Metric  string   `json:"metric"`
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"`
	Low     *float64 `json:"low,omitempty"`
	High    *float64 `json:"high,omitempty"`
	Verdict string   `json:"verdict,omitempty"`
	Reason  string   `json:"reason,omitempty"`

	Improvement *float64 `json:"improvement,omitempty"` // ope power: the true one
	Decisions   int      `json:"decisions,omitempty"`   // ope power: that a gate was given
}

func (r opeReport) figures() (all []opeFigure) {
	refused := 0.
	if r.Refused != "" {
		refused = 1
	}
	all = append(all, opeFigure{Metric: "refused", Value: refused, Unit: "boolean", Verdict: r.verdict(), Reason: r.Refused})
	for _, v := range r.values() {
		all = append(all, opeFigure{Metric: v.metric, Value: v.Estimate, Unit: "reward", Low: &v.Low, High: &v.High})
	}
	all = append(all,
		opeFigure{Metric: "decisions", Value: float64(r.Decisions), Unit: "decisions"}, opeFigure{Metric: "users", Value: float64(r.Users), Unit: "users"},
		opeFigure{Metric: "effective_sample", Value: r.Effective, Unit: "decisions"}, opeFigure{Metric: "clipped", Value: r.Clipped, Unit: "share"},
		opeFigure{Metric: "max_weight", Value: r.MaxWeight, Unit: "weight"}, opeFigure{Metric: "mean_weight", Value: r.MeanWeight.Estimate, Unit: "weight"})
	if r.observed != nil {
		all = append(all, opeFigure{Metric: "never_logged", Value: r.missing, Unit: "share"})
	}
	for i := range all {
		all[i].Command = "ope"
	}
	return all
}

// writeOpeFigures writes one JSON object a line. A metric that stands twice is an error, and then nothing is written.
func writeOpeFigures(w io.Writer, figures []opeFigure) error {
	var out []byte
	seen := map[string]bool{}
	for _, f := range figures {
		if seen[f.Metric] {
			return errors.New("write figures: the metric " + f.Metric + " stands twice")
		}
		seen[f.Metric] = true
		line, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("write figures: %s: %w", f.Metric, err)
		}
		out = append(append(out, line...), '\n')
	}
	_, err := w.Write(out)
	return err
}
