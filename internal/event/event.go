// Package event holds r2rec's wire contracts: what producers write to Kafka, what r2rec writes back to Kafka, and the
// document that apps read from Redis or over HTTP.
//
// Every type is plain data with a JSON form; docs/contracts.md describes it for people and docs/schemas for machines.
// Decoding is strict about what a field means and tolerant of fields it does not know: a value that breaks a rule gives
// an *Error that names the field, the value and the rule, so that it can be counted, dead-lettered and shown to the
// producer. Nothing here reads a clock or talks to a server.
//
// The package imports nothing of the project, so that every other package can import it.
package event

import (
	"slices"
	"time"
)

// Type says what a user did to an item.
type Type string

// The interaction types a producer may send.
const (
	View       Type = "view"       // opened or looked at; not an edge of the graph
	Impression Type = "impression" // was shown; not an edge, but what makes a decision count for learning
	Click      Type = "click"
	Like       Type = "like"
	Cart       Type = "cart"
	Purchase   Type = "purchase"
	Rating     Type = "rating" // carries a value
	Dislike    Type = "dislike"
	Hide       Type = "hide" // "never show me this again"
)

// Types lists every interaction type, in the order of the constants.
var Types = []Type{View, Impression, Click, Like, Cart, Purchase, Rating, Dislike, Hide}

// Interaction is one event on the topic `interactions`: a user did something to an item.
type Interaction struct {
	EventID    string   `json:"event_id"`
	UserID     string   `json:"user_id"`
	ItemID     string   `json:"item_id"`
	Type       Type     `json:"type"`
	Value      *float64 `json:"value,omitempty"` // the rating; required for type rating
	Timestamp  Time     `json:"timestamp"`
	DecisionID string   `json:"decision_id,omitempty"` // the decision that showed the item, where the app knows it
	Position   *int     `json:"position,omitempty"`    // slot in that list, 1 is the first
	Surface    string   `json:"surface,omitempty"`     // which page or slot group
}

// Item is one record of the compacted topic `items`, keyed by item id: the catalogue. A record with a null value
// deletes the item; it decodes to an Item with Deleted set.
type Item struct {
	ItemID     string   `json:"item_id"`
	Title      string   `json:"title"`
	Categories []string `json:"categories,omitempty"`
	Available  *bool    `json:"available,omitempty"` // nil means available
	Deleted    bool     `json:"-"`
}

// IsAvailable tells whether the item may be recommended.
func (it Item) IsAvailable() bool { return !it.Deleted && (it.Available == nil || *it.Available) }

// User is one record of the compacted topic `users`, keyed by user id: everything the user did before ForgetBefore is
// to be forgotten.
type User struct {
	UserID       string `json:"user_id"`
	ForgetBefore Time   `json:"forget_before"`
}

// Source says who ranked a recommendation.
type Source string

// A recommendation is ranked by the language model over the graph's evidence, or by the graph alone.
const (
	Reasoned Source = "reasoned"
	Graph    Source = "graph"
)

// Decision is one record of the topic `decisions`, keyed by user id: what was asked, seen, thought, ranked and drawn,
// with everything needed to compute all of it again.
type Decision struct {
	DecisionID  string  `json:"decision_id"`
	UserID      string  `json:"user_id"`
	Timestamp   Time    `json:"timestamp"` // when it was made
	Surface     string  `json:"surface,omitempty"`
	Source      Source  `json:"source"`
	Fallback    string  `json:"fallback,omitempty"` // why the graph's ranking was served although a model is configured
	Control     bool    `json:"control"`            // the user belongs to the share that always gets the graph's ranking
	Explore     bool    `json:"explore"`            // the slate was drawn; false: it is the greedy top K
	Model       *Model  `json:"model,omitempty"`    // who reasoned; absent where Source is graph
	Weights     string  `json:"weights,omitempty"`  // digest of the weights by which the graph ranked the evidence
	Seed        uint64  `json:"seed"`               // of the shuffle and the draw; below 2^53
	Temperature float64 `json:"temperature"`        // τ of the softmax that was drawn from
	ModelWeight float64 `json:"model_weight"`       // the model's part in the ranking beside the graph's, 0 to 1; 0 where Source is graph
	Context     Context `json:"context"`            // what the prompt was built from
	Scores      []Score `json:"scores"`             // one a candidate, in the order of Context.Candidates
	Slate       []Slot  `json:"slate"`              // the K items that were drawn, first slot first
	Said        []Step  `json:"said,omitempty"`     // what the model wrote before it answered, as it stands in the prompt: about any of the candidates
	Thought     Thought `json:"thought"`
}

