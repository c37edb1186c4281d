package embeddedtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between clients and a server and breaks or slows what passes. A request is what a client sends at once: one
// write of its buffer, so that a long pipeline is several.
type Proxy struct {
	Addr string // host:port

	to       string
	listener net.Listener
	open     sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool
	closed   bool
	requests int           // since the last Break
	at       int           // the request that breaks, from 0; negative: none
	kind     Break         // how
	broken   chan struct{} // closed when it has
	delay    time.Duration // of every answer
}

// Break is how a request breaks. The connection is closed each time, and nothing of the answer arrives.
type Break string

// Where a request breaks.
const (
	BreakBefore Break = "before" // the server never sees the request
	BreakWithin Break = "within" // it sees the first half
	BreakAfter  Break = "after"  // it sees all of it, and has answered something
)

// NewProxy passes on to a server until the test ends.
func NewProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]bool{}, at: -1}
	p.open.Add(1)
	go p.accept()
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.Cut()
		p.open.Wait()
	})
	return p
}

// Break breaks the at-th request from now on, counted from 0 over all connections. The channel is closed when it has.
func (p *Proxy) Break(at int, kind Break) (broken <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.at, p.kind, p.broken = 0, at, kind, make(chan struct{})
	return p.broken
}

// Requests is how many there were since the last Break.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Delay holds back every part of an answer for that long from now on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Cut closes all connections; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) accept() {
	defer p.open.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		closed := p.closed
		p.mu.Unlock()
		if closed {
			p.end(client, server)
			return
		}
		swallow := make(chan chan struct{}, 1) // the next answer is not to arrive, and what is to be closed then
		p.open.Add(2)
		go p.forward(client, server, swallow)
		go p.back(client, server, swallow)
	}
}

func (p *Proxy) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// forward passes on requests.
func (p *Proxy) forward(client, server net.Conn, swallow chan chan struct{}) {
	defer p.open.Done()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			p.end(client, server)
			return
		}
		p.mu.Lock()
		broken, kind, done := p.requests == p.at, p.kind, p.broken
		p.requests++
		p.mu.Unlock()
		if broken {
			switch kind {
			case BreakWithin:
				_, _ = server.Write(buf[:n/2])
			case BreakAfter:
				swallow <- done
				_, _ = server.Write(buf[:n])
				return // back closes when the server has answered
			}
			p.end(client, server)
			close(done)
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			p.end(client, server)
			return
		}
	}
}

// back passes on answers.
func (p *Proxy) back(client, server net.Conn, swallow chan chan struct{}) {
	defer p.open.Done()
	defer p.end(client, server)
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case done := <-swallow:
			p.end(client, server)
			close(done)
			return
		default:
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay)
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
