package event

import "encoding/json"

// A required list is written as [] where it is empty, never as null: readers in other languages loop over it.

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// MarshalJSON writes empty lists as [].
func (d Decision) MarshalJSON() ([]byte, error) {
	type plain Decision
	d.Scores, d.Slate = list(d.Scores), list(d.Slate)
	return json.Marshal(plain(d))
}

// MarshalJSON writes empty lists as [].
func (c Context) MarshalJSON() ([]byte, error) {
	type plain Context
	c.History, c.Candidates, c.Chains = list(c.History), list(c.Candidates), list(c.Chains)
	return json.Marshal(plain(c))
}

// MarshalJSON writes empty lists as [].
func (t Thought) MarshalJSON() ([]byte, error) {
	type plain Thought
	t.Steps = list(t.Steps)
	return json.Marshal(plain(t))
}

// MarshalJSON writes empty lists as [].
func (s Step) MarshalJSON() ([]byte, error) {
	type plain Step
	s.Chains = list(s.Chains)
	return json.Marshal(plain(s))
}

// MarshalJSON writes empty lists as [].
func (r Recommendation) MarshalJSON() ([]byte, error) {
	type plain Recommendation
	r.Items = list(r.Items)
	return json.Marshal(plain(r))
}

// MarshalJSON writes empty lists as [].
func (it RecommendedItem) MarshalJSON() ([]byte, error) {
	type plain RecommendedItem
	it.Reasons = list(it.Reasons)
	return json.Marshal(plain(it))
}
