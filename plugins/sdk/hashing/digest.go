package hashing

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
)

// Size is the length in bytes of every digest and key of this package.
const Size = 32

// ErrDigest says that text is not a digest.
var ErrDigest = errors.New("not a digest")

// ErrMismatch says that data does not have the digest it should have.
var ErrMismatch = errors.New("digest mismatch")

// Digest is the result of a hash function.
type Digest [Size]byte

// Key is the secret of a keyed hash. Make it of random bytes or with Derive.
type Key [Size]byte

// String hides the key, so that it does not end up in a log.
func (Key) String() string { return "hashing.Key(hidden)" }

// GoString hides the key like String.
func (k Key) GoString() string { return k.String() }

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// Equal compares in constant time, for digests that serve as authenticators.
func (d Digest) Equal(other Digest) bool {
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}

// MarshalText returns what String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote, or returns ErrDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDigest reads 64 hexadecimal digits of either case, or returns ErrDigest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return d, fmt.Errorf("%w: %d characters where a digest has %d hexadecimal digits", ErrDigest, len(s), 2*Size)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("%w: %w", ErrDigest, err)
	}
	return d, nil
}

// Sum returns the BLAKE3 hash of data.
func Sum(data []byte) Digest { return blake3.Sum256(data) }

// SumKeyed returns the keyed BLAKE3 hash of data: a message authentication code,
// which only who knows the key can compute or check.
func SumKeyed(key Key, data []byte) Digest {
	h := NewKeyed(key)
	_, _ = h.Write(data) // a hash never refuses bytes
	return h.Sum()
}

// saltContext separates salted hashes from every other use of BLAKE3.
const saltContext = "inos 2026-11-24 hashing salt v1"

// SumSalted returns the hash of data under a salt of any length: the keyed hash
// with a key derived from the salt. Equal data under different salts has
// unrelated digests, and no salt can be moved into the data or back.
func SumSalted(salt, data []byte) Digest {
	return SumKeyed(Derive(saltContext, salt), data)
}

// SumReader returns the BLAKE3 hash of everything r gives, and its length in
// bytes.
func SumReader(r io.Reader) (Digest, int64, error) {
	h := New()
	n, err := io.Copy(h, r)
	if err != nil {
		return Digest{}, n, err
	}
	return h.Sum(), n, nil
}

// Derive makes a key for one purpose from secret material of any length, by the
// derive-key mode of BLAKE3. The context is a constant of the program: where and
// when it was chosen, and what for.
func Derive(context string, material []byte) Key {
	var k Key
	blake3.DeriveKey(context, material, k[:])
	return k
}

// SumSHA256 returns the SHA-256 hash of data.
func SumSHA256(data []byte) Digest { return sha256.Sum256(data) }

// Verify returns ErrMismatch unless data has the BLAKE3 hash want.
func Verify(data []byte, want Digest) error {
	if got := Sum(data); !got.Equal(want) {
		return fmt.Errorf("%w: expected %s, found %s", ErrMismatch, want, got)
	}
	return nil
}
