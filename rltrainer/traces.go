package rltrainer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/r2rec/r2rec/internal/event"
	"github.com/r2rec/r2rec/internal/iot"
	"github.com/r2rec/r2rec/internal/lm"
)

// TraceVersion is of what teachers read and of what is kept of what they write: it changes with them.
const TraceVersion = 2

// Trace is a thought that a teacher wrote about an example, and what became of it.
type Trace struct {
	Example    int          `json:"example"` // which, counted from 0
	Seed       uint64       `json:"seed"`    // of the prompt
	Prompt     string       `json:"prompt,omitempty"`
	Completion string       `json:"completion,omitempty"` // the thought and the answer, as they are to be learned
	Steps      []event.Step `json:"steps,omitempty"`
	Before     float64      `json:"before"`              // log-share of what was chosen, without the thought, nats
	After      float64      `json:"after"`               // with it
	Tries      int          `json:"tries"`               // thoughts that were written for it
	BorneOut   int          `json:"borne_out,omitempty"` // of a kept trace: reasons that name a category which things have that they are about
	Fate       Fate         `json:"fate"`
	Why        string       `json:"why,omitempty"` // what was wrong, in words
}

// Fate of a trace. Its values are few and fixed, so that they can be counted.
type Fate string

// The fates, in the order in which the filters stand: a trace has that of the first which it does not pass.
const (
	NoChain    Fate = "no_chain"   // no chain of the prompt leads to what was chosen: no thought can be grounded
	Failed     Fate = "failed"     // the teacher or the pupil could not answer: nonsense, or a text that is too long
	Broken     Fate = "broken_off" // a reason has no words, or came to no end
	Ungrounded Fate = "ungrounded" // see iot.Fault; or a reason does not name what it is for
	Leaking    Fate = "leaking"    // it speaks of the answer as given
	Parroted   Fate = "parroted"   // a reason says of this thing what the teacher's examples say of another
	Unhelpful  Fate = "unhelpful"  // it makes what was chosen no likelier
	Kept       Fate = "kept"
)

// Fates are all of them, in order.
var Fates = []Fate{NoChain, Failed, Broken, Ungrounded, Leaking, Parroted, Unhelpful, Kept}

// TraceOptions say how a teacher is asked. The zero value of a field takes the default that its comment states.
type TraceOptions struct {
	Steps       int     // reasons of a thought, at most: the others speak for the strongest rivals. Default 2.
	Tries       int     // thoughts that are written until one is kept. Default 3.
	Temperature float64 // of the first try; each further one has .2 more. Default .3.
	MostTokens  int     // of a reason. Default 40.
	Seed        uint64
}

func (o *TraceOptions) fill() error {
	for _, field := range []struct {
		name    string
		value   *int
		usually int
		most    int
	}{{"Steps", &o.Steps, 2, iot.MaxReasons}, {"Tries", &o.Tries, 3, 100}, {"MostTokens", &o.MostTokens, 40, 1000}} {
		if *field.value == 0 {
			*field.value = field.usually
		}
		if *field.value < 1 || *field.value > field.most {
			return fmt.Errorf("traces: %s is %d, must be 1 to %d", field.name, *field.value, field.most)
		}
	}
	if o.Temperature == 0 {
		o.Temperature = .3
	}
	if !(o.Temperature > 0 && o.Temperature <= 2) {
		return fmt.Errorf("traces: Temperature is %v, must be above 0 and at most 2", o.Temperature)
	}
	return nil
}

// Teach has a teacher write a thought that leads from an example's question to what was chosen, by progressive masked
// prompting (iot.Teaching): a reason for each of the strongest rivals, and at last one for what was chosen, which alone is
// written in its knowledge. A thought is kept if it is grounded in the prompt, does not speak of the answer as given, does not repeat the examples, and
// helps: the pupil gives what was chosen a larger share with it than without (R2Rec, arXiv 2506.05069). Of several tries
// the first that is kept counts, or else the last.
//
// pupil reads letters. The same options, models and example give the same trace, whatever was asked before.
func Teach(ctx context.Context, teacher lm.Writer, pupil Ranker, example int, e Example, o TraceOptions) (Trace, error) {
	if err := o.fill(); err != nil {
		return Trace{}, err
	}
	draw := rand.New(rand.NewPCG(o.Seed, uint64(example)))
	t := Trace{Example: example, Seed: draw.Uint64() >> 11} // JSON carries 53 bits
	p, err := iot.Build(iot.Thoughts, e.Context, t.Seed)
	if err == nil && (e.Chosen < 0 || e.Chosen >= len(p.Letters)) {
		err = fmt.Errorf("candidate %d was chosen of %d", e.Chosen, len(p.Letters))
	}
	if err != nil {
		return t, fmt.Errorf("teach example %d: %w", example, err)
	}
	plan := argument(p, e, o.Steps)
	if len(plan) == 0 {
		t.Fate = NoChain
		return t, nil
	}
	if t.Before, err = chosenShare(ctx, pupil, p, e); err != nil {
		return t.failed(err)
	}
	for t.Tries < o.Tries && t.Fate != Kept {
		options := lm.WriteOptions{Most: o.MostTokens, Temperature: min(2, o.Temperature+.2*float64(t.Tries)), Seed: draw.Uint64(), Stop: []string{"\n"}}
		t.Tries++
		if err := t.try(ctx, teacher, pupil, p, e, plan, options); err != nil {
			return t.failed(err)
		}
	}
	return t, nil
}

