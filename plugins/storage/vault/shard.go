package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

// fanout is how many folders the chunks are spread over, by the first byte of
// their ids.
const fanout = 256

// shard watches over the chunks of one folder. A chunk file is only written or
// removed with mu held, and only removed when nothing refers to it.
type shard struct {
	mu   sync.Mutex
	refs map[id]int      // by manifests, pins, running puts and open readers
	pins map[id]struct{} // chunks stored by PutChunk
	made bool            // the folder exists
}

// retain is called with mu held.
func (s *shard) retain(chunk id) {
	if s.refs == nil {
		s.refs = make(map[id]int)
	}
	s.refs[chunk]++
}

// pin records that a chunk was stored by itself. It is called with mu held.
func (s *shard) pin(chunk id) {
	if s.pins == nil {
		s.pins = make(map[id]struct{})
	}
	s.pins[chunk] = struct{}{}
	s.retain(chunk)
}

func (v *Vault) shard(chunk id) *shard { return &v.shards[chunk[0]] }

// retain adds a reference to a chunk.
func (v *Vault) retain(chunk id) {
	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retain(chunk)
}

// release drops a reference to a chunk and removes the file when it was the last.
// A file that cannot be removed takes room until Collect, and does no harm.
func (v *Vault) release(chunk id) {
	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs[chunk]--; s.refs[chunk] > 0 {
		return
	}
	delete(s.refs, chunk)
	// After a failure of the disk an older manifest may come back, and a damaged
	// manifest may name any chunk.
	if v.broken.Load() == nil && v.index.whole() {
		_ = v.fs.Remove(v.file(chunksDir, chunk))
	}
}

func (v *Vault) releaseAll(entries []entry) {
	for i := range entries {
		v.release(entries[i].chunk)
	}
}

// store makes sure that a chunk is on disk, adds a reference to it and returns
// its entry. The folder that it is in, and the one above, are still to be synced.
func (v *Vault) store(ctx context.Context, w *slot, plain []byte, codec compression.Codec) (entry, error) {
	if ctx.Err() != nil {
		return entry{}, context.Cause(ctx)
	}
	chunk := v.secrets.chunkID(hashing.Sum(plain))
	path := v.file(chunksDir, chunk)
	e := entry{chunk: chunk, plain: uint32(len(plain))}

	s := v.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := v.stored(w, chunk, path, len(plain)); ok {
		e.stored = uint32(n)
		s.retain(chunk)
		return e, nil
	}
	if !s.made {
		if err := v.fs.Mkdir(v.folder(chunksDir, int(chunk[0]))); err != nil {
			return entry{}, err
		}
		s.made = true
	}
	file, err := v.secrets.sealChunk(w.file, chunk, plain, codec, v.random)
	if err != nil {
		return entry{}, err
	}
	w.file = file
	if err := v.write(path, file); err != nil {
		return entry{}, err
	}
	e.stored = uint32(len(file))
	s.retain(chunk)
	return e, nil
}

// stored reports whether a chunk is on disk, whole, and how long its file is. A
// damaged one counts as missing, so that it is written anew.
func (v *Vault) stored(w *slot, chunk id, path string, plain int) (int, bool) {
	file, err := v.fs.ReadFile(path, w.file[:0], maxChunkFile)
	if err != nil {
		return 0, false
	}
	w.file = file
	_, _, n, err := v.secrets.unsealChunk(chunk, file)
	return len(file), err == nil && n == plain
}

// fetch reads a chunk and appends its plaintext to dst. Damage is ErrCorrupt; a
// missing file is fs.ErrNotExist and nothing else.
func (v *Vault) fetch(w *slot, dst []byte, chunk id) ([]byte, error) {
	file, err := v.fs.ReadFile(v.file(chunksDir, chunk), w.file[:0], maxChunkFile)
	if errors.Is(err, errLarge) {
		return dst, fmt.Errorf("%w: chunk %s: %w", ErrCorrupt, chunk, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return dst, fs.ErrNotExist
	}
	if err != nil {
		return dst, fmt.Errorf("chunk %s: %w", chunk, err)
	}
	w.file = file
	out, err := v.secrets.openChunk(dst, chunk, file)
	if err != nil {
		return dst, fmt.Errorf("%w: chunk %s: %w", ErrCorrupt, chunk, err)
	}
	return out, nil
}
