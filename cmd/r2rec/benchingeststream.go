package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/r2rec/r2rec/graphcache"
	"github.com/r2rec/r2rec/internal/event"
	"github.com/redis/go-redis/v9"
)

// stream is commands in Redis' protocol, one after the other.
type stream struct {
	bytes    []byte
	commands int // and so replies
}

// oneByOne is what joins the events into the graph one by one.
func oneByOne(graph *graphcache.Cache, events []event.Interaction) (s stream) {
	for _, in := range events {
		var n int
		s.bytes, n = graph.AppendAlone(s.bytes, in)
		s.commands += n
	}
	return s
}

// send gives Redis all commands down one connection, without waiting for replies in between, and returns when the last
// reply is in. A reply that is an error, also one within a transaction, is the error. When send returns, Redis works on
// nothing of it any more.
func (s *ingestStore) send(ctx context.Context, what stream) (err error) {
	opt := s.rdb.Options()
	conn, err := opt.Dialer(ctx, opt.Network, opt.Addr)
	if err != nil {
		return fmt.Errorf("connect to redis: %w", err)
	}
	defer conn.Close()
	stopWriting := func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) } // fails on a closed connection only
	defer context.AfterFunc(ctx, stopWriting)()
	in := bufio.NewReaderSize(conn, 1<<20)
	for _, part := range []stream{greeting(opt), what} {
		var written, read error
		var writing sync.WaitGroup
		writing.Go(func() {
			if _, written = conn.Write(part.bytes); written != nil {
				hangUp(conn)
			}
		})
		for i := 0; i < part.commands && read == nil; i++ {
			read = skipReply(in)
		}
		if read != nil {
			stopWriting()
		}
		writing.Wait()
		if err := errors.Join(read, written); err != nil {
			hangUp(conn)
			_ = conn.SetReadDeadline(time.Now().Add(cleanUpWithin))
			_, _ = io.Copy(io.Discard, conn) // until Redis, which has seen the end, hangs up too
			return fmt.Errorf("send commands to redis: %w", cmp.Or(context.Cause(ctx), err))
		}
	}
	return nil
}

// hangUp tells the other side that nothing more will come.
func hangUp(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails where the connection is gone, which is as good
	}
}

// greeting is what a connection begins with.
func greeting(opt *redis.Options) (s stream) {
	add := func(args ...string) {
		s.commands++
		s.bytes = fmt.Appendf(s.bytes, "*%d\r\n", len(args))
		for _, arg := range args {
			s.bytes = fmt.Appendf(s.bytes, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	switch {
	case opt.Username != "":
		add("AUTH", opt.Username, opt.Password)
	case opt.Password != "":
		add("AUTH", opt.Password)
	}
	add("SELECT", strconv.Itoa(opt.DB))
	return s
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

// recording gives the graph through a client of its own that keeps what it sends, and a function that returns it and
// closes the client: pipeline by pipeline, in the order in which their replies began to be read. What opens a connection
// is left out.
func (s *ingestStore) recording(ctx context.Context) (graph *graphcache.Generations, recorded func() (stream, error), err error) {
	opt := *s.rdb.Options()
	opt.PushNotificationProcessor = nil // is the other client's
	dial := opt.Dialer
	rec := &recorder{}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &recordedConn{Conn: conn, to: rec}, err
	}
	rdb := redis.NewClient(&opt)
	if graph, err = s.graph(ctx, rdb); err != nil {
		return nil, nil, errors.Join(err, rdb.Close())
	}
	rec.take() // what the graph asked the server about its settings
	return graph, func() (stream, error) { return rec.take(), rdb.Close() }, nil
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

// take returns what was recorded, and forgets it.
func (r *recorder) take() stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = stream{}
	return all
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
