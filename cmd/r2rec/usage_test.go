package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongUsage wants one line that names the fault and the way out, and never a secret.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"frobnicate", 2, "unexpected argument frobnicate"},
		{"recommend", 2, `expected "<user>"`},
		{"demo --rate 0", 2, "--rate 0: want more than 0"},
		{"consume --reward kiss=1", 2, "--reward kiss=1: there is no such interaction"},
		{"consume --reward click=x", 2, "--reward: invalid map value"},
		{"train", 2, "say --once, or --every with a time such as 1h"},
		{"train --once --threads 0", 2, "--threads 0: want 1 or more"},
		{"train --once --roll-out-limit 0s", 2, "--roll-out-limit 0s: want some time"},
		{"train --once --share 0", 2, "--share 0: want more than 0, and at most 1"},
		{"train --once --held 0", 2, "--held 0: want more than 0, and less than 1"},
		{"train --once --staleness 0s", 2, "--staleness 0s: want some time"},
		{"train --once --detect 0", 2, "--detect 0: want more than 0"},
		{"train --once --beta 0", 2, "--beta 0: want more than 0"},
		{"train --once --rate 0", 2, "--rate 0: want more than 0"},
		{"train --once --fit-rate 0", 2, "--fit-rate 0: want more than 0"},
		{"train export out --staleness 0s", 2, "--staleness 0s: want some time"},
		{"train export out --held 0", 2, "--held 0: want more than 0, and less than 1"},
		{"adapters import . --share 0", 2, "--share 0: want more than 0, and at most 1"},
		{"adapters import . --detect 0", 2, "--detect 0: want more than 0"},
		{"recommend u -k 0", 2, "-k 0: want 1 to 20"},
		{"recommend u -k 21", 2, "-k 21: want 1 to 20"},
		{"recommend u --surface home\x7f", 2, `--surface "home\x7f" holds a control character`},
		{"recommend u\x7f", 2, "holds a control character"},
		{"consume --reward impression=1", 2, "--reward impression=1: to be shown earns nothing"},
		{"consume --reward click=NaN", 2, "--reward click=NaN: want a finite number"},
		{"consume --lateness 1h", 2, "--attribution-window 30m0s: want at least as long as --lateness, 1h0m0s"},
		{"consume --lateness 0", 2, "--lateness 0s: want at least 1ms"},
		{"consume --attribution-window 0", 2, "--attribution-window 0s: want at least 1ms"},
		{"serve --consume --showable-for 0", 2, "--showable-for 0s: want at least 1ms"},
		{"serve --listen 127.0.0.1:0 --ttl 9000h", 2, "--ttl 9000h0m0s: want 1s to 8784h0m0s"},
		{"consume --group=", 2, "--group is empty: want a name"},
		{"consume --session-timeout 0", 2, "--session-timeout 0s: want at least 100ms"},
		{"serve --consume --session-timeout=-1s", 2, "--session-timeout -1s: want at least 100ms"},
		{"consume --half-life 0", 2, "r2rec: --half-life 0s: want more than 0"},
		{"consume --positive 2 --negative 4", 2, "r2rec: --negative 4, --positive 2: want a bound of bad ratings below"},
		{"forget u --positive NaN", 2, "r2rec: --negative 2, --positive NaN: want a bound of bad ratings below"},
		{"graph --bound=-1", 2, "r2rec: --bound -1: want at least 1 edge"},
		{"import --partitions 0", 2, "--partitions 0: want 1 or more"},
		{"consume --examination home=1,0", 2, `surface "home": the probability of position 2 is 0`},
		{"serve --consume --listen 127.0.0.1:0 --examination home", 2, "want cascade, or SURFACE=P1,P2"},
		{"demo --visits=-1", 2, "--visits -1: want 0 to 1000"},
		{"demo --visit-limit 0", 2, "--visit-limit 0: want 1 or more"},
		{"demo --round-every=-1", 2, "--round-every -1: want 0 or more"},
		{"demo --live=-1", 2, "--live -1: want 0 or more"},
		{"demo --live 200000", 2, "has 100004 interactions"},
		{"demo --listen 127.0.0.1:0 --weights /no/such/file", 1, "--weights /no/such/file: open"},
		{"demo --listen 127.0.0.1:0 --model-weight 2", 1, "ModelWeight is 2, must be 0 to 1"},
		{"graph --redis redis://u:hush#x@127.0.0.1:1/0", 1, "percent-encoded"},
		{"demo --listen 8080", 2, "want host:port, such as 127.0.0.1:8080"},
		{"serve --listen example.org:80", 2, "must be an address of this machine"},
		{"demo --token sesäme", 2, "--token: it has a blank or a character beyond ASCII"},
		{"demo --allowed-host https://rec.example.com", 2, `--allowed-host "https://rec.example.com": want a host name in ASCII, such as rec.example.com`},
		{"serve --listen 127.0.0.1:0 --allowed-host rec.example.com,*.example.com", 2, `--allowed-host "*.example.com": want a host name`},
		{"consume --monitor 127.0.0.1:0 --allowed-host rec.example.com/", 2, `--allowed-host "rec.example.com/": want a host name`},
		{"plan --users 10 --items 10 --edges 20 --recommended 2", 2, "--recommended 2: want a share, 0 to 1"},
		{"graph --redis nonsense", 1, "want redis://user:password@host:port/db"},
		{"graph --redis redis://u:hush%hush@127.0.0.1:1/0", 1, "want redis://user:password@host:port/db"},
		{"graph --redis redis://u:hush@127.0.0.1:1/0", 1, "redis at 127.0.0.1:1"},
		{"adapters promote x --share 2", 2, "--share 2: want more than 0, and at most 1"},
		{"adapters prune --keep=-1", 2, "--keep -1: want 0 or more"},
		{"adapters list --adapters ftp://u:hush@host", 1, "--adapters: open the store of adapters at ftp://u:xxxxx@host: this program knows no ftp"},
		{"adapters list --adapters /proc/none", 1, "/proc/none"},
		{"import /does/not/exist", 1, "/does/not/exist"},
		{"import --kafka nohost", 1, `"nohost" is not host:port`},
		{"import --kafka a:1 --kafka-sasl plain --kafka-user u", 1, "want a user and a password"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(tc.args), &out, &errs)
		if code != tc.code || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("r2rec %s: exit code %d, %q; want %d and %q", tc.args, code, errs.String(), tc.code, tc.want)
		}
		if strings.Contains(errs.String(), "hush") || strings.Contains(errs.String(), "goroutine") {
			t.Errorf("r2rec %s tells a secret or a stack: %s", tc.args, errs.String())
		}
	}
}

