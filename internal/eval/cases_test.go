package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadCases(t *testing.T) {
	path := write(t, "cases.jsonl", `{"case": "late", "user": "7", "at": 1000000005, "candidates": ["a", "007"], "positive": "007", "more": {"x": [1]}}

{"case":"early","user":"ü","at":1000000001,"candidates":["b","c","d"],"positive":"b"}`+"\r\n")
	got, err := ReadCases(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{
		{ID: "late", User: "7", At: at(5), Candidates: []string{"a", "007"}, Positive: "007"},
		{ID: "early", User: "ü", At: at(1), Candidates: []string{"b", "c", "d"}, Positive: "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
	if _, err := ReadCases(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that there is no such file", err)
	}
}

func TestALongLineIsRead(t *testing.T) {
	c := ask("long", "u", 1, "a")
	for i := range 100_000 {
		c.Candidates = append(c.Candidates, fmt.Sprint("item-", i))
	}
	got, err := ReadCases(write(t, "cases.jsonl", encode(c)))
	if err != nil || len(got) != 1 || len(got[0].Candidates) != 100_001 {
		t.Fatalf("%d cases, %v", len(got), err)
	}
	_, err = readCases("cases.jsonl", strings.NewReader(encode(ask("short", "u", 1, "a", "b"))+strings.Repeat("x", maxLine+1)))
	if err == nil || !strings.Contains(err.Error(), "cases.jsonl:2: the line has more than") {
		t.Errorf("%v, want line 2", err)
	}
}

// encode writes cases as ReadCases reads them.
func encode(cases ...Case) string {
	var b strings.Builder
	for _, c := range cases {
		line, err := json.Marshal(map[string]any{
			"case": c.ID, "user": c.User, "at": int64(c.At) / 1000, "candidates": c.Candidates, "positive": c.Positive,
		})
		if err != nil {
			panic(err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

func TestBadCases(t *testing.T) {
	const good = `{"case":"x","user":"u","at":1000000001,"candidates":["a","b"],"positive":"b"}`
	with := func(old, with string) string { return good[:7] + strings.Replace(good[7:], old, with, 1) }
	for text, want := range map[string]string{
		`not json`:                                 `"not json": invalid character`,
		`[1]`:                                      `want one JSON object`,
		good + good:                                `want one JSON object`,
		with(`"x",`, `"",`):                        `case: is empty: want a text, the name of the case`,
		with(`"x",`, `5,`):                         `case: "5": want a text`,
		with(`"user":"u",`, ``):                    `user: is missing: want a text, the id of the user`,
		with(`"u"`, `17`):                          `user: "17": want a text, the id of the user`,
		with(`"u"`, `null`):                        `user: is missing`,
		with(`"at":1000000001,`, ``):               `at: is missing: want whole Unix seconds`,
		with(`1000000001`, `"1"`):                  `at: "\"1\"": want whole Unix seconds`,
		with(`1000000001`, `"1000000001"`):         `at: "\"1000000001\"": want whole Unix seconds`,
		with(`1000000001`, `1000000001.5`):         `at: "1000000001.5": want whole Unix seconds`,
		with(`1000000001`, `1000000001000`):        `at: "1000000001000": looks like milliseconds: divide by 1000`,
		with(`1000000001`, `-5`):                   `at: "-5": is not between 315532800 (1980-01-01T00:00:00.000Z) and 253402300799 (9999-12-31T23:59:59.999Z)`,
		with(`1000000001`, `99999999999999999999`): `at: "99999999999999999999": is not between`,
		with(`"candidates":["a","b"],`, ``):        `candidates: is missing: want a list of item ids`,
		with(`["a","b"]`, `["a",3]`):               `candidates: "[\"a\",3]": want a list of item ids, which are texts`,
		with(`["a","b"]`, `"b"`):                   `candidates: "\"b\"": want a list`,
		with(`["a","b"]`, `["b"]`):                 `candidates: has 1: want two or more`,
		with(`["a","b"]`, `["b","a","b"]`):         `candidates[2]: "b": stands at 0 too: give each item once`,
		with(`["a","b"]`, `["b",""]`):              `candidates[1]: is empty: want the id of an item`,
		with(`"positive":"b"`, `"positive":"c"`):   `positive: "c": is not among the 2 candidates: add it`,
		with(`,"positive":"b"`, ``):                `positive: is missing`,
		with(`"positive"`, `"Positive"`):           `positive: is missing`,
		strings.Replace(good, `"x"`, `"w"`, 1):     `case "w": stands in line 1 too`,
	} {
		_, err := readCases("my cases", strings.NewReader(strings.Replace(good, `"x"`, `"w"`, 1)+"\n\n"+text+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "my cases:3: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant my cases:3: %s", text, err, want)
		}
	}
	for _, text := range []string{"", "\n \n"} {
		if _, err := readCases("my cases", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "my cases: holds no case") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever the bytes: what is refused is refused in one printable line that names the file, and what is taken keeps its
// promises and can be written and read again.
func FuzzReadCases(f *testing.F) {
	f.Add([]byte(encode(ask("x", "u", 1, "a", "b"), ask("y", "ü\u202e", 0, "b", "\x00", "a"))))
	f.Add([]byte(`{"case":"x","user":"u","at":1e9,"candidates":["a","a"],"positive":"a"}`))
	f.Add([]byte("{\"case\":\"\xff\",\"user\":\"u\",\"at\":1000000001,\"candidates\":[\"a\",\"b\"],\"positive\":\"b\"}\n{"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		cases, err := readCases("cases", strings.NewReader(string(raw)))
		if err != nil {
			text := err.Error()
			unfit := func(r rune) bool { return r != '…' && !unicode.IsGraphic(r) }
			if !strings.HasPrefix(text, "cases:") || len(text) > 2000 || !utf8.ValidString(text) || strings.ContainsFunc(text, unfit) {
				t.Fatalf("unfit to show: %q", text)
			}
			return
		}
		ids := map[string]bool{}
		for _, c := range cases {
			if c.ID == "" || c.User == "" || ids[c.ID] || checkCandidates(c) != nil {
				t.Fatalf("taken: %+v", c)
			}
			ids[c.ID] = true
		}
		again, err := readCases("again", strings.NewReader(encode(cases...)))
		if diff := cmp.Diff(cases, again); err != nil || diff != "" {
			t.Fatalf("%v, read again (-first +second):\n%s", err, diff)
		}
	})
}
