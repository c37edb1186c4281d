package event

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// clock is the latest timestamp that the records under testdata may carry.
var clock = func() (t Time) {
	if err := t.UnmarshalJSON([]byte(`"2026-11-24T10:15:30.250Z"`)); err != nil {
		panic(err)
	}
	return t
}()

// decoders decodes a record of each contract, under the name of its schema; its result encodes again.
var decoders = map[string]func(raw []byte) (value any, again func() ([]byte, error), err error){
	"interaction": decoder(func(raw []byte) (Interaction, error) { return DecodeInteraction(raw, clock) }),
	"item":        decoder(func(raw []byte) (Item, error) { return DecodeItem([]byte(idIn(raw, "item_id")), raw) }),
	"user":        decoder(func(raw []byte) (User, error) { return DecodeUser([]byte(idIn(raw, "user_id")), raw, clock) }),
	"decision":    decoder(DecodeDecision),
	"reward":      decoder(DecodeReward),
	"promotion":   decoder(DecodePromotion),

	"recommendation": decoder(DecodeRecommendation),
}

func decoder[T Contract](decode func([]byte) (T, error)) func([]byte) (any, func() ([]byte, error), error) {
	return func(raw []byte) (any, func() ([]byte, error), error) {
		v, err := decode(raw)
		return v, func() ([]byte, error) { return Encode(v) }, err
	}
}

// idIn reads the key that a well-behaved producer would have used.
func idIn(raw []byte, field string) string {
	var fields map[string]any
	_ = json.Unmarshal(raw, &fields) // a record without an id has no key
	id, _ := fields[field].(string)
	return id
}

