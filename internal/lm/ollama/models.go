package ollama

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ollama/ollama/api"
)

// listTimeout bounds the question which models a server has.
const listTimeout = 3 * time.Second

// Models names the models that the server at baseURL has, the last changed one first.
func Models(ctx context.Context, baseURL string) ([]string, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("ollama address: want a URL such as http://127.0.0.1:11434")
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := api.NewClient(u, &http.Client{Transport: &boundedTransport{}}).List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its models: %w", u.Redacted(), err)
	}
	names := make([]string, 0, len(list.Models))
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	return names, nil
}
