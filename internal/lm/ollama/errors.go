package ollama

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/sony/gobreaker/v2"

	"github.com/r2rec/r2rec/internal/lm"
)

// maxBody is the most bytes of an answer that are read. An answer to a prompt has about 3 kB, a list of models about 400
// bytes each.
const maxBody = 4 << 20

// errTooLarge says that an answer went on beyond maxBody.
var errTooLarge = errors.New("the answer is larger than 4 MiB")

// boundedTransport reads each answer to its end, at most maxBody bytes, before anybody sees it. So an answer is never
// larger than that, and one that broke off is an error here and not a shorter answer further on. An answer that is an error
// always has words, if only its status's: the client library looks at the status of a stream where it has a line to read,
// and takes a proxy's bare 502 for a stream that ended well.
type boundedTransport struct {
	next http.RoundTripper // nil: http.DefaultTransport
}

// RoundTrip implements http.RoundTripper.
func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	response, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	if response.StatusCode >= http.StatusBadRequest && len(bytes.TrimSpace(body)) == 0 {
		body = fmt.Appendf(nil, `{"error":%q}`, http.StatusText(response.StatusCode))
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// errGarbled says that what came is no answer of an Ollama: its fault, or that of what stands before it, and not the model's.
var errGarbled = fmt.Errorf("no answer of an Ollama: %w", lm.ErrNonsense)

func (c *Client) classify(ctx context.Context, err error) error {
	return classify(ctx, err, c.missing())
}

// classify wraps what a call ended with in the kind of failure that it is. ctx is the caller's; missing says that there is
// no such model.
func classify(ctx context.Context, err, missing error) error {
	var status api.StatusError
	var transport *url.Error
	var denied api.AuthorizationError
	switch {
	case errors.Is(err, lm.ErrNonsense):
		return err
	case errors.Is(ctx.Err(), context.Canceled): // the caller does not want the answer any more: nobody's failure
		return fmt.Errorf("gave up: %w", context.Canceled)
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("%w: %w", errGarbled, errTooLarge)
	case errors.As(err, &transport): // refused, reset, broken off, too slow, no such host
		return fmt.Errorf("%w: %w", lm.ErrUnavailable, transport.Err)
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return missing
	case errors.As(err, &status) && strings.Contains(status.ErrorMessage, "exceeds the context length"):
		return fmt.Errorf("%w: %s", lm.ErrPromptTooLong, excerpt(status.ErrorMessage))
	case errors.As(err, &status):
		return fmt.Errorf("%w: %w", lm.ErrUnavailable, &answerError{status.StatusCode, status.ErrorMessage})
	case errors.As(err, &denied):
		return fmt.Errorf("%w: the server answers %d and asks for authorization", lm.ErrUnavailable, denied.StatusCode)
	default: // not the JSON that was expected
		return fmt.Errorf("%w: %s", errGarbled, excerpt(err.Error()))
	}
}

func (c *Client) missing() error {
	return fmt.Errorf("%w: install it with `ollama pull %s`, or name one that `ollama list` shows", lm.ErrModelMissing, c.opt.Model)
}

// answerError is an answer that is an error.
type answerError struct {
	status int
	says   string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.status, excerpt(e.says))
}

// refuses tells whether a server answered that it does not do what it was asked for, so that another way may work: it is
// there, not too busy, and does not want to know who asks.
func refuses(err error) bool {
	var answer *answerError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.status {
	case http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// unfit is an error that trying again does not mend: the adapter is at fault.
type unfit struct{ error }

// Refused tells callers that know only the method that there is no use in trying again.
func (unfit) Refused() bool   { return true }
func (u unfit) Unwrap() error { return u.error }

// refused says so where the circuit breaker did not let a call through.
func refused(err error) error {
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return fmt.Errorf("%w: not asked, after failures in a row: %w", lm.ErrUnavailable, err)
	}
	return err
}

// excerpt quotes the beginning of what a server said, on one line.
func excerpt(s string) string { return fmt.Sprintf("%.200q", s) }
