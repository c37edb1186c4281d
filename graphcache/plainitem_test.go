package graphcache

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/r2rec/r2rec/internal/event"
)

// What plainItem answers has to be what encoding/json does, whatever stands in the catalogue.
func checkPlainItem(t interface{ Fatalf(string, ...any) }, doc string) (ok bool) {
	got, ok := plainItem(doc)
	if !ok {
		return false
	}
	var want event.Item
	if err := json.Unmarshal([]byte(doc), &want); err != nil {
		t.Fatalf("%q is read, but is no JSON: %v", doc, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%q: %s", doc, diff)
	}
	return true
}

func TestPlainItemReadsWhatIsWritten(t *testing.T) {
	no, yes := false, true
	for _, it := range []event.Item{
		{ItemID: "1", Title: "Toy Story (1995)", Categories: []string{"Animation", "Children's"}},
		{ItemID: "é", Title: "日本"},
		{ItemID: "1", Title: "", Categories: []string{"", "one, two"}, Available: &no},
		{ItemID: "1", Title: "a}", Available: &yes},
	} {
		doc, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		if !checkPlainItem(t, string(doc)) {
			t.Errorf("%s is not read", doc)
		}
	}
	for _, doc := range []string{"", "{}", `{"item_id":"1","title":"a\u0022"}`, `{"item_id":"1","title":"a"} `, `{"item_id":"1","title":"a","title":"b"}`,
		"{\"item_id\":\"1\",\"title\":\"\xff\"}", "{\"item_id\":\"1\",\"title\":\"a\nb\"}", `{"item_id":"1","title":"a","categories":[]}`, `{"title":"a","item_id":"1"}`} {
		if _, ok := plainItem(doc); ok {
			t.Errorf("%q is read", doc)
		}
	}
}

func TestPlainItemAgreesWithJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		it := event.Item{ItemID: rapid.String().Draw(t, "id"), Title: rapid.String().Draw(t, "title"), Categories: rapid.SliceOf(rapid.String()).Draw(t, "categories")}
		doc, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(0, len(doc)).Draw(t, "cut")
		checkPlainItem(t, string(doc))
		checkPlainItem(t, string(doc[:cut])+rapid.String().Draw(t, "tail"))
	})
}
