package adapters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Leftover is an object in the store that belongs to no adapter.
type Leftover struct {
	Key   string `json:"key"`
	Bytes int64  `json:"bytes"`
}

// Leftovers lists what a Put or a Delete left that was killed, and that was written before an instant: a file without a
// manifest, and parts of objects in a local folder.
func (s *Store) Leftovers(ctx context.Context, before time.Time) ([]Leftover, error) {
	out := []Leftover{}
	var files []*blob.ListObject // whose manifests have not come
	objects := s.bucket.List(nil)
	for {
		o, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list what is left in the store of adapters: %w", err)
		}
		digest, name, _ := strings.Cut(o.Key, "/")
		switch part := strings.HasSuffix(name, ".tmp") && (strings.HasPrefix(name, fileName+".") || strings.HasPrefix(name, manifestName+".")); {
		case !hexDigest.MatchString(digest):
		case name == manifestName:
			files = slices.DeleteFunc(files, func(f *blob.ListObject) bool { return f.Key == key(digest, fileName) })
		case !o.ModTime.Before(before):
		case part:
			out = append(out, Leftover{o.Key, o.Size})
		case name == fileName:
			files = append(files, o)
		}
	}
	for _, f := range files {
		out = append(out, Leftover{f.Key, f.Size})
	}
	return out, nil
}

// Discard removes a leftover, unless it has become an adapter's meanwhile.
func (s *Store) Discard(ctx context.Context, l Leftover) error {
	digest, name, _ := strings.Cut(l.Key, "/")
	if name == fileName {
		switch owned, err := s.bucket.Exists(ctx, key(digest, manifestName)); {
		case err != nil:
			return fmt.Errorf("discard %s from the store of adapters: %w", l.Key, err)
		case owned:
			return nil
		}
	}
	if err := s.bucket.Delete(ctx, l.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("discard %s from the store of adapters: %w", l.Key, err)
	}
	return nil
}
