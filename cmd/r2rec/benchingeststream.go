package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// stream is commands in Redis' protocol, one after the other.
type stream struct {
	bytes    []byte
	commands int // and so replies
}

// send gives Redis all commands down one connection, without waiting for replies in between, and returns when the last
// reply is in. A reply that is an error, also one within a transaction, is the error.
func (s *ingestStore) send(ctx context.Context, what stream) (err error) {
	opt := s.rdb.Options()
	conn, err := opt.Dialer(ctx, opt.Network, opt.Addr)
	if err != nil {
		return fmt.Errorf("connect to redis: %w", err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 1<<20)
	hello := stream{}
	add := func(args ...string) {
		hello.commands++
		hello.bytes = fmt.Appendf(hello.bytes, "*%d\r\n", len(args))
		for _, arg := range args {
			hello.bytes = fmt.Appendf(hello.bytes, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	switch {
	case opt.Username != "":
		add("AUTH", opt.Username, opt.Password)
	case opt.Password != "":
		add("AUTH", opt.Password)
	}
	add("SELECT", strconv.Itoa(opt.DB))
	for _, part := range []stream{hello, what} {
		var eg errgroup.Group
		eg.Go(func() error {
			_, err := conn.Write(part.bytes)
			return err
		})
		eg.Go(func() error {
			for range part.commands {
				if err := skipReply(in); err != nil {
					conn.Close() // lets go of the writer
					return err
				}
			}
			return nil
		})
		if err := eg.Wait(); err != nil {
			return fmt.Errorf("send commands to redis: %w", errors.Join(context.Cause(ctx), err))
		}
	}
	return nil
}

// skipReply reads one reply (RESP2).
func skipReply(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	switch line[0] {
	case '+', ':':
		return nil
	case '-':
		return fmt.Errorf("redis replies %q", bytes.TrimSpace(line[1:]))
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	if err != nil || line[0] != '*' && line[0] != '$' {
		return fmt.Errorf("redis replies %q, which is no reply", line)
	}
	if line[0] == '$' {
		if n >= 0 {
			_, err = r.Discard(n + 2)
		}
		return err
	}
	for range n {
		if err := skipReply(r); err != nil {
			return err
		}
	}
	return nil
}

// recording gives a client like the store's that keeps what it sends, and a function that returns it: pipeline by
// pipeline, in the order in which their replies began to be read. What opens a connection is left out.
func (s *ingestStore) recording() (rdb *redis.Client, recorded func() stream) {
	opt := *s.rdb.Options()
	dial := opt.Dialer
	rec := &recorder{}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &recordedConn{Conn: conn, to: rec}, err
	}
	return redis.NewClient(&opt), rec.stream
}

// opening are the commands by which a client makes itself known; a bare connection does it otherwise.
var opening = map[string]bool{"hello": true, "auth": true, "select": true, "client": true, "config": true}

type recorder struct {
	mu  sync.Mutex
	all stream
}

func (r *recorder) add(pipeline []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(pipeline) > 0 {
		name, n := firstCommand(pipeline)
		if !opening[name] {
			r.all.bytes = append(r.all.bytes, pipeline[:n]...)
			r.all.commands++
		}
		pipeline = pipeline[n:]
	}
}

func (r *recorder) stream() stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// recordedConn collects what is written until the next read.
type recordedConn struct {
	net.Conn
	to      *recorder
	written []byte
}

func (c *recordedConn) Write(p []byte) (int, error) {
	c.written = append(c.written, p...)
	return c.Conn.Write(p)
}

func (c *recordedConn) Read(p []byte) (int, error) {
	if len(c.written) > 0 {
		c.to.add(c.written)
		c.written = c.written[:0]
	}
	return c.Conn.Read(p)
}

// firstCommand is the name and the length of the first command in b, an array of bulk strings that a client wrote.
func firstCommand(b []byte) (name string, length int) {
	at := 0
	number := func() (n int) { // after its sign * or $
		for at++; b[at] != '\r'; at++ {
			n = 10*n + int(b[at]-'0')
		}
		at += 2
		return n
	}
	for i := range number() {
		n := number()
		if i == 0 {
			name = strings.ToLower(string(b[at : at+n]))
		}
		at += n + 2
	}
	return name, at
}
