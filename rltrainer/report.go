package rltrainer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/chart"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/gguf"
)

// Report says how a round went. Rewards are those of slot 1.
type Report struct {
	Verdict Verdict    `json:"verdict"`
	Reason  string     `json:"reason"` // for people
	Began   event.Time `json:"began"`
	Ended   event.Time `json:"ended"`
	Round   int        `json:"round"`             // its gate would be this look since a promotion last held for all users
	Parent  string     `json:"parent"`            // digest of the adapter that it began with; empty: the bare base model
	Adapter string     `json:"adapter,omitempty"` // digest of what it learned, where a gate judged it

	Read     ReadCounts     `json:"read"`
	Repeated int            `json:"repeated"` // decisions and rewards that came more than once
	Dropped  map[Reason]int `json:"dropped"`  // decisions that teach nothing, by the reason
	Training int            `json:"training"` // decisions to learn from
	Users    int            `json:"users"`    // of whom they are
	Held     int            `json:"held"`     // decisions for the gate

	Clicks   ClickReport   `json:"clicks"`
	Fitted   FitReport     `json:"fitted"`
	Policy   []PolicyStep  `json:"policy"`             // one a step of the policy gradient
	Thoughts []ThoughtStep `json:"thoughts,omitempty"` // one a step of learning to think, in place of these two
	Skipped  int           `json:"skipped"`            // steps that changed nothing, for want of a finite gradient
	// TokensPerSecond that the policy gradient read, or learning to think, learning included, since the round was last taken up.
	TokensPerSecond float64 `json:"tokens_per_second"`

	Gate   *event.Gate `json:"gate,omitempty"`   // absent: nothing was judged
	Change *Change     `json:"change,omitempty"` // of the decisions that judged; likewise
}

// ClickReport says how well the click model predicts rewards of users that it has not seen.
type ClickReport struct {
	Error    float64 `json:"error"`    // mean squared error
	Constant float64 `json:"constant"` // the same, of the mean reward
	Means    int     `json:"means"`    // folds whose prediction is the mean, for want of rewards
}

// FitReport says how supervised fine-tuning went: cross-entropies are of the batches of the first and the last step that changed
// anything, nats.
type FitReport struct {
	Choices int     `json:"choices"` // decisions of which something was chosen
	Steps   int     `json:"steps"`
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	Skipped int     `json:"skipped"`
}

// PolicyStep is one step of the policy gradient, on its batch and before it changed anything.
type PolicyStep struct {
	Reward   float64 `json:"reward"`   // expected of slot 1, doubly robust
	KL       float64 `json:"kl"`       // from the policy before the round, nats
	Entropy  float64 `json:"entropy"`  // nats
	Gradient float64 `json:"gradient"` // norm, before clipping
	// Skipped: it changed nothing, since its gradient was not finite, and has no figures.
	Skipped bool `json:"skipped,omitempty"`
}

// summary is the report without its curves, for the adapter's manifest.
func (r Report) summary() (json.RawMessage, error) {
	r.Policy, r.Thoughts = nil, nil
	return json.Marshal(r)
}

// Smoothed is the mean of the first and of the last fifth of the policy gradient's steps that changed anything: single batches
// tell little.
func (r Report) Smoothed() (first, last PolicyStep) {
	begin, end := ends(r.Policy, func(s PolicyStep) bool { return s.Skipped })
	return meanStep(begin), meanStep(end)
}

// SmoothedThoughts is the same of learning to think.
func (r Report) SmoothedThoughts() (first, last ThoughtStep) {
	begin, end := ends(r.Thoughts, func(s ThoughtStep) bool { return s.Skipped })
	return meanThought(begin), meanThought(end)
}

// ends are the first and the last fifth of the steps that were not skipped, each one step at least where there is any.
func ends[T any](all []T, skipped func(T) bool) (first, last []T) {
	steps := slices.DeleteFunc(slices.Clone(all), skipped)
	n := min(len(steps), max(1, len(steps)/5))
	return steps[:n], steps[len(steps)-n:]
}

func meanStep(steps []PolicyStep) (m PolicyStep) {
	for _, s := range steps {
		by := 1 / float64(len(steps))
		m.Reward += by * s.Reward
		m.KL += by * s.KL
		m.Entropy += by * s.Entropy
		m.Gradient += by * s.Gradient
	}
	return m
}

// WritePlot draws how the round learned, as SVG.
func (r Report) WritePlot(w io.Writer) error {
	if len(r.Thoughts) > 0 {
		return r.plotThoughts(w)
	}
	const window = 10
	x := make([]float64, 0, len(r.Policy))
	var reward, kl, entropy []float64
	var told []PolicyStep
	for i, s := range r.Policy {
		if s.Skipped {
			continue
		}
		told = append(told, s)
		m := meanStep(told[max(0, len(told)-window):])
		x = append(x, float64(i+1))
		reward, kl, entropy = append(reward, m.Reward), append(kl, m.KL), append(entropy, m.Entropy)
	}
	title, subtitle := r.titles(window)
	panels := []chart.Panel{
		{Title: "Expected reward of slot 1 (doubly robust)", XLabel: "step", Lines: []chart.Line{{Name: "reward", X: x, Y: reward}}},
		{Title: "KL from the policy before the round, nats", XLabel: "step", Lines: []chart.Line{{Name: "KL", X: x, Y: kl}}},
		{Title: "Entropy of the policy, nats", XLabel: "step", Lines: []chart.Line{{Name: "entropy", X: x, Y: entropy}}},
	}
	return chart.Write(w, title, subtitle, panels...)
}

func (r Report) titles(window int) (title, subtitle string) {
	return fmt.Sprintf("Round of %s: %s", r.Began, r.Verdict),
		fmt.Sprintf("%d decisions of %d users to learn from, %d for the gate; means of %d steps", r.Training, r.Users, r.Held, window)
}

// reportsFolder holds the reports of rounds that have ended, beside the files of the one under way.
const reportsFolder = "reports"

// end keeps the report, as JSON and as a picture, and removes the round's files.
func (r *round) end() (*Report, error) {
	rep := r.note.Report
	raw, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.path(reportsFolder), 0o700); err != nil {
		return nil, err
	}
	var picture bytes.Buffer
	if err := rep.WritePlot(&picture); err != nil {
		return nil, err
	}
	for ext, content := range map[string][]byte{".json": append(raw, '\n'), ".svg": picture.Bytes()} {
		path := ReportPath(r.Dir, &rep) + ext
		err := gguf.WriteFile(path, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
		if err := errors.Join(err, gguf.RemoveLeft(path)); err != nil {
			return nil, fmt.Errorf("keep the report of a round: %w", err)
		}
	}
	if err := r.clear(); err != nil {
		return nil, fmt.Errorf("remove the files of a round that has ended: %w", err)
	}
	return &rep, nil
}

// ReportPath is where the report of an ended round stands, its extension left out.
func ReportPath(dir string, r *Report) string {
	return filepath.Join(dir, reportsFolder, "round-"+strings.NewReplacer(":", "", ".", "").Replace(r.Began.String()))
}
