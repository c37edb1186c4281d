package event

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// What something was learned from stays the same as the data set grows, and is another for other events.
func TestPastOf(t *testing.T) {
	type record struct {
		id string
		at Time
	}
	past := func(before Time, records ...record) Past {
		return PastOf(func(yield func(Interaction, error) bool) {
			for _, r := range records {
				var err error
				if r.id == "" {
					err = errors.New("refused")
				}
				if !yield(Interaction{EventID: r.id, Timestamp: r.at}, err) {
					return
				}
			}
		}, before)
	}
	const before = Earliest + 10
	want := past(before, record{"a", Earliest}, record{"b", before - 1})
	if err := want.Check(); err != nil || want.Before != before {
		t.Errorf("%+v, %v", want, err)
	}
	if quiet := past(before+1000, record{"a", Earliest}, record{"b", before - 1}); quiet != want {
		t.Errorf("where nothing happened before a later time it is %+v, want %+v: until the last event", quiet, want)
	}
	if again := past(want.Before, record{"a", Earliest}, record{"b", before - 1}, record{"c", before + 500}); again != want {
		t.Errorf("a time beyond the end, and then grown, it is %+v, want %+v", again, want)
	}
	if none := past(before, record{"", 0}, record{"c", before}); none != (Past{}) {
		t.Errorf("of nothing it is %+v, want the zero value", none)
	}
	if grown := past(before, record{"a", Earliest}, record{"", 0}, record{"b", before - 1}, record{"c", before}, record{"d", before + 5}); grown != want {
		t.Errorf("grown, and with a refused record, it is %+v, want %+v", grown, want)
	}
	for name, other := range map[string]Past{
		"an event less":    past(before, record{"b", before - 1}),
		"an event more":    past(before, record{"a", Earliest}, record{"b", before - 1}, record{"c", before - 1}),
		"ids cut anew":     past(before, record{"ab", Earliest}),
		"an earlier time":  past(before-1, record{"a", Earliest}, record{"b", before - 1}),
		"nothing happened": past(before),
	} {
		if other.Digest == want.Digest {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

func TestLaterPast(t *testing.T) {
	early, late := Past{Before: Earliest, Digest: "a"}, Past{Before: Earliest + 1, Digest: "b"}
	for _, got := range []Past{early.Later(late), late.Later(early), late.Later(Past{}), Past{}.Later(late)} {
		if got != late {
			t.Errorf("%+v, want %+v", got, late)
		}
	}
}

func TestCheckPast(t *testing.T) {
	good := `{"before":"2015-07-15T00:28:39.000Z","digest":"` + strings.Repeat("0a", 32) + `"}`
	var p Past
	if err := json.Unmarshal([]byte(good), &p); err != nil || p.Check() != nil || p.Before != 1436920119000 {
		t.Errorf("%+v, %v, %v", p, err, p.Check())
	}
	if text, err := json.Marshal(p); err != nil || string(text) != good {
		t.Errorf("written again: %s, %v", text, err)
	}
	if err := (Past{}).Check(); err != nil {
		t.Error(err)
	}
	for want, bad := range map[string]Past{
		"before is 5 ms":   {Before: 5, Digest: p.Digest},
		"before is 0 ms":   {Digest: p.Digest},
		`digest is ""`:     {Before: p.Before},
		`digest is "0A0A`:  {Before: p.Before, Digest: strings.Repeat("0A", 32)},
		`digest is "short`: {Before: p.Before, Digest: "short"},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", bad, err, want)
		}
	}
}
