package event

import (
	"math"
	"regexp"
	"slices"
	"strconv"
)

// Validate checks each field, and that the parts fit together: one score a candidate, a slate of candidates in order of
// position, steps about shown items that cite existing chains.
func (d Decision) Validate() error { return asError(d.validate()) }

func (d Decision) validate() *Error {
	if err := first(
		checkRequiredID("decision_id", d.DecisionID, maxName),
		checkRequiredID("user_id", d.UserID, maxID),
		checkTime("timestamp", d.Timestamp, Latest),
		checkID("surface", d.Surface, maxName),
		checkOneOf("source", d.Source, Reasoned, Graph),
		checkText("fallback", d.Fallback, maxText),
		checkID("weights", d.Weights, maxDigest),
		checkSize("temperature", d.Temperature),
		checkRange("model_weight", d.ModelWeight, 0, 1),
		d.Context.validate().within("context", -1),
	); err != nil {
		return err
	}
	if d.Seed > maxSeed {
		return reject(InvalidField, "seed", strconv.FormatUint(d.Seed, 10), "must be below 2^53, so that every reader keeps it exact")
	}
	if (d.Source == Reasoned) != (d.Model != nil) {
		return reject(InvalidField, "model", "", "must be there exactly if source is reasoned")
	}
	if d.Model != nil {
		if err := d.Model.validate(); err != nil {
			return err.within("model", -1)
		}
	}
	if err := d.validateScores(); err != nil {
		return err
	}
	if err := d.validateSlate(); err != nil {
		return err
	}
	return d.validateThought()
}

func (d Decision) validateScores() *Error {
	if len(d.Scores) != len(d.Context.Candidates) {
		return reject(InvalidField, "scores", strconv.Itoa(len(d.Scores)), "must be one a candidate, in their order")
	}
	for i, s := range d.Scores {
		err := first(checkID("letter", s.Letter, maxName), checkRange("graph", s.Graph, 0, 1), checkFinite("final", s.Final))
		if err == nil && s.Model != nil {
			err = checkRange("model", *s.Model, 0, 1)
		}
		if err != nil {
			return err.within("scores", i)
		}
	}
	return nil
}

func (d Decision) validateSlate() *Error {
	candidate := make(map[string]bool, len(d.Context.Candidates))
	for _, c := range d.Context.Candidates {
		candidate[c.ItemID] = true
	}
	for i, s := range d.Slate {
		err := checkRange("probability", s.Probability, 0, 1)
		switch {
		case err != nil:
		case s.Probability == 0:
			err = reject(InvalidField, "probability", "0", "must be above 0: what was drawn was possible")
		case s.Position != i+1:
			err = reject(InvalidField, "position", strconv.Itoa(s.Position), "must count the slots from 1 on")
		case !candidate[s.ItemID]:
			err = reject(InvalidField, "item_id", s.ItemID, "must be a candidate, and stand in one slot only")
		}
		if err != nil {
			return err.within("slate", i)
		}
		candidate[s.ItemID] = false
	}
	return nil
}

func (d Decision) validateThought() *Error {
	if err := checkOneOf("thought.by", d.Thought.By, Reasoned, Graph); err != nil {
		return err
	}
	for i, s := range d.Said {
		err := s.validate(d.Context)
		if err == nil && !slices.ContainsFunc(d.Context.Candidates, func(c Candidate) bool { return c.ItemID == s.ItemID }) {
			err = reject(InvalidField, "item_id", s.ItemID, "must be a candidate")
		}
		if err != nil {
			return err.within("said", i)
		}
	}
	for i, s := range d.Thought.Steps {
		err := s.validate(d.Context)
		if err == nil && !slices.ContainsFunc(d.Slate, func(slot Slot) bool { return slot.ItemID == s.ItemID }) {
			err = reject(InvalidField, "item_id", s.ItemID, "must be an item of the slate")
		}
		if err != nil {
			return err.within("thought.steps", i)
		}
	}
	return d.Thought.Masking.validate().within("thought.masking", -1)
}

func (s Step) validate(c Context) *Error {
	if err := checkRequired("text", s.Text, maxText); err != nil {
		return err
	}
	if s.By != "" {
		if err := checkOneOf("by", s.By, Reasoned, Graph); err != nil {
			return err
		}
	}
	for j, n := range s.Chains {
		if n < 1 || n > len(c.Chains) {
			return reject(InvalidField, "", strconv.Itoa(n), "must be the number of a chain of the context").within("chains", j)
		}
	}
	return s.validateContributions()
}

func (s Step) validateContributions() *Error {
	if len(s.Contributions) != 0 && len(s.Contributions) != len(s.Chains) {
		return reject(InvalidField, "contributions", strconv.Itoa(len(s.Contributions)), "must be one a chain, in their order, or absent")
	}
	for i, x := range s.Contributions {
		if x == nil {
			continue
		}
		if err := checkFinite("", *x); err != nil {
			return err.within("contributions", i)
		}
	}
	return nil
}

func (m *Masking) validate() *Error {
	if m == nil {
		return nil
	}
	return first(
		checkOneOf("by", m.By, Reasoned, Graph),
		checkInt("proposed", m.Proposed, 0, maxSmall),
		checkInt("measured", m.Measured, 0, m.Proposed),
		checkInt("positive", m.Positive, 0, m.Measured),
	)
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m *Model) validate() *Error {
	if err := first(
		checkRequired("name", m.Name, maxTitle),
		checkRequiredID("digest", m.Digest, maxDigest),
		checkID("adapter", m.Adapter, maxDigest),
		checkOneOf("readout", m.Readout, Readouts...),
		checkInt("prompt_version", m.PromptVersion, 0, maxSmall),
		checkInt("think", m.Think, 0, maxSmall),
	); err != nil {
		return err
	}
	if !hexDigest.MatchString(m.PromptDigest) {
		return reject(InvalidField, "prompt_digest", m.PromptDigest, "must be a SHA-256 in 64 lower-case hexadecimal digits")
	}
	return nil
}