// Model names the exact model that ranked: two decisions with equal Models were ranked by the same weights reading the
// same kind of prompt.
type Model struct {
	Name          string `json:"name"`
	Digest        string `json:"digest"`            // of the base model, as its server states it
	Adapter       string `json:"adapter,omitempty"` // digest of the adapter; empty: none
	Readout       string `json:"readout"`           // letters, lines, pointwise or verdicts
	PromptVersion int    `json:"prompt_version"`
	Think         int    `json:"think,omitempty"` // tokens of the thought that it writes before it answers, at most; 0: it answers at once
	PromptDigest  string `json:"prompt_digest"`   // SHA-256 of the prompt's bytes, in hexadecimal
}

// Context is what a ranking is made from: the user's recent history, the candidates with their evidence and the
// chains that support them. It is a snapshot; a prompt is a pure function of it, the prompt version and the seed.
type Context struct {
	History    []HistoryItem `json:"history"`        // newest first
	Likes      int           `json:"likes"`          // the user's positive edges, at most the bound
	Idle       float64       `json:"idle"`           // seconds since the user's newest edge of any kind; 0: there is none
	Draw       float64       `json:"draw,omitempty"` // how the candidates were drawn, where they were: 0 uniformly, 1 in proportion to popularity, between them a mixture
	Candidates []Candidate   `json:"candidates"`
	Chains     []Chain       `json:"chains"` // strongest first; a step cites them by number, 1 is the first
}

// Candidate is the index of an item among the candidates; -1: it is none of them.
func (c Context) Candidate(item string) int {
	return slices.IndexFunc(c.Candidates, func(it Candidate) bool { return it.ItemID == item })
}

// HistoryItem is an item the user chose.
type HistoryItem struct {
	ItemID     string   `json:"item_id"`
	Title      string   `json:"title"`
	Categories []string `json:"categories,omitempty"`
	Timestamp  Time     `json:"timestamp"`
}

// Candidate is an item that may be shown, and what the graph knows about it for this user.
type Candidate struct {
	ItemID     string   `json:"item_id"`
	Title      string   `json:"title"`
	Categories []string `json:"categories,omitempty"`
	Origin     Origin   `json:"origin"`
	Evidence   Evidence `json:"evidence"`
}

// Origin says which stage proposed a candidate.
type Origin string

// A candidate comes from the chains, from what is popular at the moment, or from exploration.
const (
	FromChains  Origin = "chains"
	FromTrends  Origin = "trends"
	FromExplore Origin = "explore"
)

// Evidence is what the graph tells about one candidate of one user, all of it counted from lists that keep their newest
// edges. Values are 0 or larger, and but for Ages larger is stronger; only a value's size relative to the other
// candidates of the same list means something. A choice is a positive edge. The history is the user's newest 32 choices
// (graphcache.Read) and, for values over edges of every kind, the newest 32 other edges among them: place is the position
// there, 0 is the newest. cos is the cosine of two items' lists, or that of two users' in the choices that they share, over
// the root of the user's choices times all of the other's edges. Ages are counted from the moment of asking, and halving by
// age from the newest edge of any candidate, which within a list comes to the same. After, Before, Together, Near,
// Transition, Session, Interest and SimilarAny are over edges of every kind.
type Evidence struct {
	Chains           float64    `json:"chains"`             // summed weight of the chains that support it
	Support          int        `json:"support"`            // like-minded users who have it
	LikeMinded       float64    `json:"like_minded"`        // their squared cos, summed
	LikeMindedRecent [3]float64 `json:"like_minded_recent"` // the same, each choice halved every HalfLives[k]
	Interest         float64    `json:"interest"`           // as LikeMinded, over edges of every kind: who dealt with the same things dealt with this
	Similar          float64    `json:"similar"`            // cos with each item of the history, summed, halved every 10 places
	SimilarLast      float64    `json:"similar_last"`       // the same, halved every 3 places
	SimilarRecent    float64    `json:"similar_recent"`     // as Similar, the common users' choices halved every HalfLives[1]
	SimilarAny       float64    `json:"similar_any"`        // as Similar, over edges of every kind
	Best             float64    `json:"best"`               // largest cos with one of the newest ten of the history
	Lift             float64    `json:"lift"`               // common users over the product of both lists' lengths, summed and halved as Similar
	After            [3]float64 `json:"after"`              // users who went on to it from an item of the history, each worth 1/(1 + gap/Gaps[k]) over the root of both lists' lengths, halved every 4 places
	Before           [3]float64 `json:"before"`             // users who had it before an item of the history, likewise
	Together         float64    `json:"together"`           // users who dealt with both less than two minutes apart, each worth 1 over the same root, halved likewise
	Near             [3]float64 `json:"near"`               // as After and Before together, but halved every place with a gap of NearGap, every place with Gaps[0], and every 32 places with Gaps[0]
	Transition       [2]float64 `json:"transition"`         // as After[0] and Before[0] together, but over the length of the history's item's list alone, and over the product of both lengths
	Session          [2]float64 `json:"session"`            // as Together, but less than ten minutes apart and halved every 10 places, and less than a day and halved every 32
	Recent           [3]float64 `json:"recent"`             // choices of it, each halved every HalfLives[k]
	RecentAny        [3]float64 `json:"recent_any"`         // as Recent, over edges of every kind
	Popularity       int        `json:"popularity"`         // users in the item's list, at most the list's bound
	Liked            float64    `json:"liked"`              // those of them who chose it; of a list that was read in part, by the share of the part
	Ages             [4]float64 `json:"ages"`               // seconds since it was last chosen, 3 and 10 times ago, and first as far as known; 0: never
	Latent           [2]float64 `json:"latent"`             // inner product of the latent factors of the user and the item (internal/factors), and that over the length of the item's; 0: below 0, or there are no factors
	Category         float64    `json:"category"`           // share of the history's category mentions, halved every 10 places, that it covers, 0 to 1
}

