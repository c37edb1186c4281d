package broker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/r2rec/r2rec/internal/broker"
)

// A password does not leave the settings, whatever prints them.
func TestPasswordIsNeverShown(t *testing.T) {
	s := broker.Settings{Brokers: []string{"kafka:9092"}, SASL: broker.SASLPlain, User: "alice", Password: "hunter2"}
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(handler)
		log.Info("settings", "s", s, "pointer", &s, "secret", s.Password)
	}
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x\n", s, s, s, s.Password, s.Password, s.Password)
	if err := json.NewEncoder(&out).Encode(s); err != nil {
		t.Fatal(err)
	}
	shown := out.String()
	if strings.Contains(shown, "hunter2") || strings.Contains(shown, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("the password is shown: %s", shown)
	}
	if !strings.Contains(shown, "alice") || !strings.Contains(shown, "kafka:9092") {
		t.Errorf("the settings are not shown: %s", shown)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	good := broker.Settings{Brokers: []string{"a:1", "[::1]:2"}, TopicPrefix: "team.one-", SASL: "scram-sha-512", User: "u", Password: "p"}
	if err := good.Validate(); err != nil {
		t.Fatalf("good settings: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(*broker.Settings)
		want  string
	}{
		"no broker":          {func(s *broker.Settings) { s.Brokers = nil }, "brokers"},
		"no port":            {func(s *broker.Settings) { s.Brokers = []string{"kafka"} }, `"kafka"`},
		"prefix":             {func(s *broker.Settings) { s.TopicPrefix = "a/b" }, `"a/b"`},
		"long prefix":        {func(s *broker.Settings) { s.TopicPrefix = strings.Repeat("x", 201) }, "200"},
		"key without cert":   {func(s *broker.Settings) { s.KeyFile = "k.pem" }, `"k.pem"`},
		"mechanism":          {func(s *broker.Settings) { s.SASL = "gssapi" }, `"gssapi"`},
		"no password":        {func(s *broker.Settings) { s.Password = "" }, "password"},
		"user without SASL":  {func(s *broker.Settings) { s.SASL = "" }, `"u"`},
		"two faults at once": {func(s *broker.Settings) { s.Brokers = nil; s.TopicPrefix = "a/b" }, `"a/b"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			c.spoil(&s)
			err := s.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %s", err, c.want)
			}
			if _, newErr := broker.New(s); newErr == nil {
				t.Error("New accepts the settings")
			}
		})
	}
}

func TestNewNamesTheFileItCannotUse(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, s := range map[string]broker.Settings{
		"missing CA":   {CAFile: missing},
		"empty CA":     {CAFile: empty},
		"missing cert": {CertFile: missing, KeyFile: empty},
	} {
		s.Brokers = []string{"kafka:9092"}
		want := missing
		if s.CAFile == empty {
			want = empty
		}
		if _, err := broker.New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, want)
		}
	}
}
