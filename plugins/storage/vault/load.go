package vault

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"
)

// load reads all manifests and pins, and makes lasting what it has seen, so that
// a change whose Put or Delete was cut short cannot come or go later on.
func (v *Vault) load() error {
	var (
		mu      sync.Mutex
		infos   []Info
		damaged = map[id]error{}
	)
	objects := func(object id) error {
		m, err := v.readManifest(object)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			damaged[object] = fmt.Errorf("manifest %s: %w; put the object again, delete it, or restore the file", object, err)
			return nil
		}
		for i := range m.entries {
			v.retain(m.entries[i].chunk)
		}
		infos = append(infos, m.Info)
		return nil
	}
	pins := func(chunk id) error {
		s := v.shard(chunk)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pin(chunk)
		return nil
	}
	if err := errors.Join(v.walk(objectsDir, true, objects), v.walk(pinsDir, true, pins)); err != nil {
		return err
	}
	v.index.fill(infos, damaged)
	return nil
}

// walk calls fn, from several goroutines, with every id in the folders of one
// kind, after it has synced the folders if lasting is set. Names that are no ids
// are not the vault's and are left alone.
func (v *Vault) walk(kind string, lasting bool, fn func(id) error) error {
	prefixes, err := v.fs.ReadDir(v.path(kind))
	if err == nil && lasting {
		err = v.fs.SyncDir(v.path(kind))
	}
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, prefix := range prefixes {
		if b, err := hex.DecodeString(prefix); err != nil || len(b) != 1 {
			continue
		}
		g.Go(func() error {
			dir := v.path(kind, prefix)
			names, err := v.fs.ReadDir(dir)
			if err == nil && lasting {
				err = v.fs.SyncDir(dir)
			}
			if err != nil {
				return err
			}
			for _, name := range names {
				if i, ok := parseID(name); ok && name[:2] == prefix {
					if err := fn(i); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// readManifest reads the manifest of an object. Damage is ErrCorrupt; a missing
// one is fs.ErrNotExist.
func (v *Vault) readManifest(object id) (*manifest, error) {
	file, err := v.fs.ReadFile(v.file(objectsDir, object), nil, maxManifestFile)
	if errors.Is(err, errLarge) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	m, err := v.secrets.openManifest(object, file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return m, nil
}

// manifest reads the manifest of a named object, and says so in its errors.
func (v *Vault) manifest(name string) (*manifest, error) {
	m, err := v.readManifest(v.secrets.objectID(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("object %q: %w", name, ErrNotFound)
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("object %q: its manifest: %w; put the object again or restore the file %s",
			name, err, v.file(objectsDir, v.secrets.objectID(name)))
	case err != nil:
		return nil, fmt.Errorf("object %q: %w", name, err)
	}
	return m, nil
}
