package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// The largest encoded records, in bytes. A decision stays below what a Kafka broker accepts by default.
const (
	MaxInteractionBytes    = 64 << 10
	MaxItemBytes           = 256 << 10
	MaxUserBytes           = 4 << 10
	MaxDecisionBytes       = 1_000_000
	MaxRewardBytes         = 64 << 10
	MaxPromotionBytes      = 64 << 10
	MaxRecommendationBytes = 1_000_000
)

// DecodeInteraction decodes and validates one value of the topic `interactions`. notAfter is the latest timestamp that
// is accepted: the record's own Kafka time plus the allowed skew, so that a replay reaches the same verdict.
func DecodeInteraction(raw []byte, notAfter Time) (Interaction, error) {
	var err *Error
	in, ok := decodePlain(raw)
	if !ok || !utf8.Valid(raw) {
		in, err = decode[Interaction](raw, interactionNames, MaxInteractionBytes)
	}
	if err == nil {
		err = in.validate(notAfter)
	}
	return result(in, err)
}

// DecodeItem decodes and validates one record of the topic `items`. An empty raw (a null value) deletes the item that
// the key names; otherwise the key has to equal item_id, because compaction goes by it.
func DecodeItem(key, raw []byte) (Item, error) {
	it := Item{ItemID: string(key), Deleted: true}
	var err *Error
	if len(raw) > 0 {
		it, err = decode[Item](raw, itemNames, MaxItemBytes)
	}
	if err == nil {
		err = it.validate()
	}
	if err == nil {
		err = checkKey(key, "item_id", it.ItemID)
	}
	return result(it, err)
}

// DecodeUser decodes and validates one record of the topic `users`. The key has to equal user_id; notAfter is as for
// DecodeInteraction. A null value is rejected: it would let compaction forget that the user is to be forgotten.
func DecodeUser(key, raw []byte, notAfter Time) (User, error) {
	u, err := decode[User](raw, userNames, MaxUserBytes)
	if err == nil {
		err = u.validate(notAfter)
	}
	if err == nil {
		err = checkKey(key, "user_id", u.UserID)
	}
	return result(u, err)
}

// DecodeDecision decodes and validates one value of the topic `decisions`.
func DecodeDecision(raw []byte) (Decision, error) {
	d, err := decode[Decision](raw, decisionNames, MaxDecisionBytes)
	if err == nil {
		err = d.validate()
	}
	return result(d, err)
}

// DecodeReward decodes and validates one value of the topic `rewards`.
func DecodeReward(raw []byte) (Reward, error) {
	r, err := decode[Reward](raw, rewardNames, MaxRewardBytes)
	if err == nil {
		err = r.validate()
	}
	return result(r, err)
}

// DecodePromotion decodes and validates one value of the topic `adapters`.
func DecodePromotion(raw []byte) (Promotion, error) {
	p, err := decode[Promotion](raw, promotionNames, MaxPromotionBytes)
	if err == nil {
		err = p.validate()
	}
	return result(p, err)
}

// DecodeRecommendation decodes and validates the document under RecommendationKey.
func DecodeRecommendation(raw []byte) (Recommendation, error) {
	r, err := decode[Recommendation](raw, recommendationNames, MaxRecommendationBytes)
	if err == nil {
		err = r.validate()
	}
	return result(r, err)
}

// Contract is a value that can be published.
type Contract interface {
	Interaction | Item | User | Decision | Reward | Promotion | Recommendation
	Validate() error
}

// Encode validates a value and gives its JSON, which decodes to an equal value (nil and empty lists apart). A deleted
// item gives nil: publish it as a null value. Writers call it and nothing else, so that no invalid record is published.
func Encode[T Contract](v T) ([]byte, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	var limit int
	switch v := any(v).(type) {
	case Interaction:
		limit = MaxInteractionBytes
	case Item:
		if v.Deleted {
			return nil, nil
		}
		limit = MaxItemBytes
	case User:
		limit = MaxUserBytes
	case Decision:
		limit = MaxDecisionBytes
	case Reward:
		limit = MaxRewardBytes
	case Promotion:
		limit = MaxPromotionBytes
	case Recommendation:
		limit = MaxRecommendationBytes
	}
	raw, err := json.Marshal(v)
	if err != nil { // Validate has refused what JSON cannot express
		return nil, reject(InvalidField, "", "", "cannot be written as JSON: "+err.Error())
	}
	if len(raw) > limit {
		return nil, tooLarge(len(raw), limit)
	}
	return raw, nil
}

// result gives nothing but the error where there is one.
func result[T any](v T, err *Error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// decode checks the form of a record and leaves its rules to the caller. encoding/json lets through three things that a
// contract must not: it replaces invalid UTF-8, matches names in any case, and lets the last of two equal fields win.
func decode[T any](raw []byte, names *names, limit int) (T, *Error) {
	var v T
	if len(raw) > limit {
		return v, tooLarge(len(raw), limit)
	}
	if !utf8.Valid(raw) {
		return v, reject(InvalidUTF8, "", "", "is not valid UTF-8: encode it as UTF-8")
	}
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return v, reject(MalformedJSON, "", shorten(string(raw[:min(len(raw), 2*maxShown)])), "must be one JSON object")
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, formError(raw, err)
	}
	s := scanner{raw: raw}
	return v, s.object(names)
}

func tooLarge(size, limit int) *Error {
	return reject(TooLarge, "", "", "has "+strconv.Itoa(size)+" bytes: send at most "+strconv.Itoa(limit))
}

// formError translates an error of encoding/json.
func formError(raw []byte, err error) *Error {
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return reject(InvalidField, mistyped.Field, mistyped.Value, "must be "+wanted(mistyped.Type))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		near := raw[max(0, min(len(raw), int(syntax.Offset))-maxShown/2):min(len(raw), int(syntax.Offset))]
		return reject(MalformedJSON, "", string(bytes.ToValidUTF8(near, nil)), "is not valid JSON after these characters, at byte "+strconv.FormatInt(syntax.Offset, 10)+": "+syntax.Error())
	}
	return reject(MalformedJSON, "", "", "must be one JSON object: "+err.Error())
}

// wanted names the JSON type that a field of type t is read from.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[Time]() {
		return "RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, or an integer of Unix milliseconds"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number that fits 64-bit floating point"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Pointer:
		return "an object"
	case reflect.Uint64:
		return "an integer of 0 or more"
	default:
		return "an integer"
	}
}

func checkKey(key []byte, field, id string) *Error {
	if string(key) != id {
		return reject(KeyMismatch, field, id, "must equal the record's key, which is "+strconv.Quote(shorten(string(key))))
	}
	return nil
}