// failed is a trace that an error ended: where it would come again each time, that is its fate.
func (t Trace) failed(err error) (Trace, error) {
	if errors.Is(err, lm.ErrNonsense) || errors.Is(err, lm.ErrPromptTooLong) {
		t.Fate, t.Why = Failed, err.Error()
		return t, nil
	}
	return t, fmt.Errorf("teach example %d: %w", t.Example, err)
}

// try has one thought written, and judges it.
func (t *Trace) try(ctx context.Context, teacher lm.Writer, pupil Ranker, p iot.Prompt, e Example, plan [][]int, o lm.WriteOptions) error {
	thought := event.Thought{By: event.Reasoned}
	teaching, parroted := iot.NewTeaching(e.Context), 0
	t.Prompt, t.Completion, t.Steps, t.After, t.Why = "", "", nil, 0, ""
	var leaks []string
	for i, chains := range plan {
		text, opening, enough := teaching.Ask(chains, i == len(plan)-1)
		written, err := teacher.Write(ctx, text, 1, o)
		if err != nil {
			return err
		}
		said, _, _ := strings.Cut(written[0].Text, "\n")
		if !written[0].Whole || !enough && !strings.ContainsFunc(said, unicode.IsLetter) {
			t.Fate, t.Why = Broken, fmt.Sprintf("reason %d is %q", i+1, said)
			return nil
		}
		leaks = append(leaks, leak.FindString(said))
		reason := strings.TrimSpace(opening + said)
		teaching.Told(reason)
		if parroted == 0 && iot.Parrots(reason, opening) {
			parroted = i + 1
		}
		thought.Steps = append(thought.Steps, event.Step{ItemID: e.Context.Chains[chains[0]-1].ItemID, Chains: chains, Text: reason})
	}
	t.Prompt, t.Completion = p.Thinking(), p.WriteReply(thought, e.Context, e.Chosen)
	t.Steps = thought.Steps
	read := p.ReadReply(e.Context, t.Completion, true)
	if len(read.Dropped) > 0 || len(read.Thought.Steps) != len(plan) {
		t.Fate = Ungrounded
		t.Why = fmt.Sprint(errors.Join(read.Dropped...))
		return nil
	}
	for i, s := range read.Thought.Steps {
		if !iot.Names(s, e.Context) {
			t.Fate, t.Why = Ungrounded, fmt.Sprintf("reason %d does not name what it is for", i+1)
			return nil
		}
		if leaks[i] != "" { // of its own words: a title may well have one of these
			t.Fate, t.Why = Leaking, fmt.Sprintf("reason %d says %q", i+1, leaks[i])
			return nil
		}
	}
	if parroted > 0 {
		t.Fate, t.Why = Parroted, fmt.Sprintf("reason %d repeats an example", parroted)
		return nil
	}
	var err error
	if t.After, err = chosenShare(ctx, pupil, p.After(read.Thought, e.Context), e); err != nil {
		return err
	}
	t.Completion, t.Steps = p.WriteReply(read.Thought, e.Context, e.Chosen), read.Thought.Steps
	if !(t.After > t.Before) {
		t.Fate = Unhelpful
		return nil
	}
	t.Fate, t.BorneOut = Kept, iot.BorneOut(read.Thought, e.Context)
	return nil
}

// leak finds words by which a thought gives away that its writer was told the answer.
var leak = regexp.MustCompile(`(?i)\b(answers?|correct|given|told|hint|guidance|already (chose|liked|went)|is known|as known|user (chose|went on)|reason explains)\b`)

// argument is what a thought is to cite, step by step: chains to the strongest rivals of what was chosen, then chains to
// it. Nothing, where no chain of the prompt leads to it.
func argument(p iot.Prompt, e Example, steps int) [][]int {
	last := citable(p, e.Context, p.Letters[e.Chosen])
	if len(last) == 0 {
		return nil
	}
	var plan [][]int
	seen := []byte{p.Letters[e.Chosen]}
	for _, l := range p.Content.Chains { // strongest first
		if len(plan) == steps-1 || l.Number > last[0] {
			break // a weaker rival needs no word
		}
		if !slices.Contains(seen, l.Letter) {
			seen = append(seen, l.Letter)
			plan = append(plan, citable(p, e.Context, l.Letter))
		}
	}
	return append(plan, last)
}

// citable are the strongest chains of a prompt to a candidate, at most two, of different neighbours: what a reason cites.
func citable(p iot.Prompt, c event.Context, letter byte) (chains []int) {
	for _, l := range p.Content.Chains {
		if l.Letter == letter && len(chains) < 2 && (len(chains) == 0 || c.Chains[chains[0]-1].Neighbour != c.Chains[l.Number-1].Neighbour) {
			chains = append(chains, l.Number)
		}
	}
	return chains
}

// chosenShare is the log-share that a model gives to what was chosen, nats.
func chosenShare(ctx context.Context, r Ranker, p iot.Prompt, e Example) (float64, error) {
	shares, err := r.Rank(ctx, p)
	if err != nil {
		return 0, err
	}
	return shares[e.Chosen], nil
}
