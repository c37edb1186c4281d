package adapters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// The objects of an adapter, below its digest. The manifest is written last and deleted first: an adapter without one
// does not exist.
const (
	fileName     = "adapter.gguf"
	manifestName = "manifest.json"
)

// maxManifestBytes bounds what is read into memory.
const maxManifestBytes = 64 << 20

// ErrNotStored says that the store has no adapter of a digest.
var ErrNotStored = errors.New("not in the store of adapters")

// CorruptError says that what the store holds is not what was put there.
type CorruptError struct {
	Digest string // of the adapter
	Object string // what is corrupt: adapter.gguf or manifest.json
	Why    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("adapter %s: its %s in the store is corrupt: %s", Short(e.Digest), e.Object, e.Why)
}

// Store keeps adapters' files by their digests. It is safe for concurrent use, also by several processes.
type Store struct {
	bucket *blob.Bucket
	sync   func(path string) error // makes a file, or the names in a folder, last through a loss of power; nil: all that is stored does
}

// Close ends the use of the store.
func (s *Store) Close() error { return s.bucket.Close() }

// Put stores the adapter in a GGUF file and returns its digest. What the manifest leaves zero of what the file says (what
// it was learned for, rank, alpha, targets, digest, size) is filled in; where the two differ nothing is stored. A file
// that does not say what it was learned for is refused.
//
// When Put returns, what it stored lasts through a loss of power: the log may name it.
//
// Put again, an adapter stays as it is, with the manifest that it has; but one without canaries gives way to one with.
func (s *Store) Put(ctx context.Context, path string, m Manifest) (digest string, err error) {
	doing := func(err error) error { return fmt.Errorf("store adapter %s: %w", path, err) }
	m, err = describeFile(path, m)
	if err != nil {
		return "", doing(err)
	}
	held, err := s.Manifest(ctx, m.Digest)
	var corrupt *CorruptError
	switch {
	case err == nil:
		whole, err := s.holds(ctx, held)
		if err != nil {
			return "", doing(err)
		}
		if whole && (len(held.Canaries) > 0 || len(m.Canaries) == 0) {
			if err := s.settle(ctx, m.Digest); err != nil {
				return "", doing(err)
			}
			return m.Digest, nil
		}
	case !errors.Is(err, ErrNotStored) && !errors.As(err, &corrupt):
		return "", doing(err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", doing(err)
	}
	if len(raw) > maxManifestBytes {
		return "", doing(fmt.Errorf("the manifest has %d bytes, more than %d: keep fewer canaries", len(raw), maxManifestBytes))
	}
	if err := s.upload(ctx, m, path); err != nil {
		return "", doing(err)
	}
	err = s.write(ctx, key(m.Digest, manifestName), "application/json", func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err == nil {
		err = s.settle(ctx, m.Digest)
	}
	if err != nil {
		return "", doing(err)
	}
	return m.Digest, nil
}

// describeFile reads the file once, as a whole, and completes the manifest.
func describeFile(path string, m Manifest) (Manifest, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	a, err := lora.FromGGUF(f)
	if err != nil {
		return m, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return m, err
	}
	return m.describe(f.Digest(), info.Size(), a)
}

// holds tells whether the store has the file that a manifest is about, byte by byte.
func (s *Store) holds(ctx context.Context, m Manifest) (bool, error) {
	err := s.copy(ctx, m, io.Discard)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return false, nil
	}
	return err == nil, err
}

// upload writes the file, and notices where it changed since the manifest was made.
func (s *Store) upload(ctx context.Context, m Manifest, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.write(ctx, key(m.Digest, fileName), "application/octet-stream", func(w io.Writer) error {
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(w, hash), f); err != nil {
			return err
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != m.Digest {
			return errors.New("the file changed while it was read")
		}
		return nil
	})
}

// write makes one object, wholly or not at all: a writer that is closed after a failed write keeps what was written,
// unless its context has ended before.
func (s *Store) write(ctx context.Context, key, kind string, content func(io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: kind})
	if err != nil {
		return err
	}
	if err := content(w); err != nil {
		cancel()
		_ = w.Close() // says no more than that it was cancelled
		return err
	}
	return w.Close()
}

