package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Kafka is a running broker.
type Kafka struct {
	Addr string // host:port

	cluster *kfake.Cluster
	conns   sync.WaitGroup
}

// StartKafka runs a broker until Close. It creates no topic by itself. ctx bounds the start only.
func StartKafka(ctx context.Context, o Options) (*Kafka, error) {
	k := &Kafka{}
	options := []kfake.Opt{
		kfake.Ports(o.KafkaPort),
		kfake.ClusterID("r2rec-embedded"),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			var config net.ListenConfig
			l, err := config.Listen(ctx, network, address)
			if err != nil {
				return nil, err
			}
			k.Addr = l.Addr().String()
			k.conns.Add(1)
			return &countingListener{Listener: l, open: &k.conns}, nil
		}),
	}
	if o.Logger != nil {
		options = append(options, kfake.WithLogger(brokerLogger{o.Logger}))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("start the embedded Kafka on 127.0.0.1:%d: %w", o.KafkaPort, err)
	}
	k.cluster = cluster
	return k, nil
}

// Close stops the broker, ends every connection and drops the data.
func (k *Kafka) Close() {
	k.cluster.Close()
	k.conns.Wait()
}

// countingListener lets Close wait for what the broker only tells to end. The listener itself counts as open until Accept
// fails, so that a connection is never counted after the waiting is over.
type countingListener struct {
	net.Listener
	open   *sync.WaitGroup
	failed sync.Once
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		l.failed.Do(l.open.Done)
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: conn, open: l.open}, nil
}

type countedConn struct {
	net.Conn
	open   *sync.WaitGroup
	closed sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(c.open.Done)
	return err
}

// brokerLogger passes on what the broker reports: its debug and info messages, one a request, become debug.
type brokerLogger struct{ to *slog.Logger }

func (l brokerLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	}
	if ctx := context.Background(); l.to.Enabled(ctx, to) {
		l.to.Log(ctx, to, "embedded Kafka: "+fmt.Sprintf(format, args...))
	}
}
