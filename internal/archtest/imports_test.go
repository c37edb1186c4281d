// Package archtest keeps the project's shape: which package may import which, which of them may know a given library,
// and that every package says what it is for. It holds tests only, and reads the source files themselves, so that files
// behind build tags count too.
//
// A package that is not in the table below fails the test: adding a row is how a new package states its place.
package archtest

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// everything stands in a row for all packages of the project.
const everything = "..."

// rows lists every package, in the order in which data flows, with the packages of the project that it may import. A
// package that needs another's behaviour declares the small interface it uses; cmd/r2rec wires them.
var rows = map[string][]string{
	"cmd/r2rec": {everything},

	"consumer":   {"internal/event"},
	"graphcache": {"internal/event", "internal/factors", "internal/rdb", "internal/parallel"},
	"reasoner":   {"internal/event", "internal/iot", "internal/policy"},
	"rltrainer":  {"internal/event", "internal/iot", "internal/policy", "internal/adapters", "internal/ope", "internal/fusion", "internal/lm", "internal/eval", "internal/world", "internal/simulate", "internal/chart", "internal/gguf", "internal/lm/proof"},

	"internal/event":   nil,
	"internal/broker":  {"internal/event"},
	"internal/dataset": {"internal/event"},
	"internal/iot":     {"internal/event"},
	"internal/policy":  {"internal/event"},
	"internal/factors": {"internal/parallel"},
	"internal/fusion":  {"internal/event", "internal/parallel"},
	"internal/web":     {"internal/event"},

	"internal/lm": {"internal/event", "internal/iot"},
	"internal/lm/engine": {"internal/event", "internal/iot", "internal/lm", "internal/llama", "internal/llama/learn", "internal/llama/lora",
		"internal/llama/token", "internal/gguf"},
	"internal/lm/ollama": {"internal/event", "internal/iot", "internal/lm", "internal/lm/proof", "internal/llama/lora", "internal/llama/token",
		"internal/gguf"},
	"internal/lm/proof":         {"internal/event", "internal/iot", "internal/lm"},
	"internal/lm/loader":        {"internal/event", "internal/iot", "internal/lm/proof", "internal/lm/engine"},
	"internal/llama":            {"internal/gguf", "internal/llama/kernel", "internal/llama/lora"},
	"internal/llama/kernel":     nil,
	"internal/llama/kernel/gen": nil,
	"internal/llama/token":      {"internal/gguf"},
	"internal/llama/learn":      {"internal/gguf", "internal/llama", "internal/llama/kernel", "internal/llama/lora"},
	"internal/llama/lora":       {"internal/event", "internal/gguf", "internal/safetensors"}, // event: what adapters were learned from
	"internal/gguf":             nil,
	"internal/safetensors":      {"internal/gguf"},
	"internal/rdb":              nil,
	"internal/parallel":         nil,

	"internal/adapters":      {"internal/broker", "internal/event", "internal/gguf", "internal/llama/lora", "internal/lm/proof"}, // broker: how long a writer is waited for
	"internal/ope":           nil,
	"internal/eval":          {"internal/event", "internal/chart", "internal/policy"},
	"internal/chart":         nil,
	"internal/ope/logs":      {"internal/ope"},
	"internal/ope/power":     {"internal/ope"},
	"internal/eval/baseline": {"internal/event", "internal/eval"},
	"internal/eval/live":     {"internal/event", "internal/eval", "internal/fusion"},
	"internal/world":         {"internal/event"},
	"internal/synth":         {"internal/event"},
	"internal/sizing":        {"internal/event", "internal/synth"},
	"internal/simulate":      {"internal/event", "internal/iot", "internal/policy"},

	"internal/embedded":              nil,
	"internal/embedded/embeddedtest": {"internal/broker", "internal/embedded"},
	"internal/graphtest":             {"internal/event"},
	"internal/archtest":              nil,
	"bench/peers":                    nil,
}

// forTests lists what the test files of every package may import beyond its row: servers to run against, and real data.
var forTests = []string{"graphcache", "internal/event", "internal/broker", "internal/dataset", "internal/embedded", "internal/embedded/embeddedtest", "internal/graphtest"}

// forTestsOf lists what the test files of one package may import beyond that: packages that build on it, where only the
// two together can be held against something real.
var forTestsOf = map[string][]string{
	"internal/llama":     {"internal/llama/learn", "internal/llama/token"},
	"internal/lm/loader": {"reasoner", "internal/lm", "internal/llama/learn", "internal/llama/lora"},
	"internal/eval/live": {"internal/factors"},
	"rltrainer":          {"internal/lm/engine", "internal/llama", "internal/llama/learn", "internal/llama/token"},
	"internal/lm/ollama": {"reasoner", "internal/lm/engine", "internal/lm/loader", "internal/llama", "internal/llama/learn"},
}

