package event

import (
	"errors"
	"strings"
)

// Recommendation is the document that apps read, from Redis under RecommendationKey or over HTTP: everything that is
// needed to show a list.
type Recommendation struct {
	Version     int               `json:"version"` // of this document; 1
	UserID      string            `json:"user_id"`
	DecisionID  string            `json:"decision_id,omitempty"` // send it back with impressions and clicks; empty: the decision could not be logged
	GeneratedAt Time              `json:"generated_at"`
	Source      Source            `json:"source"`
	Note        string            `json:"note,omitempty"` // for people: a cold start, or why the graph ranked
	Model       string            `json:"model,omitempty"`
	Adapter     string            `json:"adapter,omitempty"`
	MeasuredBy  Source            `json:"measured_by,omitempty"` // the ranking by which the chains' contributions were measured; absent: they were not
	Items       []RecommendedItem `json:"items"`
}

// RecommendationVersion is the version of the document that this code writes.
const RecommendationVersion = 1

// Why a recommendation may not be given any more.
var (
	ErrForgotten = errors.New("the recommendation was made from what is forgotten by now")
	ErrOutdated  = errors.New("an item of the recommendation was bought or hidden meanwhile or is not to be had any more, or a later one is there")
)

// RecommendedItem is one item of a list, first slot first.
type RecommendedItem struct {
	Position   int      `json:"position"` // 1 is the first
	ItemID     string   `json:"item_id"`
	Title      string   `json:"title"`
	Categories []string `json:"categories,omitempty"`
	Score      float64  `json:"score"` // share of the ranking that it was drawn from, 0 to 1
	Reasons    []Reason `json:"reasons"`
}

// Reason is one argument for an item, in words and as the chains behind the words. Other users appear only as a number
// within this document.
type Reason struct {
	Text   string        `json:"text"`
	Chains []ReasonChain `json:"chains,omitempty"`
}

// ReasonChain is "you chose Via; like-minded user N chose it too, and then this item".
type ReasonChain struct {
	Via       string `json:"via"`
	ViaTitle  string `json:"via_title"`
	Neighbour int    `json:"neighbour"` // number of the like-minded user in this document; 1 is the first

	// Contribution is by how much the log of the item's share would fall without this chain, in nats: a share p would be
	// p·exp(-Contribution). Absent: not measured.
	Contribution *float64 `json:"contribution,omitempty"`
}

// RecommendationKey is the Redis key of a user's Recommendation, a JSON string.
func RecommendationKey(prefix, user string) string {
	return prefix + "rec:{" + keyEscaper.Replace(user) + "}"
}

// TopKey is the Redis key of a user's ranking, a ZSET item id -> score. It shares the Cluster slot of
// RecommendationKey and is written in the same transaction.
func TopKey(prefix, user string) string { return prefix + "top:{" + keyEscaper.Replace(user) + "}" }

// keyEscaper keeps a user id from closing the hash tag of its key early.
var keyEscaper = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")
