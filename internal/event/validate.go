package event

import "slices"

// Validate checks everything but the clock: an event of the future is rejected by DecodeInteraction only.
func (in Interaction) Validate() error { return asError(in.validate(Latest)) }

func (in Interaction) validate(notAfter Time) *Error {
	if err := first(
		checkRequiredID("event_id", in.EventID, maxEventID),
		checkRequiredID("user_id", in.UserID, maxID),
		checkRequiredID("item_id", in.ItemID, maxID),
	); err != nil {
		return err
	}
	if !slices.Contains(Types, in.Type) {
		err := checkOneOf("type", in.Type, Types...)
		if err.Reason == InvalidField {
			err.Reason = UnknownType
		}
		return err
	}
	if in.Value == nil && in.Type == Rating {
		return reject(MissingField, "value", "", "is required for a rating: send the rating as a number")
	}
	if in.Value != nil {
		if err := checkFinite("value", *in.Value); err != nil {
			return err
		}
	}
	if in.Position != nil {
		if err := checkInt("position", *in.Position, 1, maxPosition); err != nil {
			return err
		}
	}
	return first(
		checkTime("timestamp", in.Timestamp, notAfter),
		checkID("decision_id", in.DecisionID, maxName),
		checkID("surface", in.Surface, maxName),
	)
}

// Validate checks an item; a deleted one needs only its id.
func (it Item) Validate() error { return asError(it.validate()) }

func (it Item) validate() *Error {
	if err := checkRequiredID("item_id", it.ItemID, maxID); err != nil || it.Deleted {
		return err
	}
	return first(checkRequired("title", it.Title, maxTitle), checkCategories(it.Categories))
}

// Validate checks everything but the clock: a request to forget the future is rejected by DecodeUser only.
func (u User) Validate() error { return asError(u.validate(Latest)) }

func (u User) validate(notAfter Time) *Error {
	return first(
		checkRequiredID("user_id", u.UserID, maxID),
		checkTime("forget_before", u.ForgetBefore, notAfter),
	)
}

// Attributions of a reward: the event named the decision, it was joined in time, or nothing was earned.
const (
	ByDecision = "decision"
	ByWindow   = "window"
	ByNothing  = "none"
)

// Validate checks a reward, and that what earned it is named exactly if there is something.
func (r Reward) Validate() error { return asError(r.validate()) }

func (r Reward) validate() *Error {
	if err := first(
		checkRequiredID("decision_id", r.DecisionID, maxName),
		checkRequiredID("user_id", r.UserID, maxID),
		checkRequiredID("item_id", r.ItemID, maxID),
		checkInt("position", r.Position, 1, maxPosition),
		checkFinite("value", r.Value),
		checkRange("examination", r.Examination, 0, 1),
		checkOneOf("attribution", r.Attribution, ByDecision, ByWindow, ByNothing),
		checkTime("timestamp", r.Timestamp, Latest),
		checkTime("decided_at", r.DecidedAt, Latest),
		checkID("surface", r.Surface, maxName),
		checkOneOf("source", r.Source, Reasoned, Graph),
		checkID("adapter", r.Adapter, maxDigest),
	); err != nil {
		return err
	}
	if r.Attribution == ByNothing {
		if r.Type != "" || r.EventID != "" {
			return reject(InvalidField, "attribution", r.Attribution, "must say how the interaction earned it: leave out type and event_id, or send decision or window")
		}
		return nil
	}
	if err := checkOneOf("type", r.Type, Types...); err != nil {
		if err.Reason == InvalidField {
			err.Reason = UnknownType
		}
		return err
	}
	return checkRequiredID("event_id", r.EventID, maxEventID)
}

// Readouts are the ways in which a ranking is read out of a model.
var Readouts = []string{"letters", "lines", "pointwise", "verdicts"}

// Validate checks a promotion. Whether it counts depends on the log before it, which is not known here.
func (p Promotion) Validate() error { return asError(p.validate()) }

func (p Promotion) validate() *Error {
	if err := first(
		checkOneOf("kind", p.Kind, Promote, Complete, RollBack, Refuse),
		checkID("adapter", p.Adapter, maxDigest),
		checkID("parent", p.Parent, maxDigest),
		checkRequiredID("base", p.Base, maxDigest),
		checkOneOf("readout", p.Readout, Readouts...),
		checkInt("prompt_version", p.Prompt, 0, maxSmall),
		checkInt("think", p.Think, 0, maxSmall),
		checkRange("share", p.Share, 0, 1),
		checkText("reason", p.Reason, maxText),
		checkTime("timestamp", p.Timestamp, Latest),
	); err != nil {
		return err
	}
	switch {
	case p.Adapter == p.Parent:
		return reject(InvalidField, "adapter", p.Adapter, "is its own parent: a record has to be about another adapter")
	case (p.Share > 0) != (p.Kind == Promote):
		return reject(InvalidField, "share", number(p.Share), "must be above 0 for promote, and absent otherwise")
	case p.Gate == nil && p.Kind == Refuse:
		return reject(MissingField, "gate", "", "is required: say what the gate found")
	case p.Gate != nil && p.Kind != Promote && p.Kind != Refuse:
		return reject(InvalidField, "gate", "", "stands only with promote and refuse")
	case p.Gate != nil:
		return p.Gate.validate().within("gate", -1)
	}
	return nil
}

func (g Gate) validate() *Error {
	err := first(
		checkInt("round", g.Round, 1, maxSmall),
		checkRange("alpha", g.Alpha, 0, 1),
		checkTime("after", g.After, Latest),
		checkTime("until", g.Until, Latest),
		checkInt("decisions", g.Decisions, 1, maxSmall),
		checkInt("users", g.Users, 1, maxSmall),
		checkInt("needed", g.Needed, 0, maxSmall),
		checkFinite("margin", g.Margin),
		checkSize("effective_sample", g.Effective),
		checkRange("clipped", g.Clipped, 0, 1),
		g.SNIPS.validate().within("snips", -1),
		g.DR.validate().within("dr", -1),
	)
	if err == nil && g.Until < g.After {
		err = reject(InvalidField, "until", g.Until.String(), "must not be before after, "+g.After.String())
	}
	return err
}

func (b Bounds) validate() *Error {
	return first(checkFinite("estimate", b.Estimate), checkFinite("low", b.Low), checkFinite("high", b.High))
}
