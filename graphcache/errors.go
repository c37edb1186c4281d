package graphcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Error is a failed call to Redis.
type Error struct {
	Op  string
	Err error
}

// Error says what was being done, what that means for who runs the servers, and what the server or the network said.
func (e *Error) Error() string {
	if why := meaning(e.Err); why != "" {
		return e.Op + ": " + why + ": " + e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Retriable tells whether the same call may succeed later, with nobody changing anything: the network, a server that
// is loading, full, failing over or read-only. A wrong type, a wrong password, a closed client or what is stored as a number
// and is none stays wrong.
func (e *Error) Retriable() bool {
	var reply redis.Error
	switch {
	case isNoNumber(e.Err):
		return false
	case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, redis.ErrClosed):
		return false
	case errors.As(e.Err, &reply):
		return retriableReply(reply.Error())
	}
	return true
}

// retriableReplies are the error codes by which a Redis says "not now".
var retriableReplies = []string{"LOADING", "READONLY", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS",
	"MISCONF", "EXECABORT", "NOSCRIPT", "MOVED", "ASK", "UNBLOCKED", "ERR max number of clients"}

func retriableReply(msg string) bool {
	for _, code := range retriableReplies {
		if strings.HasPrefix(msg, code) {
			return true
		}
	}
	return false
}

// meanings are what replies mean to who runs the servers.
var meanings = []struct{ code, meaning string }{
	{"OOM", "Redis is full, and events wait in Kafka until it has more memory (maxmemory)"},
	{"READONLY", "this Redis is a read-only replica: connect to its master, unless it is about to become one"},
	{"LOADING", "Redis is loading its data"},
	{"MISCONF", "Redis refuses writes because it cannot save to disk"},
	{"NOREPLICAS", "Redis refuses writes because too few replicas are in step"},
	{"MASTERDOWN", "this Redis is a replica that has lost its master"},
	{"CLUSTERDOWN", "the Redis Cluster does not serve all slots: a master is down and no replica has taken over"},
	{"BUSY", "Redis is busy with somebody's script"},
	{"ERR max number of clients", "Redis has too many clients"},
}

// meaning is what an error means to who runs the servers; empty: it says so itself.
func meaning(err error) string {
	var reply redis.Error
	var network net.Error
	switch {
	case isNoNumber(err):
		return "what is stored there is no number, so another program wrote it"
	case errors.As(err, &reply):
		return meaningOf(reply.Error())
	case errors.Is(err, context.Canceled):
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return "Redis does not answer in time: it is slow, paused or cut off"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return "Redis cannot be reached"
	}
	return ""
}

func meaningOf(reply string) string {
	for _, m := range meanings {
		if strings.HasPrefix(reply, m.code) {
			return m.meaning
		}
	}
	return ""
}

// isNoNumber tells whether something was read that is no number, and has to be.
func isNoNumber(err error) bool {
	var wrong *strconv.NumError
	return errors.As(err, &wrong)
}

// isNoScript tells whether the server does not know a script by its digest.
func isNoScript(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), "NOSCRIPT")
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: "graphcache: " + op, Err: err}
}

func wrapf(err error, format string, args ...any) error {
	return wrap(fmt.Sprintf(format, args...), err)
}
