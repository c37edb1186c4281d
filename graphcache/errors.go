package graphcache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Error is a failed call to Redis.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Retriable tells whether the same call may succeed later, with nobody changing anything: the network, a server that
// is loading, full, failing over or read-only. A wrong type, a wrong password or a closed client stays wrong.
func (e *Error) Retriable() bool {
	var reply redis.Error
	switch {
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
