package vault

import (
	"math"
)

// Problems returns what is damaged among the headers and manifests, as far as it
// is known: found by Open, and not put again or deleted since. While a manifest is
// damaged no chunk is removed, as it may be in use. Chunks are only read by Get
// and Verify.
func (v *Vault) Problems() []error { return v.index.problems() }

// Usage tells how much a vault holds.
type Usage struct {
	Objects int
	Bytes   uint64 // of all objects, before compression
	Chunks  int    // different ones in use
	Pinned  int    // of these, stored by PutChunk
}

// Usage returns how much the vault holds.
func (v *Vault) Usage() Usage {
	u := v.index.usage()
	for i := range v.shards {
		s := &v.shards[i]
		s.mu.Lock()
		u.Chunks += len(s.refs)
		u.Pinned += len(s.pins)
		s.mu.Unlock()
	}
	return u
}

// addSize adds without wrapping around.
func addSize(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
