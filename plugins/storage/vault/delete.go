package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
)

// Delete removes an object, or returns ErrNotFound. Its chunks are removed too,
// but for those that another object, a reader or PutChunk holds. An object whose
// manifest is damaged can be deleted; its chunks then stay until Collect.
func (v *Vault) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	_, done, err := v.beginChange(ctx)
	if err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	defer done()
	entries, err := v.deleteManifest(name)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	v.releaseAll(entries)
	return nil
}

// deleteManifest removes the manifest of an object for good and returns the
// chunks it had.
func (v *Vault) deleteManifest(name string) ([]entry, error) {
	object := v.secrets.objectID(name)
	lock := &v.objects[object[0]]
	lock.Lock()
	defer lock.Unlock()
	var entries []entry
	m, err := v.manifest(name)
	if err == nil {
		entries = v.index.counted(m)
	} else if !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	if err := v.unplace(v.file(objectsDir, object), v.folder(objectsDir, int(object[0]))); err != nil {
		return nil, err
	}
	v.index.drop(object, name)
	return entries, nil
}

// unplace removes a file whose presence is a promise, for good.
func (v *Vault) unplace(path, dir string) error {
	if err := v.broken.Load(); err != nil {
		return *err
	}
	err := v.fs.Remove(path)
	if err == nil {
		err = v.fs.SyncDir(dir)
	}
	if err != nil {
		return v.breakOff(err)
	}
	return nil
}

// Collect removes the chunks that nothing refers to, and returns how many. A crash
// in the middle of a Put leaves such chunks; putting the same content again uses
// them. It returns ErrDamaged, removing nothing, while Problems names a damaged
// manifest.
func (v *Vault) Collect(ctx context.Context) (int, error) {
	ctx, done, err := v.beginChange(ctx)
	if err != nil {
		return 0, fmt.Errorf("collect: %w", err)
	}
	defer done()
	if !v.index.whole() {
		return 0, fmt.Errorf("collect: %w, which may use any chunk; put the objects again, delete them or restore the files", ErrDamaged)
	}
	var removed atomic.Int64
	err = v.walk(chunksDir, false, func(chunk id) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s := v.shard(chunk)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refs[chunk] > 0 {
			return nil
		}
		err := v.fs.Remove(v.file(chunksDir, chunk))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a Delete came between
		}
		if err == nil {
			removed.Add(1)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("collect: %w", err)
	}
	return int(removed.Load()), err
}
