package ollama

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/r2rec/r2rec/internal/gguf"
	"github.com/r2rec/r2rec/internal/llama/lora"
)

// ensureCopy makes sure that the server has a copy of the base, as a model, so that it keeps the file; and says which file.
func (i *Installer) ensureCopy(ctx context.Context, copy int, have []string) (digest string, err error) {
	write := func(w io.Writer) error { return i.writeCopy(w, copy) }
	i.mu.Lock()
	b := blob{digest: i.digests[copy], write: write}
	i.mu.Unlock()
	if b.digest == "" {
		if b, err = newBlob(ctx, write); err != nil {
			return "", err
		}
		i.mu.Lock()
		i.digests[copy] = b.digest
		i.mu.Unlock()
	}
	if slices.Contains(have, i.names.copyOf(copy)) {
		return b.digest, nil
	}
	if err := i.server.upload(ctx, b); err != nil {
		return "", err
	}
	return b.digest, i.server.create(ctx, i.names.copyOf(copy), b.digest, "")
}

// writeCopy writes the base with 16 bits a weight or more, and its number, which makes it a file of its own.
func (i *Installer) writeCopy(w io.Writer, copy int) error {
	numbered := *i.file
	numbered.Metadata = i.file.Metadata.Clone()
	gguf.Set(numbered.Metadata, "r2rec.copy", uint32(copy))
	return i.merge(w, &numbered, nil)
}

// merge writes the base's weights, which stay readable meanwhile, and what an adapter changes.
func (i *Installer) merge(w io.Writer, base *gguf.File, a *lora.Adapter) error {
	i.reading.RLock()
	defer i.reading.RUnlock()
	if err := i.ctx.Err(); err != nil {
		return err
	}
	return lora.MergeF16(base, a, w)
}

// reserve takes the first copy of the base that no model in use has, one that is preferred before all others.
func (i *Installer) reserve(adapter string, preferred func(copy int) bool) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	free := func(copy int) bool { _, used := i.used[copy]; return !used }
	first := 1
	for !free(first) {
		first++
	}
	for copy := first; preferred != nil && copy <= first+len(i.used); copy++ {
		if free(copy) && preferred(copy) {
			first = copy
			break
		}
	}
	i.used[first] = adapter
	i.recent = slices.Insert(slices.DeleteFunc(i.recent, func(a string) bool { return a == adapter || a != "" && strings.HasPrefix(adapter, a) }), 0, adapter)
	return first
}

func (i *Installer) release(copy int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.used, copy)
}

// leave notes that a model is not in use any more, and tells whether none of its name is.
func (i *Installer) leave(name string) (last bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open[name]--
	if last = i.open[name] == 0; last {
		delete(i.open, name)
	}
	return last
}

// kept are the adapters that stay on the server, which has those models, the newest first: the adapters in use, and some
// that were used last. Those that only the server knows, from a process before this one or from one beside it, count as
// used before all that this one knows; of their digests their names have the beginning.
func (i *Installer) kept(have []string) (keep []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range have {
		begins, _, ok := i.names.parse(name)
		if ok && begins != "" && !slices.ContainsFunc(i.recent, func(adapter string) bool { return strings.HasPrefix(adapter, begins) }) {
			i.recent = append(i.recent, begins)
		}
	}
	for _, adapter := range i.used {
		keep = append(keep, adapter)
	}
	more := i.opt.Keep
	i.recent = slices.DeleteFunc(i.recent, func(adapter string) bool {
		switch {
		case adapter == "" || slices.Contains(keep, adapter):
		case more == 0:
			return true
		default:
			more--
			keep = append(keep, adapter)
		}
		return false
	})
	return slices.DeleteFunc(keep, func(adapter string) bool { return adapter == "" })
}
