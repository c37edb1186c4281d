package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// The SASL mechanisms that Settings.SASL names.
const (
	SASLPlain       = "plain"
	SASLScramSHA256 = "scram-sha-256"
	SASLScramSHA512 = "scram-sha-512"
)

// Settings say how to reach a Kafka cluster. The zero value of every field but Brokers is a working default.
type Settings struct {
	Brokers     []string // addresses to begin with, host:port; at least one
	ClientID    string   // name that the brokers log; default r2rec
	TopicPrefix string   // put before every topic's name, so that several installations can share a cluster

	TLS      bool   // encrypt; set by itself where one of the files below is
	CAFile   string // PEM file of the authorities to trust; empty: those of the system
	CertFile string // PEM file of the client's certificate; goes with KeyFile
	KeyFile  string // PEM file of its key

	SASL     string // plain, scram-sha-256 or scram-sha-512; empty: no authentication. Plain without TLS sends the password in the clear
	User     string // required with SASL
	Password Secret // required with SASL
}

// Secret is a string that prints as stars, whatever prints it.
type Secret string

const stars = "***"

// String hides the secret from fmt.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return stars
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the secret from encoders and from slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is the settings without the password.
func (s Settings) LogValue() slog.Value {
	s = s.withDefaults()
	return slog.GroupValue(
		slog.String("brokers", strings.Join(s.Brokers, ",")),
		slog.String("client_id", s.ClientID),
		slog.String("topic_prefix", s.TopicPrefix),
		slog.Bool("tls", s.TLS),
		slog.String("sasl", s.SASL),
		slog.String("user", s.User),
		slog.String("password", s.Password.String()),
	)
}

var (
	legalPrefix    = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
	maxPrefixBytes = 200 // Kafka's limit on a topic's name is 249
)

// Validate reports all that is wrong with the settings, naming each field and its value.
func (s Settings) Validate() error {
	s = s.withDefaults()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka settings: "+format, args...)) }

	if len(s.Brokers) == 0 {
		fail("brokers: none given, want at least one host:port")
	}
	for _, b := range s.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			fail("brokers: %q is not host:port", b)
		}
	}
	if !legalPrefix.MatchString(s.TopicPrefix) || len(s.TopicPrefix) > maxPrefixBytes {
		fail("topic prefix: %q: want at most %d letters, digits, dots, underscores and dashes", s.TopicPrefix, maxPrefixBytes)
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		fail("client certificate %q and key %q: want both or none", s.CertFile, s.KeyFile)
	}
	switch s.SASL {
	case "":
		if s.User != "" || s.Password != "" {
			fail("user %q: given without a SASL mechanism", s.User)
		}
	case SASLPlain, SASLScramSHA256, SASLScramSHA512:
		if s.User == "" || s.Password == "" {
			fail("SASL %s: want a user and a password", s.SASL)
		}
	default:
		fail("SASL: %q is not one of %s, %s, %s", s.SASL, SASLPlain, SASLScramSHA256, SASLScramSHA512)
	}
	return errors.Join(errs...)
}

func (s Settings) withDefaults() Settings {
	if s.ClientID == "" {
		s.ClientID = "r2rec"
	}
	s.TLS = s.TLS || s.CAFile != "" || s.CertFile != ""
	return s
}

// describe names the cluster and the way to it, for errors.
func (s Settings) describe() string {
	how := "no TLS"
	if s.TLS {
		how = "TLS"
	}
	if s.SASL != "" {
		how += fmt.Sprintf(", SASL %s as %q", s.SASL, s.User)
	}
	return fmt.Sprintf("Kafka at %s (%s)", strings.Join(s.Brokers, ", "), how)
}

func (s Settings) tlsConfig() (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka settings: CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka settings: CA file %s: holds no PEM certificate", s.CAFile)
		}
	}
	if s.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka settings: client certificate %s with key %s: %w", s.CertFile, s.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

func (s Settings) mechanism() (sasl.Mechanism, error) {
	var algorithm scram.Algorithm
	switch s.SASL {
	case SASLPlain:
		return plain.Mechanism{Username: s.User, Password: string(s.Password)}, nil
	case SASLScramSHA256:
		algorithm = scram.SHA256
	case SASLScramSHA512:
		algorithm = scram.SHA512
	default:
		return nil, nil
	}
	m, err := scram.Mechanism(algorithm, s.User, string(s.Password))
	if err != nil {
		// The cause is left out: it may quote the password that cannot be prepared.
		return nil, fmt.Errorf("kafka settings: SASL %s as %q: user or password has characters that SASLprep forbids", s.SASL, s.User)
	}
	return m, nil
}