// HalfLives in which a choice counts half, for Evidence: two weeks, half a year, four years. A ranking weighs them; no
// single one suits every catalogue.
var HalfLives = [3]time.Duration{14 * 24 * time.Hour, 180 * 24 * time.Hour, 1460 * 24 * time.Hour}

// Gaps between two things that a user did, at which the first counts half for the second, for Evidence.
var Gaps = [3]time.Duration{time.Minute, 20 * time.Minute, 24 * time.Hour}

// NearGap is such a gap for two things that were done at once: on one page, or one after the other.
const NearGap = 5 * time.Second

// Chain is user -> Via -> Neighbour -> ItemID: the user and the neighbour share Via, and the neighbour has ItemID.
type Chain struct {
	Via         string  `json:"via"`
	Neighbour   string  `json:"neighbour"`
	ItemID      string  `json:"item_id"`
	Weight      float64 `json:"weight"`
	Shared      int     `json:"shared"`       // items that the user and the neighbour share; two or more: the chain is closed
	NeighbourAt Time    `json:"neighbour_at"` // when the neighbour chose ItemID
}

// Score is how one candidate was ranked. Shares are probabilities over the candidates and sum to 1.
type Score struct {
	Letter string   `json:"letter,omitempty"` // its letter in the prompt, where there was one
	Graph  float64  `json:"graph"`            // share by the graph's ranking
	Model  *float64 `json:"model,omitempty"`  // share by the model, where one ranked
	Final  float64  `json:"final"`            // log of the share by which it was ranked
}

// Slot is one shown item. Probability is that of drawing this item into this slot, given the slots before it; 1 where
// the slate is greedy.
type Slot struct {
	Position    int     `json:"position"` // 1 is the first
	ItemID      string  `json:"item_id"`
	Probability float64 `json:"probability"`
}

// Thought is the reasoning behind a slate. Every edge it cites was in the Context.
type Thought struct {
	By      Source   `json:"by"` // graph: found from the chains; reasoned: written by the model
	Steps   []Step   `json:"steps"`
	Masking *Masking `json:"masking,omitempty"` // how its chains were measured; absent: they were not
}

// Masking is what became of the chains that were proposed for a thought. Each is taken away in turn: the evidence is
// computed again without its last edge, and all candidates are ranked again.
type Masking struct {
	By       Source `json:"by"`       // graph: by the graph's ranking alone; reasoned: by the one that was served
	Proposed int    `json:"proposed"` // chains
	Measured int    `json:"measured"` // of them; the others had to be left for want of time or because the model failed
	Positive int    `json:"positive"` // of the measured: without it the item's share would be smaller
}

// Author is who wrote one of its steps.
func (t Thought) Author(s Step) Source {
	if s.By != "" {
		return s.By
	}
	return t.By
}

