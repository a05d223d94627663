package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"inos/plugins/sdk/hashing"
)

// PutChunk stores up to MaxChunk bytes by themselves, under no name, and returns
// their BLAKE3 hash, by which GetChunk finds them. When it returns without error
// they are on disk for good, until DeleteChunk. Storing them again changes
// nothing.
func (v *Vault) PutChunk(ctx context.Context, data []byte, o PutOptions) (hashing.Digest, error) {
	hash := hashing.Sum(data)
	if len(data) > MaxChunk {
		return hash, fmt.Errorf("%w: a chunk of %d bytes, the most is %d; put it as an object", ErrTooLarge, len(data), MaxChunk)
	}
	codec, err := o.codec()
	if err != nil {
		return hash, err
	}
	ctx, done, err := v.beginChange(ctx)
	if err != nil {
		return hash, fmt.Errorf("store chunk %s: %w", hash, err)
	}
	defer done()
	w, err := v.slot(ctx)
	if err != nil {
		return hash, err
	}
	defer func() { v.slots <- w }()
	e, err := v.store(ctx, w, data, codec)
	if err != nil {
		return hash, fmt.Errorf("store chunk %s: %w", hash, err)
	}
	defer v.release(e.chunk) // the pin holds it from here on
	if err := v.syncDirs([]string{v.folder(chunksDir, int(e.chunk[0])), v.path(chunksDir)}); err != nil {
		return hash, fmt.Errorf("store chunk %s: %w", hash, v.breakOff(err))
	}
	if err := v.pin(e.chunk); err != nil {
		return hash, fmt.Errorf("store chunk %s: %w", hash, err)
	}
	return hash, nil
}

// pin makes a chunk stay for good.
func (v *Vault) pin(chunk id) error {
	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pins[chunk]; ok {
		return nil
	}
	dir := v.folder(pinsDir, int(chunk[0]))
	if err := v.fs.Mkdir(dir); err != nil {
		return err
	}
	if err := v.place(v.file(pinsDir, chunk), nil, dir, v.path(pinsDir)); err != nil {
		return err
	}
	s.pin(chunk)
	return nil
}

// GetChunk appends the bytes with the given BLAKE3 hash to dst, be they stored by
// PutChunk or part of an object. It returns ErrNotFound when the vault does not
// have them, and ErrCorrupt when it should. What it returns has that hash.
func (v *Vault) GetChunk(ctx context.Context, hash hashing.Digest, dst []byte) ([]byte, error) {
	ctx, done, err := v.begin(ctx)
	if err != nil {
		return dst, err
	}
	defer done()
	w, err := v.slot(ctx)
	if err != nil {
		return dst, err
	}
	defer func() { v.slots <- w }()
	chunk := v.secrets.chunkID(hash)
	out, err := v.fetch(w, dst, chunk)
	switch {
	case errors.Is(err, fs.ErrNotExist) && v.refers(chunk):
		return dst, fmt.Errorf("chunk with hash %s: %w: the file %s is missing; restore it or store the chunk again",
			hash, ErrCorrupt, v.file(chunksDir, chunk))
	case errors.Is(err, fs.ErrNotExist):
		return dst, fmt.Errorf("chunk with hash %s: %w", hash, ErrNotFound)
	case err != nil:
		return dst, fmt.Errorf("chunk with hash %s: %w; restore the file %s or store the chunk again",
			hash, err, v.file(chunksDir, chunk))
	}
	return out, nil
}

func (v *Vault) refers(chunk id) bool {
	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refs[chunk] > 0
}

// DeleteChunk takes back a PutChunk of bytes with the given BLAKE3 hash, or
// returns ErrNotFound when there was none. The bytes go when no object has them.
func (v *Vault) DeleteChunk(ctx context.Context, hash hashing.Digest) error {
	_, done, err := v.beginChange(ctx)
	if err != nil {
		return fmt.Errorf("delete chunk %s: %w", hash, err)
	}
	defer done()
	chunk := v.secrets.chunkID(hash)
	if err := v.unpin(chunk); err != nil {
		return fmt.Errorf("delete chunk %s: %w", hash, err)
	}
	v.release(chunk)
	return nil
}

func (v *Vault) unpin(chunk id) error {
	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pins[chunk]; !ok {
		return ErrNotFound
	}
	if err := v.unplace(v.file(pinsDir, chunk), v.folder(pinsDir, int(chunk[0]))); err != nil {
		return err
	}
	delete(s.pins, chunk)
	return nil
}
