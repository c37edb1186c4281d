package adapters

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gocloud.dev/gcerrors"
)

// Fetch brings an adapter's file into the folder dir, which is made where it is missing, and returns its path and the
// manifest. The file is whole and the one of the digest, or there is none: it gets its name only after it was verified
// and synced. A file that is there already is verified instead of brought again, and replaced where it is wrong.
//
// An adapter that is not stored gives an error that is ErrNotStored; one that is not what its digest or its manifest says
// a *CorruptError. A file in dir stays until the caller deletes it.
func (s *Store) Fetch(ctx context.Context, digest, dir string) (path string, m Manifest, err error) {
	m, err = s.Manifest(ctx, digest)
	if err != nil {
		return "", Manifest{}, fmt.Errorf("fetch: %w", err)
	}
	path = filepath.Join(dir, digest+".gguf")
	if !cached(path, m) {
		if err := s.download(ctx, m, path); err != nil {
			return "", Manifest{}, fmt.Errorf("fetch adapter %s: %w", Short(digest), err)
		}
	}
	// The digest covers the file alone. A manifest that tells something else of it would mislead whoever goes by it.
	if _, err := describeFile(path, m); err != nil {
		return "", Manifest{}, fmt.Errorf("fetch: %w", &CorruptError{digest, manifestName, err.Error()})
	}
	return path, m, nil
}

// cached tells whether the file at path is the manifest's.
func cached(path string, m Manifest) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	return err == nil && n == m.Size && hex.EncodeToString(hash.Sum(nil)) == m.Digest
}

// download writes the file at path, at once or not at all.
func (s *Store) download(ctx context.Context, m Manifest, path string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what went wrong before is told
		}
	}()
	err = s.copy(ctx, m, f)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncPath(dir)
}

// syncPath makes a file, or what was renamed in a folder, last through a loss of power.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copy writes a stored file to w and verifies it on the way.
func (s *Store) copy(ctx context.Context, m Manifest, w io.Writer) error {
	r, err := s.bucket.NewReader(ctx, key(m.Digest, fileName), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return &CorruptError{m.Digest, fileName, "it is not there, although the manifest is"}
	}
	if err != nil {
		return err
	}
	defer r.Close()
	hash := sha256.New()
	// One byte more than there should be shows a file that is too long.
	n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(r, m.Size+1))
	if err != nil {
		return err
	}
	if n != m.Size {
		return &CorruptError{m.Digest, fileName, fmt.Sprintf("it has %d bytes, the manifest says %d", r.Size(), m.Size)}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != m.Digest {
		return &CorruptError{m.Digest, fileName, "its SHA-256 is " + got}
	}
	return nil
}