// Validate checks what a ranking is made from, as DecodeDecision does.
func (c Context) Validate() error { return asError(c.validate()) }

func (c Context) validate() *Error {
	if err := first(checkInt("likes", c.Likes, 0, maxSmall), checkSize("idle", c.Idle), checkRange("draw", c.Draw, math.Inf(-1), math.Inf(1))); err != nil {
		return err
	}
	for i, h := range c.History {
		if err := first(checkShown(h.ItemID, h.Title, h.Categories), checkTime("timestamp", h.Timestamp, Latest)); err != nil {
			return err.within("history", i)
		}
	}
	seen := make(map[string]bool, len(c.Candidates))
	for i, cand := range c.Candidates {
		err := first(
			checkShown(cand.ItemID, cand.Title, cand.Categories),
			checkOneOf("origin", cand.Origin, FromChains, FromTrends, FromExplore),
			cand.Evidence.validate().within("evidence", -1),
		)
		if err == nil && seen[cand.ItemID] {
			err = reject(InvalidField, "item_id", cand.ItemID, "stands twice: list each candidate once")
		}
		if err != nil {
			return err.within("candidates", i)
		}
		seen[cand.ItemID] = true
	}
	for i, ch := range c.Chains {
		if err := first(
			checkRequiredID("via", ch.Via, maxID),
			checkRequiredID("neighbour", ch.Neighbour, maxID),
			checkRequiredID("item_id", ch.ItemID, maxID),
			checkSize("weight", ch.Weight),
			checkInt("shared", ch.Shared, 0, maxSmall),
			checkTime("neighbour_at", ch.NeighbourAt, Latest),
		); err != nil {
			return err.within("chains", i)
		}
	}
	return nil
}

func (e Evidence) validate() *Error {
	err := first(
		checkSize("chains", e.Chains),
		checkInt("support", e.Support, 0, maxSmall),
		checkSize("like_minded", e.LikeMinded),
		checkSize("interest", e.Interest),
		checkSize("similar", e.Similar),
		checkSize("similar_last", e.SimilarLast),
		checkSize("similar_recent", e.SimilarRecent),
		checkSize("similar_any", e.SimilarAny),
		checkSize("best", e.Best),
		checkSize("lift", e.Lift),
		checkSize("together", e.Together),
		checkInt("popularity", e.Popularity, 0, maxSmall),
		checkSize("liked", e.Liked),
		checkRange("category", e.Category, 0, 1),
	)
	for _, list := range []struct {
		field  string
		values []float64
	}{
		{"like_minded_recent", e.LikeMindedRecent[:]}, {"after", e.After[:]}, {"before", e.Before[:]},
		{"near", e.Near[:]}, {"transition", e.Transition[:]}, {"session", e.Session[:]},
		{"recent", e.Recent[:]}, {"recent_any", e.RecentAny[:]}, {"ages", e.Ages[:]}, {"latent", e.Latent[:]},
	} {
		for i, v := range list.values {
			if err == nil {
				err = checkSize(list.field+"["+strconv.Itoa(i)+"]", v)
			}
		}
	}
	return err
}

// checkShown checks an item as the catalogue gave it. Events may come before their item's record: the title may be
// missing.
func checkShown(itemID, title string, categories []string) *Error {
	return first(checkRequiredID("item_id", itemID, maxID), checkText("title", title, maxTitle), checkCategories(categories))
}

// Validate checks each field, that the items stand in order of position, and that neighbours are numbered from 1 on.
func (r Recommendation) Validate() error { return asError(r.validate()) }

func (r Recommendation) validate() *Error {
	if r.Version != RecommendationVersion {
		return reject(InvalidField, "version", strconv.Itoa(r.Version), "must be "+strconv.Itoa(RecommendationVersion)+", the one version that this program knows")
	}
	if err := first(
		checkRequiredID("user_id", r.UserID, maxID),
		checkID("decision_id", r.DecisionID, maxName),
		checkTime("generated_at", r.GeneratedAt, Latest),
		checkOneOf("source", r.Source, Reasoned, Graph),
		checkText("note", r.Note, maxText),
		checkText("model", r.Model, maxTitle),
		checkID("adapter", r.Adapter, maxDigest),
	); err != nil {
		return err
	}
	if r.MeasuredBy != "" {
		if err := checkOneOf("measured_by", r.MeasuredBy, Reasoned, Graph); err != nil {
			return err
		}
	}
	for i, it := range r.Items {
		err := first(checkShown(it.ItemID, it.Title, it.Categories), checkRange("score", it.Score, 0, 1))
		if err == nil && it.Position != i+1 {
			err = reject(InvalidField, "position", strconv.Itoa(it.Position), "must count the items from 1 on")
		}
		for j, reason := range it.Reasons {
			if err == nil {
				err = reason.validate().within("reasons", j)
			}
		}
		if err != nil {
			return err.within("items", i)
		}
	}
	return nil
}

func (r Reason) validate() *Error {
	if err := checkRequired("text", r.Text, maxText); err != nil {
		return err
	}
	for i, c := range r.Chains {
		if err := first(
			checkRequiredID("via", c.Via, maxID),
			checkText("via_title", c.ViaTitle, maxTitle),
			checkInt("neighbour", c.Neighbour, 1, maxSmall),
		); err != nil {
			return err.within("chains", i)
		}
		if c.Contribution != nil {
			if err := checkFinite("contribution", *c.Contribution); err != nil {
				return err.within("chains", i)
			}
		}
	}
	return nil
}
