package ollama

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/r2rec/r2rec/internal/lm"
)

// server is an Ollama as models are put on it.
type server struct {
	base    *url.URL
	http    *http.Client // answers are bounded
	api     *api.Client
	timeout time.Duration // of one upload or creation
}

// blob is a file for the server, made twice: once for its digest, once on the way. So it needs no room on this machine's
// disk, and nothing of it is left where a process ends in between.
type blob struct {
	digest string // "sha256:" and lower-case hexadecimal
	write  func(io.Writer) error
}

func newBlob(ctx context.Context, write func(io.Writer) error) (blob, error) {
	sum := sha256.New()
	if err := write(whileIn{ctx, sum}); err != nil {
		return blob{}, err
	}
	return blob{digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), write: write}, nil
}

// whileIn writes until the context ends.
type whileIn struct {
	ctx context.Context
	io.Writer
}

func (w whileIn) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// upload gives the server a blob, unless it has it.
func (s *server) upload(ctx context.Context, b blob) error {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	switch has, err := s.has(timed, b.digest); {
	case err != nil:
		return fmt.Errorf("ask for %s: %w", b.digest, s.classify(ctx, err))
	case has:
		return nil
	}
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(b.write(w))
	}()
	err := s.api.CreateBlob(timed, b.digest, r)
	r.Close() // the server may have answered before it read everything
	<-written
	if err != nil {
		return fmt.Errorf("upload %s: %w", b.digest, s.classify(ctx, err))
	}
	return nil
}

// has tells whether the server has a blob; the client library has no call for it.
func (s *server) has(ctx context.Context, digest string) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, s.base.JoinPath("/api/blobs", digest).String(), nil)
	if err != nil {
		return false, err
	}
	response, err := s.http.Do(r)
	if err != nil {
		return false, err
	}
	response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, api.StatusError{StatusCode: response.StatusCode, Status: response.Status}
}

// create makes a model of blobs that the server has, all or nothing: it writes the model's manifest last.
func (s *server) create(ctx context.Context, name, model, adapter string) error {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r := &api.CreateRequest{Model: name, Files: map[string]string{"model.gguf": model}}
	if adapter != "" {
		r.Adapters = map[string]string{"adapter.gguf": adapter}
	}
	if err := s.api.Create(timed, r, func(api.ProgressResponse) error { return nil }); err != nil {
		err = s.classify(ctx, err)
		if errors.Is(err, lm.ErrNonsense) { // said within an answer that began well
			err = fmt.Errorf("%w: %w", lm.ErrUnavailable, &answerError{http.StatusOK, err.Error()})
		}
		return fmt.Errorf("create model %q: %w", name, err)
	}
	return nil
}

// list names the models that the server has, the one that was changed last first.
func (s *server) list(ctx context.Context) ([]string, error) {
	timed, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := s.api.List(timed)
	if err != nil {
		return nil, fmt.Errorf("list the models: %w", s.classify(ctx, err))
	}
	slices.SortStableFunc(list.Models, func(a, b api.ListModelResponse) int { return b.ModifiedAt.Compare(a.ModifiedAt) })
	names := make([]string, 0, len(list.Models))
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	return names, nil
}

// loaded tells whether the server has the model in its memory, or is about to.
func (s *server) loaded(ctx context.Context, name string) (bool, error) {
	timed, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	running, err := s.api.ListRunning(timed)
	if err != nil {
		return false, fmt.Errorf("list the loaded models: %w", s.classify(ctx, err))
	}
	for _, m := range running.Models {
		if m.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// unload takes a model out of the server's memory once its last request has ended. One that is not there stays so.
func (s *server) unload(ctx context.Context, name string) error {
	timed, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r := &api.GenerateRequest{Model: name, KeepAlive: &api.Duration{}}
	if err := s.api.Generate(timed, r, func(api.GenerateResponse) error { return nil }); err != nil {
		return fmt.Errorf("unload model %q: %w", name, s.classify(ctx, err))
	}
	return nil
}

// delete removes a model, and with it the blobs that no other model needs. One that is not there is no error.
func (s *server) delete(ctx context.Context, name string) error {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.api.Delete(timed, &api.DeleteRequest{Model: name})
	if err = s.classify(ctx, err); err != nil && !errors.Is(err, lm.ErrModelMissing) {
		return fmt.Errorf("delete model %q: %w", name, err)
	}
	return nil
}

func (s *server) classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return classify(ctx, err, lm.ErrModelMissing)
}