// settle makes what is stored of an adapter last, also where another Put was killed before it did.
func (s *Store) settle(ctx context.Context, digest string) error {
	if s.sync == nil {
		return nil
	}
	folder := ""
	for _, name := range []string{fileName, manifestName} {
		var file *os.File
		r, err := s.bucket.NewReader(ctx, key(digest, name), &blob.ReaderOptions{BeforeRead: func(as func(any) bool) error {
			as(&file)
			return nil
		}})
		if err != nil {
			return err
		}
		if err := errors.Join(s.sync(file.Name()), r.Close()); err != nil {
			return err
		}
		folder = filepath.Dir(file.Name())
	}
	return errors.Join(s.sync(folder), s.sync(filepath.Dir(folder)))
}

// Manifest is that of a stored adapter. An adapter that is not there gives an error that is ErrNotStored, one whose
// manifest cannot be right a *CorruptError.
func (s *Store) Manifest(ctx context.Context, digest string) (m Manifest, err error) {
	if err := checkDigest(digest); err != nil {
		return m, err
	}
	r, err := s.bucket.NewReader(ctx, key(digest, manifestName), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return m, fmt.Errorf("adapter %s: %w", Short(digest), ErrNotStored)
	}
	if err != nil {
		return m, fmt.Errorf("manifest of adapter %s: %w", Short(digest), err)
	}
	defer r.Close()
	if r.Size() > maxManifestBytes {
		return m, &CorruptError{digest, manifestName, fmt.Sprintf("%d bytes, more than %d", r.Size(), maxManifestBytes)}
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxManifestBytes))
	if err != nil {
		return m, fmt.Errorf("manifest of adapter %s: %w", Short(digest), err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, &CorruptError{digest, manifestName, err.Error()}
	}
	if err := m.check(); err != nil {
		return Manifest{}, &CorruptError{digest, manifestName, err.Error()}
	}
	if m.Digest != digest {
		return Manifest{}, &CorruptError{digest, manifestName, "it is of adapter " + Short(m.Digest)}
	}
	return m, nil
}

// List tells of every stored adapter, ordered by digest; canaries are left out. Those whose manifests are corrupt are
// told in the error, beside the others.
func (s *Store) List(ctx context.Context) ([]Manifest, error) {
	var out []Manifest
	var faults []error
	folders := s.bucket.List(&blob.ListOptions{Delimiter: "/"})
	for {
		o, err := folders.Next(ctx)
		if errors.Is(err, io.EOF) {
			return out, errors.Join(faults...)
		}
		if err != nil {
			return nil, fmt.Errorf("list the stored adapters: %w", err)
		}
		digest := strings.TrimSuffix(o.Key, "/")
		if !o.IsDir || !hexDigest.MatchString(digest) {
			continue
		}
		m, err := s.Manifest(ctx, digest)
		var corrupt *CorruptError
		switch {
		case err == nil:
			m.Canaries = nil
			out = append(out, m)
		case errors.As(err, &corrupt):
			faults = append(faults, err)
		case !errors.Is(err, ErrNotStored):
			return nil, fmt.Errorf("list the stored adapters: %w", err)
		}
	}
}

// Delete removes an adapter. That it is not there is no error.
func (s *Store) Delete(ctx context.Context, digest string) error {
	if err := checkDigest(digest); err != nil {
		return fmt.Errorf("delete adapter: %w", err)
	}
	for _, name := range []string{manifestName, fileName} {
		if err := s.bucket.Delete(ctx, key(digest, name)); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("delete adapter %s: %w", Short(digest), err)
		}
	}
	return nil
}

func key(digest, name string) string { return digest + "/" + name }