// libraries names the packages that may import a library, test files aside. What is not listed, anybody may import.
var libraries = map[string][]string{
	// Nothing else knows which model server answers.
	"github.com/ollama/ollama": {"internal/lm/ollama"},
	// Nothing outside graphcache touches a graph key: the reasoner writes what apps read, adapters what is served by and who
	// trains, the others only connect.
	"github.com/redis/go-redis/v9": {"graphcache", "reasoner", "cmd/r2rec", "internal/adapters", "internal/embedded", "internal/embedded/embeddedtest"},
	"github.com/segmentio/kafka-go": {"consumer", "reasoner", "rltrainer", "cmd/r2rec", "internal/adapters", "internal/broker", "internal/dataset",
		"internal/embedded", "internal/embedded/embeddedtest"},
	"gocloud.dev":                    {"internal/adapters"},
	"github.com/twmb/franz-go":       {"internal/embedded"},
	"github.com/alicebob/miniredis":  {"internal/embedded"},
	"github.com/alecthomas/kong":     {"cmd/r2rec"},
	"github.com/schollz/progressbar": {"cmd/r2rec"},
	"testing":                        {"internal/embedded/embeddedtest"},
}

func TestTheProjectKeepsItsShape(t *testing.T) {
	problems, err := violations(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

// Each rule finds the smallest project that breaks it, and lets the nearest one that does not pass.
func TestRules(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  []string
	}{
		"in its row": {fstest.MapFS{
			"consumer/a.go": file("// Package consumer reads.\npackage consumer\nimport _ \"github.com/r2rec/r2rec/internal/event\"\n"),
		}, nil},
		"not in its row": {fstest.MapFS{
			"consumer/a.go": file("// Package consumer reads.\npackage consumer\nimport _ \"github.com/r2rec/r2rec/graphcache\"\n"),
		}, []string{`consumer/a.go imports graphcache, which its row in internal/archtest does not allow: [internal/event]`}},
		"behind a build tag": {fstest.MapFS{
			"consumer/a.go": file("//go:build never\n\n// Package consumer reads.\npackage consumer\nimport _ \"github.com/r2rec/r2rec/graphcache\"\n"),
		}, []string{`consumer/a.go imports graphcache, which its row in internal/archtest does not allow: [internal/event]`}},
		"a test may use the embedded servers and its own package": {fstest.MapFS{
			"consumer/a.go":      file("// Package consumer reads.\npackage consumer\n"),
			"consumer/a_test.go": file("package consumer_test\nimport (\n_ \"testing\"\n_ \"github.com/r2rec/r2rec/consumer\"\n_ \"github.com/r2rec/r2rec/internal/embedded/embeddedtest\"\n)\n"),
		}, nil},
		"a test may not use any package": {fstest.MapFS{
			"consumer/a.go":      file("// Package consumer reads.\npackage consumer\n"),
			"consumer/a_test.go": file("package consumer\nimport _ \"github.com/r2rec/r2rec/reasoner\"\n"),
		}, []string{`consumer/a_test.go imports reasoner, which its row in internal/archtest does not allow: [internal/event]`}},
		"no row": {fstest.MapFS{
			"internal/util/a.go": file("// Package util helps.\npackage util\n"),
		}, []string{`internal/util has no row in internal/archtest: add it, with the packages it may import`}},
		"no package comment": {fstest.MapFS{
			"graphcache/a.go":      file("package graphcache\n"),
			"graphcache/a_test.go": file("// Package graphcache is described here in vain.\npackage graphcache\n"),
		}, []string{`graphcache has no package comment: say what it is for, what it promises and what it leaves to others`}},
		"a library of another package": {fstest.MapFS{
			"reasoner/a.go":           file("// Package reasoner ranks.\npackage reasoner\nimport _ \"github.com/ollama/ollama/api\"\n"),
			"internal/lm/ollama/a.go": file("// Package ollama asks Ollama.\npackage ollama\nimport _ \"github.com/ollama/ollama/api\"\n"),
		}, []string{`reasoner/a.go imports github.com/ollama/ollama/api, which only [internal/lm/ollama] may`}},
		"testing outside tests": {fstest.MapFS{
			"graphcache/a.go": file("// Package graphcache stores.\npackage graphcache\nimport _ \"testing\"\n"),
		}, []string{`graphcache/a.go imports testing, which only [internal/embedded/embeddedtest] may`}},
		"a folder that the go command ignores": {fstest.MapFS{
			"internal/eval/testdata/a.go": file("package any\n"),
			"internal/_old/a.go":          file("package any\n"),
			".cache/a.go":                 file("package any\n"),
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := violations(c.files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
