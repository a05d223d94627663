package hashing

import (
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/zeebo/blake3"
)

// Hasher computes a digest piece by piece. It is an io.Writer that never fails.
// It is not safe for concurrent use.
type Hasher struct {
	h hash.Hash
	n uint64
}

// New returns a Hasher for plain BLAKE3.
func New() *Hasher { return &Hasher{h: blake3.New()} }

// NewKeyed returns a Hasher for keyed BLAKE3.
func NewKeyed(key Key) *Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		// The one reason is a key of the wrong length, which a Key cannot have.
		panic(fmt.Sprintf("hashing: %v", err))
	}
	return &Hasher{h: h}
}

// NewSHA256 returns a Hasher for SHA-256.
func NewSHA256() *Hasher { return &Hasher{h: sha256.New()} }

// Write adds p to what is hashed.
func (h *Hasher) Write(p []byte) (int, error) {
	h.n += uint64(len(p))
	return h.h.Write(p)
}

// Sum returns the digest of everything written so far. Writing may go on.
func (h *Hasher) Sum() Digest {
	var d Digest
	h.h.Sum(d[:0])
	return d
}

// Bytes returns how many bytes were written since the start or the last Reset.
func (h *Hasher) Bytes() uint64 { return h.n }

// Reset starts again with the same function and key.
func (h *Hasher) Reset() {
	h.h.Reset()
	h.n = 0
}
