package event

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// fuzz states what holds for any bytes: a decoder does not panic; what it rejects has a reason of the closed set and a
// printable explanation; what it accepts encodes, and decodes to an equal value.
func fuzz(f *testing.F, contract string) {
	files, err := filepath.Glob("testdata/good/" + contract + "*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no good records: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(nil))
	f.Add([]byte("{\"user_id\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) { checkRecord(t, contract, raw) })
}

func checkRecord(t *testing.T, contract string, raw []byte) {
	t.Helper()
	v, again, err := decoders[contract](raw)
	if err != nil {
		var rejected *Error
		if !errors.As(err, &rejected) || !slices.Contains(Reasons, rejected.Reason) || rejected.Rule == "" {
			t.Fatalf("%q: rejected by %#v", raw, err)
		}
		if text := err.Error(); len(text) > 2000 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x00\x1b") {
			t.Fatalf("%q: unfit to log: %q", raw, text)
		}
		return
	}
	encoded, err := again()
	if err != nil {
		t.Fatalf("%q does not encode again: %v", raw, err)
	}
	if encoded == nil { // a deleted item
		return
	}
	w, _, err := decoders[contract](encoded)
	if diff := cmp.Diff(v, w, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Fatalf("%q -> %q: %v %s", raw, encoded, err, diff)
	}
}

func FuzzItem(f *testing.F)           { fuzz(f, "item") }
func FuzzUser(f *testing.F)           { fuzz(f, "user") }
func FuzzDecision(f *testing.F)       { fuzz(f, "decision") }
func FuzzReward(f *testing.F)         { fuzz(f, "reward") }
func FuzzPromotion(f *testing.F)      { fuzz(f, "promotion") }
func FuzzRecommendation(f *testing.F) { fuzz(f, "recommendation") }

// FuzzInteraction also holds the fast path against encoding/json: what it accepts, both read alike.
func FuzzInteraction(f *testing.F) {
	f.Add([]byte(clickJSON))
	for _, change := range []string{"", "-0", "01", "1.", ".5", "1e3", "1E+2", "-", "+1", "1e999", "0x10", "1_0", "Infinity"} {
		f.Add([]byte(strings.Replace(clickJSON, "3.5", change, 1)))
		f.Add([]byte(strings.Replace(clickJSON, `"position":3`, `"position":`+change, 1)))
		f.Add([]byte(strings.Replace(clickJSON, `"2015-07-15T00:28:39.000Z"`, change, 1)))
	}
	f.Add([]byte(strings.Replace(clickJSON, "}", ",}", 1)))
	f.Add([]byte(strings.Replace(clickJSON, ",", ",,", 1)))
	f.Add([]byte(strings.Replace(clickJSON, ":", ": \t\r\n", 1)))
	f.Add([]byte("{}"))
	f.Add([]byte("{,}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkRecord(t, "interaction", raw)
		fast, ok := decodePlain(raw)
		if !ok || !utf8.Valid(raw) {
			return
		}
		slow, err := decode[Interaction](raw, interactionNames, MaxInteractionBytes)
		if err != nil {
			t.Fatalf("%q: decodePlain takes it, decode says %v", raw, err)
		}
		if diff := cmp.Diff(slow, fast); diff != "" {
			t.Fatalf("%q: %s", raw, diff)
		}
	})
}

// TestPlainTakesTheUsual: an event as producers send it is decoded by the fast path.
func TestPlainTakesTheUsual(t *testing.T) {
	for _, raw := range []string{clickJSON, `{"event_id":"1","user_id":"ü","item_id":"i","type":"click","timestamp": 1795428930250 }`} {
		if _, ok := decodePlain([]byte(raw)); !ok {
			t.Errorf("%s is left to encoding/json", raw)
		}
	}
}

// TestRoundTrip: every valid value survives the wire.
func TestRoundTrip(t *testing.T) {
	id := rapid.StringMatching(`[^\pC\pZ\x{FFFD}]{1,16}`)
	instant := rapid.Custom(func(t *rapid.T) Time { return Time(rapid.Int64Range(int64(Earliest), int64(Latest)).Draw(t, "ms")) })
	t.Run("interaction", rapid.MakeCheck(func(t *rapid.T) {
		value, position := rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64).Draw(t, "value"), rapid.IntRange(1, maxPosition).Draw(t, "position")
		want := Interaction{
			EventID: id.Draw(t, "event"), UserID: id.Draw(t, "user"), ItemID: id.Draw(t, "item"),
			Type: rapid.SampledFrom(Types).Draw(t, "type"), Value: &value, Position: &position,
			Timestamp: instant.Draw(t, "timestamp"), DecisionID: id.Draw(t, "decision"), Surface: id.Draw(t, "surface"),
		}
		raw, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeInteraction(raw, Latest)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v %s", err, diff)
		}
	}))
	t.Run("item", rapid.MakeCheck(func(t *rapid.T) {
		want := Item{ItemID: id.Draw(t, "item"), Title: id.Draw(t, "title"), Categories: rapid.SliceOfN(id, 1, maxCategories).Draw(t, "categories"),
			Available: rapid.Ptr(rapid.Bool(), true).Draw(t, "available"), Deleted: rapid.Bool().Draw(t, "deleted")}
		raw, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if want.Deleted {
			want = Item{ItemID: want.ItemID, Deleted: true}
		}
		got, err := DecodeItem([]byte(want.ItemID), raw)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v %s", err, diff)
		}
	}))
	t.Run("user", rapid.MakeCheck(func(t *rapid.T) {
		want := User{UserID: id.Draw(t, "user"), ForgetBefore: instant.Draw(t, "before")}
		raw, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeUser([]byte(want.UserID), raw, Latest)
		if want != got || err != nil {
			t.Fatalf("got %+v, want %+v, %v", got, want, err)
		}
	}))
	t.Run("reward", rapid.MakeCheck(func(t *rapid.T) {
		want := Reward{DecisionID: id.Draw(t, "decision"), UserID: id.Draw(t, "user"), ItemID: id.Draw(t, "item"), Position: rapid.IntRange(1, maxPosition).Draw(t, "position"),
			Value: rapid.Float64Range(-10, 10).Draw(t, "value"), Attribution: ByNothing, Timestamp: instant.Draw(t, "timestamp"),
			Examination: rapid.Float64Range(0, 1).Draw(t, "examination"), DecidedAt: instant.Draw(t, "decided"), Surface: id.Draw(t, "surface"),
			Source: rapid.SampledFrom([]Source{Reasoned, Graph}).Draw(t, "source"), Adapter: id.Draw(t, "adapter"),
			Control: rapid.Bool().Draw(t, "control"), Explore: rapid.Bool().Draw(t, "explore")}
		if rapid.Bool().Draw(t, "earned") {
			want.Type, want.EventID, want.Attribution = rapid.SampledFrom(Types).Draw(t, "type"), id.Draw(t, "event"), ByWindow
		}
		raw, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeReward(raw)
		if want != got || err != nil {
			t.Fatalf("got %+v, want %+v, %v", got, want, err)
		}
	}))
}

// TestKeysShareASlot: an id cannot leave the hash tag of its keys, and two ids never share a key.
func TestKeysShareASlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a{}%27BD5]{1,6}`)
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		if (RecommendationKey("r2:", a) == RecommendationKey("r2:", b)) != (a == b) {
			t.Fatalf("%q and %q share %q", a, b, RecommendationKey("r2:", a))
		}
		if tag(RecommendationKey("r2:", a)) != tag(TopKey("r2:", a)) || tag(TopKey("r2:", a)) == "" {
			t.Fatalf("%q and %q lie in different slots", RecommendationKey("r2:", a), TopKey("r2:", a))
		}
		if strings.ContainsAny(tag(TopKey("r2:", a)), "{}") {
			t.Fatalf("%q: a brace within the tag", TopKey("r2:", a))
		}
	})
}

// tag is the hash tag by which Redis Cluster chooses the slot of a key.
func tag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	tag, _, _ := strings.Cut(rest, "}")
	return tag
}
