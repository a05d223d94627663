package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Open opens the vault in o.Dir, or makes one there if the folder is missing or
// has no vault in it. The process that has it open has it alone. Open reads every
// manifest, so that it takes some 50 us for each object; damaged ones do not keep
// it from opening, see Problems.
//
// It returns ErrOptions, ErrLocked, ErrWrongKey, or ErrCorrupt when the header is
// damaged. In each of these cases nothing in the folder was changed.
func Open(o Options) (*Vault, error) {
	o.EnsureDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	v := &Vault{dir: o.Dir, chunkSize: o.ChunkSize, fs: o.FS, now: o.Now, random: o.Random,
		slots: make(chan *slot, o.Workers)}
	if err := v.open(o); err != nil {
		if v.lock != nil {
			err = errors.Join(err, v.lock.Close())
		}
		return nil, fmt.Errorf("vault %s: %w", o.Dir, err)
	}
	for range o.Workers {
		v.slots <- new(slot)
	}
	v.buffers.New = func() any { b := make([]byte, 0, o.ChunkSize); return &b }
	v.ctx, v.cancel = context.WithCancelCause(context.Background())
	return v, nil
}

func (v *Vault) open(o Options) (err error) {
	if _, err := v.fs.ReadDir(v.dir); errors.Is(err, fs.ErrNotExist) {
		if err := v.fs.Mkdir(v.dir); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if v.lock, err = v.fs.Lock(v.path(lockName)); err != nil {
		return err
	}
	header, err := v.fs.ReadFile(v.path(headerName), nil, headerSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = v.create(o)
	case errors.Is(err, errLarge):
		err = fmt.Errorf("%w: the vault header is too long", ErrCorrupt)
		fallthrough
	case err == nil:
		if err == nil {
			err = v.unlock(header, o.Key)
		}
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w; copy the file %s over %s", err, copyName, headerName)
		}
	}
	if err != nil {
		return err
	}
	if err := v.makeFolders(); err != nil {
		return err
	}
	return v.load()
}

// unlock takes the vault's own key out of its header.
func (v *Vault) unlock(header []byte, k Key) error {
	own, err := openHeader(header, k)
	if err != nil {
		return err
	}
	v.secrets = newSecrets(own)
	spare, err := v.fs.ReadFile(v.path(copyName), nil, headerSize)
	if err != nil || string(spare) != string(header) {
		v.index.notes = append(v.index.notes, fmt.Errorf("%w: %s differs from %s; copy the file %s over it",
			ErrCorrupt, copyName, headerName, headerName))
	}
	return nil
}

// create writes the header of a new vault. The spare comes first, and the folder
// itself is made lasting before: where there is a header, the vault is whole.
func (v *Vault) create(o Options) error {
	for _, kind := range []string{objectsDir, chunksDir, pinsDir} {
		if _, err := v.fs.ReadDir(v.path(kind)); err == nil {
			return fmt.Errorf("%w: there is data but no header; copy the file %s to %s", ErrCorrupt, copyName, headerName)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := v.fs.SyncDir(filepath.Dir(v.dir)); err != nil {
		return err
	}
	header, own, err := newHeader(o.Key, o.KDF, v.random)
	if err != nil {
		return err
	}
	if err := errors.Join(v.fs.Mkdir(v.path(tmpDir)), v.sweep()); err != nil {
		return err
	}
	for _, name := range []string{copyName, headerName} {
		if err := v.write(v.path(name), header); err != nil {
			return err
		}
		if err := v.fs.SyncDir(v.dir); err != nil {
			return err
		}
	}
	v.secrets = newSecrets(own)
	return nil
}

// makeFolders makes the folders that are missing and removes what a crash left
// under tmp.
func (v *Vault) makeFolders() error {
	for _, kind := range []string{tmpDir, objectsDir, chunksDir, pinsDir} {
		if err := v.fs.Mkdir(v.path(kind)); err != nil {
			return err
		}
	}
	if err := v.fs.SyncDir(v.dir); err != nil {
		return err
	}
	return v.sweep()
}

// sweep removes every file under tmp. Only the holder of the lock writes there.
func (v *Vault) sweep() error {
	names, err := v.fs.ReadDir(v.path(tmpDir))
	for _, name := range names {
		err = errors.Join(err, v.fs.Remove(v.path(tmpDir, name)))
	}
	return err
}