// What a command ends with is read by what reads its log.
func TestTheLastErrorIsAsMachinesReadIt(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		code int
		said map[string]string
	}{
		"graph --log-json --redis redis://127.0.0.1:1/0": {1, map[string]string{"level": "ERROR", "error": "redis at 127.0.0.1:1"}},
		"train --log-json --once --threads 0":            {2, map[string]string{"level": "ERROR", "error": "--threads 0: want 1 or more", "try": "r2rec train round --help"}},
		"eval --log-json --nothing":                      {2, map[string]string{"level": "ERROR", "error": "unknown flag --nothing", "try": "r2rec eval --help"}},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(args), &out, &errs)
		var said map[string]any
		if err := json.Unmarshal(errs.Bytes(), &said); err != nil || code != want.code {
			t.Errorf("r2rec %s: exit code %d, want %d, and one JSON object: %q, %v", args, code, want.code, errs.String(), err)
		}
		for key, value := range want.said {
			if got, _ := said[key].(string); !strings.Contains(got, value) {
				t.Errorf("r2rec %s: %s is %q, want %q", args, key, got, value)
			}
		}
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"", "demo", "import", "consume", "serve", "recommend", "graph", "eval", "lm", "lm pretrain", "lm tune", "lm traces", "lm export", "lm think",
		"adapters", "adapters list", "adapters show", "adapters diff", "adapters promote", "adapters convert", "adapters import", "adapters rollback", "adapters prune",
		"ope", "ope log", "ope power", "train", "train round", "train replay", "train compare", "train export", "train examination"} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(strings.Fields(command), "--help"), &out, &errs)
		if code != 0 || !strings.Contains(out.String(), "Usage: r2rec") || errs.Len() != 0 {
			t.Errorf("r2rec %s --help: exit code %d, %q, %q", command, code, out.String(), errs.String())
		}
	}
}

func TestConfigurationFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path, dashed, snake := file("r2rec.json", `{"redis": "from-the-file"}`), file("dashed.json", `{"explore-share": 5}`), file("snake.json", `{"explore_share": 5}`)
	misspelt := file("misspelt.json", `{"reddis": "redis://127.0.0.1:1/0", "forget-kye": "s", "max-tokens": 3, "think": 4}`)
	number := file("number.json", `{"model-timeout": 20}`)
	t.Setenv("R2REC_REDIS", "redis://127.0.0.1:2/0")
	var said, errs bytes.Buffer
	if code := run(t.Context(), []string{"graph", "--config", path}, &said, &errs); code == 0 || !strings.Contains(errs.String(), "redis at 127.0.0.1:2") {
		t.Errorf("the environment does not go before the file: exit code %d, %q", code, errs.String())
	}
	os.Unsetenv("R2REC_REDIS")
	for args, want := range map[string]string{
		"graph --config " + path:                                    "want redis://user:password@host:port/db",
		"graph --config " + path + " --redis redis://127.0.0.1:1/0": "redis at 127.0.0.1:1",
		"serve --listen 127.0.0.1:0 --config " + dashed:             "--explore-share 5: want 0 to 1",
		"serve --listen 127.0.0.1:0 --config " + snake:              "--explore-share 5: want 0 to 1",
		"serve --config " + number:                                  `--config has 20, without a unit: want a time such as "20s"`,
		"serve --config " + misspelt:                                "no command has a flag --forget-kye, --max-tokens, --reddis",
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code == 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("r2rec %s: exit code %d, %q; want %q", args, code, errs.String(), want)
		}
	}
}

// What fills or empties servers to measure goes to those that its command line names, never to those of production.
func TestMeasurementsNameTheirServersThemselves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shared.json")
	if err := os.WriteFile(path, []byte(`{"redis": "redis://production/0", "kafka": ["production:9092"], "prefix": "r2:", "ollama": "http://production"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("R2REC_REDIS", "redis://production/1")
	t.Setenv("R2REC_KAFKA", "production:9093")
	t.Setenv("R2REC_PREFIX", "r2:")
	for _, command := range []string{"bench ingest", "bench retrieve", "bench memory", "bench lm", "bench swap", "eval"} {
		var c cli
		parser, err := newParser(&c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append(strings.Fields(command), "--config", path)); err != nil {
			t.Fatal(err)
		}
		servers := fmt.Sprint(c.Bench.Ingest.Redis, c.Bench.Ingest.Kafka, c.Bench.Ingest.Prefix, c.Bench.Retrieve.Redis, c.Bench.Retrieve.Prefix, c.Bench.Memory.Redis, c.Eval.Redis,
			c.Bench.LM.Ollama, c.Bench.Swap.Ollama, c.Eval.Ollama)
		if strings.Contains(servers, "production") || strings.Contains(servers, "r2:") {
			t.Errorf("%s: %s", command, servers)
		}
	}
}

// All that is about the model which servers run finds it where they do.
func TestTheServedModelIsNamedOnce(t *testing.T) {
	t.Setenv("R2REC_MODEL", baseFile)
	for _, command := range []string{"serve", "train --once", "train export out", "adapters promote x", "adapters import .", "adapters convert . --adapter-out out", "adapters diff a b"} {
		var c cli
		parser, err := newParser(&c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(strings.Fields(command)); err != nil {
			t.Fatal(err)
		}
		models := c.Serve.Model + c.Train.Round.Model + c.Train.Export.Model + c.Adapters.Promote.Model + c.Adapters.Import.Model + c.Adapters.Convert.Model + c.Adapters.Diff.Model
		if !strings.Contains(models, filepath.Base(baseFile)) {
			t.Errorf("%s does not take R2REC_MODEL, but %q", command, models)
		}
	}
}

// A list that another ranking made does not take the place of what servers made that follow the log of adapters.
func TestRecommendBesideTheLogOfAdapters(t *testing.T) {
	t.Setenv("R2REC_ADAPTERS", "file:///adapters")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"recommend", "u"}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "--dry-run") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

// Only where the port is taken is another r2rec to blame.
func TestListenSaysWhatIsWrong(t *testing.T) {
	taken, err := listen("--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const another = "is another r2rec running?"
	if _, err := listen("--listen", taken.Addr().String()); err == nil || !strings.Contains(err.Error(), another) {
		t.Errorf("a port that is taken: %v", err)
	}
	const elsewhere = "192.0.2.1:0" // for documentation: no machine has it
	if _, err := listen("--listen", elsewhere); err == nil || strings.Contains(err.Error(), another) || !strings.Contains(err.Error(), "--listen "+elsewhere) {
		t.Errorf("another machine's address: %v", err)
	}
}

// Whoever gets a command wrong is led to the help of that one.
func TestWrongUsageLeadsToTheCommandsHelp(t *testing.T) {
	for args, want := range map[string]string{"eval --nothing": "Try: r2rec eval --help", "lm tune --nothing": "Try: r2rec lm tune --help", "nothing": "Try: r2rec --help"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("r2rec %s: exit code %d, %q; want 2 and %q", args, code, errs.String(), want)
		}
	}
}