func schemaOf(t *testing.T, contract string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("..", "..", "docs", "schemas", contract+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func satisfies(t *testing.T, s *jsonschema.Schema, raw []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestGood decodes every good record, encodes it to an equal one, and finds both valid by the schema.
func TestGood(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.json")
	if err != nil || len(files) < 2*len(decoders)-1 {
		t.Fatalf("%d good records: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			contract, _, _ := strings.Cut(name, "-")
			raw := read(t, file)
			v, again, err := decoders[contract](raw)
			if err != nil {
				t.Fatal(err)
			}
			schema := schemaOf(t, contract)
			if err := satisfies(t, schema, raw); err != nil {
				t.Errorf("schema: %v", err)
			}
			encoded, err := again()
			if err != nil {
				t.Fatal(err)
			}
			if err := satisfies(t, schema, encoded); err != nil {
				t.Errorf("schema, encoded: %v", err)
			}
			w, _, err := decoders[contract](encoded)
			if diff := cmp.Diff(v, w, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("round trip: %v %s", err, diff)
			}
		})
	}
}

// TestGoodValues pins what the fields mean; the round trip alone would not notice a field that is never read.
func TestGoodValues(t *testing.T) {
	value, position := 4.5, 3
	for file, want := range map[string]Interaction{
		"interaction": {EventID: "web-2026-11-23-000017", UserID: "671", ItemID: "6565", Type: Rating, Value: &value,
			Timestamp: 1795428930250, DecisionID: "0d9f6c1e", Position: &position, Surface: "home"},
		"interaction-minimal":        {EventID: "1", UserID: "u", ItemID: "i", Type: Click, Timestamp: 1795428930250},
		"interaction-unknown-fields": {EventID: "ü-1", UserID: "größe 42 / {a}%", ItemID: "本-7 é 😀", Type: View, Timestamp: 1795428930250},
	} {
		got, err := DecodeInteraction(read(t, "testdata/good/"+file+".json"), clock)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", file, err, diff)
		}
	}
}

// TestBad makes one change to a good record and expects the rejection that stands beside it; testdata/bad/README.md
// describes the files.
func TestBad(t *testing.T) {
	for contract, decode := range decoders {
		schema := schemaOf(t, contract)
		good := read(t, "testdata/good/"+contract+".json")
		lines := bufio.NewScanner(bytes.NewReader(read(t, "testdata/bad/"+contract+".txt")))
		for lines.Scan() {
			t.Run(contract+"/"+lines.Text(), func(t *testing.T) {
				word := strings.Fields(lines.Text())
				caughtBy, reason, field := word[0], ErrorReason(word[1]), strings.TrimPrefix(word[2], "-")
				_, change, _ := strings.Cut(lines.Text(), " "+word[2]+" ")
				raw := changed(t, good, change)

				_, _, err := decode(raw)
				var rejected *Error
				if !errors.As(err, &rejected) {
					t.Fatalf("got %v for %s", err, raw)
				}
				if rejected.Reason != reason || rejected.Field != field {
					t.Errorf("got %s %s (%v), want %s %s", rejected.Reason, rejected.Field, err, reason, field)
				}
				if got := satisfies(t, schema, raw) != nil; got != (caughtBy == "schema") {
					t.Errorf("rejected by the schema: %v, want caught by %s", got, caughtBy)
				}
			})
		}
	}
}

// changed applies one change, such as slate[0].position=2, to a JSON object.
func changed(t *testing.T, raw []byte, change string) []byte {
	t.Helper()
	path, value, ok := strings.Cut(change, "=")
	if !ok {
		t.Fatalf("%q has no =", change)
	}
	var doc any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	steps := strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
	node := doc
	for _, step := range steps[:len(steps)-1] {
		if list, ok := node.([]any); ok {
			i, err := strconv.Atoi(step)
			if err != nil {
				t.Fatal(err)
			}
			node = list[i]
			continue
		}
		node = node.(map[string]any)[step]
	}
	last := steps[len(steps)-1]
	if err := json.Unmarshal([]byte(`"`+last+`"`), &last); err != nil {
		t.Fatal(err)
	}
	if value == "" {
		delete(node.(map[string]any), last)
	} else {
		node.(map[string]any)[last] = json.RawMessage(value)
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestForm rejects what is no record at all: bytes that a readable file could not hold.
func TestForm(t *testing.T) {
	deep := `{"event_id":"1","user_id":"u","item_id":"i","type":"click","timestamp":1795428930250,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`
	for _, c := range []struct {
		reason ErrorReason
		field  string
		raw    string
	}{
		{MalformedJSON, "", ``},
		{MalformedJSON, "", ` `},
		{MalformedJSON, "", `null`},
		{MalformedJSON, "", `[]`},
		{MalformedJSON, "", `"click"`},
		{MalformedJSON, "", `not json`},
		{MalformedJSON, "", `{"event_id":"1"`},
		{MalformedJSON, "", clickJSON + clickJSON},
		{MalformedJSON, "", clickJSON + `x`},
		{MalformedJSON, "", strings.Replace(clickJSON, `"value":3.5`, `"value":NaN`, 1)},
		{MalformedJSON, "", strings.Replace(clickJSON, `"value":3.5`, `"value":03.5`, 1)},
		{MalformedJSON, "", strings.Replace(clickJSON, `"671"`, "\"6\n71\"", 1)},
		{MissingField, "event_id", `{}`},
		{InvalidField, "value", strings.Replace(clickJSON, `"value":3.5`, `"value":1e999`, 1)},
		{InvalidUTF8, "", strings.Replace(clickJSON, `"671"`, "\"6\xff71\"", 1)},
		{InvalidUTF8, "", strings.Replace(clickJSON, `"671"`, "\"\xed\xa0\x80\"", 1)},
		{InvalidUTF8, "", strings.Replace(clickJSON, `}`, ",\"x\":\"\xff\"}", 1)},
		{InvalidUTF8, "user_id", strings.Replace(clickJSON, `"671"`, `"\ud83d"`, 1)},
		{InvalidUTF8, "user_id", strings.Replace(clickJSON, `"671"`, `"\\\ude00\ud83d"`, 1)},
		{InvalidUTF8, "surface", strings.Replace(clickJSON, `"home"`, `"a\ud83d\u0041"`, 1)},
		{DuplicateField, "user_id", strings.Replace(clickJSON, `}`, `,"user_id":"671"}`, 1)},
		{DuplicateField, "user_id", strings.Replace(clickJSON, `}`, `,"us\u0065r_id":"672"}`, 1)},
		{InvalidField, "user_id", strings.Replace(clickJSON, `"user_id"`, `"USER_ID"`, 1)},
		{InvalidField, "user_id", strings.Replace(clickJSON, `}`, `,"User_Id":"672"}`, 1)},
		{TooLarge, "", strings.Replace(clickJSON, `}`, `,"x":"`+strings.Repeat("x", MaxInteractionBytes)+`"}`, 1)},
		{TooLarge, "", deep},
	} {
		_, err := DecodeInteraction([]byte(c.raw), clock)
		var rejected *Error
		if !errors.As(err, &rejected) || rejected.Reason != c.reason || rejected.Field != c.field {
			t.Errorf("%.80q: got %v, want %s %s", c.raw, err, c.reason, c.field)
		}
	}
}

// TestKeys: compaction goes by the key, so a key that is not the id would delete or keep the wrong record.
func TestKeys(t *testing.T) {
	item := []byte(`{"item_id":"1","title":"T"}`)
	user := []byte(`{"user_id":"1","forget_before":1795428930250}`)
	for name, err := range map[string]error{
		"item": second(DecodeItem([]byte("2"), item)),
		"nil":  second(DecodeItem(nil, item)),
		"user": second(DecodeUser([]byte("2"), user, clock)),
	} {
		if reasonOf(err) != KeyMismatch {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, value := range [][]byte{nil, {}} {
		it, err := DecodeItem([]byte("1"), value)
		if want := (Item{ItemID: "1", Deleted: true}); err != nil || !cmp.Equal(it, want) || it.IsAvailable() {
			t.Errorf("deletion: got %+v, %v", it, err)
		}
		if raw, err := Encode(it); raw != nil || err != nil {
			t.Errorf("deletion encodes to %q, %v", raw, err)
		}
		if err := second(DecodeUser([]byte("1"), value, clock)); reasonOf(err) != MalformedJSON {
			t.Errorf("user without value: got %v", err)
		}
	}
	for _, key := range []string{"", "\xff", "a\nb", strings.Repeat("k", 65)} {
		if err := second(DecodeItem([]byte(key), nil)); err == nil {
			t.Errorf("deletion of %q was accepted", key)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func reasonOf(err error) ErrorReason {
	var rejected *Error
	if !errors.As(err, &rejected) {
		return ""
	}
	return rejected.Reason
}

// TestErrorText: errors reach logs, headers and people, so what a producer sent must not reach them raw or unbounded.
func TestErrorText(t *testing.T) {
	raw := fmt.Sprintf(`{"event_id":"1","user_id":%q,"item_id":"i","type":"click","timestamp":1}`, strings.Repeat("ü", 4000))
	_, err := DecodeInteraction([]byte(raw), clock)
	want := `user_id "` + strings.Repeat("ü", 30) + `…": has 8000 bytes: send at most 64`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = DecodeInteraction([]byte(`{"event_id":"1","user_id":"\u001b[2J\u202e","item_id":"i","type":"click","timestamp":1}`), clock)
	if want := `user_id "\x1b[2J\u202e": holds a control character: remove it`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = DecodeInteraction([]byte(strings.Replace(clickJSON, `"2015-07-15T00:28:39.000Z"`, `1436920119`, 1)), clock)
	if want := `timestamp "1436920119": looks like seconds; multiply by 1000`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestReasons: whoever counts by reason can prepare its counters from the list.
func TestReasons(t *testing.T) {
	want := []ErrorReason{MalformedJSON, InvalidUTF8, TooLarge, DuplicateField, MissingField, InvalidField, UnknownType, TimestampOutOfRange, KeyMismatch}
	if !slices.Equal(Reasons, want) {
		t.Errorf("got %v, want %v", Reasons, want)
	}
}

// TestEncodeRefuses: a writer cannot publish what a reader would reject.
func TestEncodeRefuses(t *testing.T) {
	in := Interaction{EventID: "1", UserID: "u", ItemID: "i", Type: Click, Timestamp: clock}
	if _, err := Encode(in); err != nil {
		t.Fatal(err)
	}
	in.UserID = "\xff"
	if _, err := Encode(in); reasonOf(err) != InvalidUTF8 {
		t.Errorf("got %v", err)
	}
	in.UserID, in.Timestamp = "u", Latest+1
	if _, err := Encode(in); reasonOf(err) != TimestampOutOfRange {
		t.Errorf("got %v", err)
	}
	d := Decision{DecisionID: "d", UserID: "u", Timestamp: clock, Source: Graph, Thought: Thought{By: Graph}}
	raw, err := Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("null")) {
		t.Errorf("an empty list is written as null: %s", raw)
	}
	nan := math.NaN()
	unmeasurable := Decision{DecisionID: "d", UserID: "u", Timestamp: clock, Source: Graph, Slate: []Slot{{Position: 1, ItemID: "i", Probability: 1}}, Scores: make([]Score, 1),
		Context: Context{Candidates: []Candidate{{ItemID: "i", Origin: FromChains}}, Chains: []Chain{{Via: "v", Neighbour: "n", ItemID: "i", NeighbourAt: clock}}},
		Thought: Thought{By: Graph, Steps: []Step{{ItemID: "i", Text: "t", Chains: []int{1}, Contributions: []*float64{&nan}}}}}
	if _, err := Encode(unmeasurable); reasonOf(err) != InvalidField || !strings.Contains(err.Error(), "contributions[0]") {
		t.Errorf("got %v", err)
	}
	for _, draw := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		drawn := Decision{DecisionID: "d", UserID: "u", Timestamp: clock, Source: Graph, Thought: Thought{By: Graph}, Context: Context{Draw: draw}}
		if _, err := Encode(drawn); reasonOf(err) != InvalidField || !strings.Contains(err.Error(), "context.draw") {
			t.Errorf("drawn by %v: %v", draw, err)
		}
	}
	rec := Recommendation{Version: RecommendationVersion, UserID: "u", GeneratedAt: clock, Source: Graph, Items: []RecommendedItem{{Position: 1, ItemID: "i",
		Reasons: []Reason{{Text: "t", Chains: []ReasonChain{{Via: "v", Neighbour: 1, Contribution: &nan}}}}}}}
	if _, err := Encode(rec); reasonOf(err) != InvalidField || !strings.Contains(err.Error(), "contribution") {
		t.Errorf("got %v", err)
	}
	for range 200 {
		d.Context.History = append(d.Context.History, HistoryItem{ItemID: "i", Title: strings.Repeat("<", 1024), Timestamp: clock})
	}
	if _, err := Encode(d); reasonOf(err) != TooLarge {
		t.Errorf("got %v", err)
	}
}
