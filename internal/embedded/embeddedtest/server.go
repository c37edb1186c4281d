//go:build unix

package embeddedtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of a test's own, a process that may be killed, paused, and started again on its own files or on
// older ones. It keeps its address. All methods fail the test where they cannot do what they say.
type Server struct {
	Addr string // host:port

	t        testing.TB
	dir      string
	settings []string
	cmd      *exec.Cmd
	ended    chan struct{}
}

// startLimit is how long a Redis may take to start: it may have data to load, and the machine other work. startTries is how
// often it is tried on other ports.
const (
	startLimit = 30 * time.Second
	startTries = 10
)

// OwnRedis starts a real Redis that is set up as deploy/dev's and ends with the test. More settings are as on redis-server's
// command line. It skips the test where there is no redis-server, or fails it where R2REC_REQUIRE_REAL=1.
func OwnRedis(t testing.TB, settings ...string) *Server {
	t.Helper()
	return ownRedis(t, func() []string { return settings })
}

// ownRedis asks for the settings anew with each try.
func ownRedis(t testing.TB, settings func() []string) *Server {
	t.Helper()
	realServer(t, EnvServer)
	for tries := 1; ; tries++ {
		s := &Server{t: t, dir: t.TempDir(), Addr: freeAddr(t), settings: settings()}
		t.Cleanup(func() {
			if s.cmd != nil {
				s.Kill()
			}
		})
		if err := s.start(); err == nil {
			return s
		} else if !errors.Is(err, errInUse) || tries == startTries {
			t.Fatal(err)
		}
	}
}

// freeAddr is below the ephemeral ports, so that no outgoing connection takes it while the server is down.
func freeAddr(t testing.TB) string {
	for {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(10_000)))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			l.Close()
			return addr
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

var errInUse = errors.New("somebody else was faster to take the port")

// Start starts the server on the files that it left, and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) start() error {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--protected-mode", "yes", "--daemonize", "no", "--dir", s.dir,
		"--save", "", "--appendonly", "yes", "--zset-max-listpack-entries", "256", "--rdbcompression", "no", "--logfile", s.log()}, s.settings...)
	s.cmd = exec.Command(os.Getenv(EnvServer), args...)
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start a Redis: %w", err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(s.cmd, s.ended)
	ctx, cancel := context.WithTimeout(s.t.Context(), startLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !answers(ctx, s.Addr) {
		select {
		case <-tick.C:
		case <-s.ended:
			s.cmd = nil
			said, _ := os.ReadFile(s.log())
			if strings.Contains(string(said), "Address already in use") {
				return errInUse
			}
			return fmt.Errorf("the Redis on %s ended while starting:\n%s", s.Addr, said)
		case <-ctx.Done():
			return fmt.Errorf("the Redis on %s does not answer: %w", s.Addr, ctx.Err())
		}
	}
	return nil
}

// answers tells whether a Redis serves requests: it listens before.
func answers(ctx context.Context, addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	return c.Ping(ctx).Err() == nil
}

func (s *Server) log() string { return filepath.Join(s.dir, "redis.log") }

// Kill is kill -9. What the server acknowledged is in its files, but for what it has not yet written.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server in good order.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(signal os.Signal) {
	s.signal(signal)
	<-s.ended
	s.cmd = nil
}

// Pause stops the process where it is: connections stay, and nothing is answered.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Errorf("signal %v to the Redis on %s: %v", signal, s.Addr, err)
	}
}

// Backup copies the files of a server that does not run.
func (s *Server) Backup() (dir string) {
	s.t.Helper()
	dir = s.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// Restore puts the files of a backup in the place of those of a server that does not run.
func (s *Server) Restore(backup string) {
	s.t.Helper()
	s.dir = s.t.TempDir()
	if err := os.CopyFS(s.dir, os.DirFS(backup)); err != nil {
		s.t.Fatal(err)
	}
}

// Options are those of a client of this server.
func (s *Server) Options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: []string{s.Addr}}
}
