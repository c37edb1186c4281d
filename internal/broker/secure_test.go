package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/r2rec/r2rec/internal/broker"
)

// Writing and reading work over TLS with a client certificate and each SASL mechanism, and fail without.
func TestTLSAndSASL(t *testing.T) {
	pki := newPKI(t)
	for ours, theirs := range map[string]string{broker.SASLPlain: "PLAIN", broker.SASLScramSHA256: "SCRAM-SHA-256", broker.SASLScramSHA512: "SCRAM-SHA-512"} {
		t.Run(ours, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(theirs, "alice", "correct horse"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pki.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pki.pool}))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			good := broker.Settings{Brokers: cluster.ListenAddrs(), CAFile: pki.certFile, CertFile: pki.certFile, KeyFile: pki.keyFile,
				SASL: ours, User: "alice", Password: "correct horse"}

			ctx, c := bounded(t), newClient(t, good)
			if err := c.WaitReady(ctx, limit, nil); err != nil {
				t.Fatal(err)
			}
			if err := c.EnsureTopics(ctx, broker.Topics{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
			write(ctx, t, c, broker.Rewards, kafka.Message{Value: []byte("secret")})
			if got := readFirst(ctx, t, c, broker.Rewards, 0); string(got.Value) != "secret" {
				t.Errorf("read %q", got.Value)
			}

			for name, spoil := range map[string]func(*broker.Settings){
				"wrong password": func(s *broker.Settings) { s.Password = "battery staple" },
				"no certificate": func(s *broker.Settings) { s.CertFile, s.KeyFile = "", "" },
				"unknown CA":     func(s *broker.Settings) { s.CAFile, s.TLS = newPKI(t).certFile, true },
				"no TLS":         func(s *broker.Settings) { s.CAFile, s.CertFile, s.KeyFile = "", "", "" },
			} {
				s := good
				spoil(&s)
				err := newClient(t, s).WaitReady(ctx, 10*time.Millisecond, nil)
				if err == nil || !strings.Contains(err.Error(), s.Brokers[0]) || !strings.Contains(err.Error(), ours) {
					t.Errorf("%s: %v, want an error that names %s and %s", name, err, s.Brokers[0], ours)
				} else if strings.Contains(err.Error(), string(s.Password)) {
					t.Errorf("%s: the error shows the password: %v", name, err)
				}
			}
		})
	}
}

type pki struct {
	cert              tls.Certificate
	pool              *x509.CertPool
	certFile, keyFile string
}

// newPKI makes one certificate that is its own authority and serves both ends.
func newPKI(t *testing.T) pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	p := pki{pool: x509.NewCertPool(), certFile: filepath.Join(t.TempDir(), "cert.pem"), keyFile: filepath.Join(t.TempDir(), "key.pem")}
	p.pool.AppendCertsFromPEM(certPEM)
	if p.cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{p.certFile: certPEM, p.keyFile: keyPEM} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}