// Step is one argument for one shown item.
type Step struct {
	ItemID string `json:"item_id"`
	Text   string `json:"text"`
	By     Source `json:"by,omitempty"` // who wrote it, where that is not who wrote the thought: graph, for items that a model has no word for
	Chains []int  `json:"chains"`       // numbers of the Context's chains that it cites; 1 is the first

	// Contributions has one entry a chain, or none at all: by how much the log of the item's share would fall without
	// that chain, in nats; null where it was not measured. Thought.Masking says by which ranking.
	Contributions []*float64 `json:"contributions,omitempty"`
}

// Reward is one record of the topic `rewards`, keyed by user id: what one slot of a shown decision earned. Decision and
// position identify it; it can arrive more than once, and is the same each time. What the decision says of who ranked
// stands here again, so that rewards can be counted by adapter without it.
type Reward struct {
	DecisionID  string  `json:"decision_id"`
	UserID      string  `json:"user_id"`
	ItemID      string  `json:"item_id"`
	Position    int     `json:"position"`
	Value       float64 `json:"value"`
	Examination float64 `json:"examination"`        // probability that the slot was looked at, 0 to 1; a value of 0 says nothing about a slot that was not
	Type        Type    `json:"type,omitempty"`     // the interaction that earned it; empty: nothing did
	EventID     string  `json:"event_id,omitempty"` // of that interaction
	Attribution string  `json:"attribution"`        // decision (the event named it), window (joined in time) or none
	Timestamp   Time    `json:"timestamp"`          // event time at which it became final

	DecidedAt Time   `json:"decided_at"` // the decision's own timestamp
	Surface   string `json:"surface,omitempty"`
	Source    Source `json:"source"`            // who ranked
	Adapter   string `json:"adapter,omitempty"` // digest, where a model with one ranked
	Control   bool   `json:"control"`
	Explore   bool   `json:"explore"`
}

// PromotionKind says what a record of the topic `adapters` does.
type PromotionKind string

// The log of adapters moves forward to a new adapter, first for a share of the users and then for all, or back to an
// earlier one; and it keeps what gates refused, because they have used up decisions and chances.
const (
	Promote  PromotionKind = "promote"  // begin to serve Adapter in place of Parent: to a share of the users, or to all
	Complete PromotionKind = "complete" // Adapter, which a share of the users has, is served to all
	RollBack PromotionKind = "rollback" // serve Adapter again in place of Parent
	Refuse   PromotionKind = "refuse"   // Adapter did not pass the gate, Parent stays
)

// Promotion is one record of the topic `adapters`. Whether it counts depends on the log before it: Parent has to be the
// adapter that is current at its offset, or, for a roll-back, the one that is being rolled out.
type Promotion struct {
	Kind      PromotionKind `json:"kind"`
	Adapter   string        `json:"adapter"` // digest of the adapter to serve; empty: the bare base model
	Parent    string        `json:"parent"`  // digest of the adapter it replaces; empty: the bare base model
	Base      string        `json:"base"`    // digest of the base model it belongs to
	Readout   string        `json:"readout"`
	Prompt    int           `json:"prompt_version"`
	Think     int           `json:"think,omitempty"` // as of Model: a server that has it think otherwise refuses it
	Share     float64       `json:"share,omitempty"` // promote: of the users who get it first, above 0; 1: all
	Gate      *Gate         `json:"gate,omitempty"`  // promote and refuse: what the gate found; absent where a person decided
	Reason    string        `json:"reason"`
	Timestamp Time          `json:"timestamp"`
}

// Gate is one look of the off-policy gate: how much more slot 1 would have earned by the new adapter than by the one
// that served, by decisions that neither was trained on.
type Gate struct {
	Round     int     `json:"round"` // the number of this look since a promotion last held for all users; 1 is the first
	Alpha     float64 `json:"alpha"` // share of false alarms that this look may spend
	After     Time    `json:"after"` // it used decisions later than this
	Until     Time    `json:"until"` // and not later than this: no later gate uses them again
	Decisions int     `json:"decisions"`
	Users     int     `json:"users"`
	Needed    int     `json:"needed"` // decisions that would show a difference worth detecting, beyond Margin, with a chance of .8
	Margin    float64 `json:"margin"` // reward a decision that the lower bounds have to clear
	Effective float64 `json:"effective_sample"`
	Clipped   float64 `json:"clipped"` // share of the decisions whose weight was clipped
	SNIPS     Bounds  `json:"snips"`
	DR        Bounds  `json:"dr"`
}

// Bounds is an estimate with its interval.
type Bounds struct {
	Estimate float64 `json:"estimate"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
}
