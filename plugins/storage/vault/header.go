package vault

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"inos/plugins/sdk/hashing"
)

// KDF is the cost of turning a passphrase into a key by Argon2id (RFC 9106). It
// is chosen when a vault is made and written into its header.
type KDF struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// DefaultKDF is the second recommendation of RFC 9106 section 4: 64 MiB.
var DefaultKDF = KDF{Time: 3, Memory: 64 << 10, Threads: 4}

// maxKDF bounds what a header may ask for, so that a forged one cannot exhaust
// the machine.
var maxKDF = KDF{Time: 16, Memory: 256 << 10, Threads: 16}

func (k KDF) check() error {
	if k.Time < 1 || k.Time > maxKDF.Time || k.Threads < 1 || k.Threads > maxKDF.Threads ||
		k.Memory < 8*uint32(k.Threads) || k.Memory > maxKDF.Memory {
		return fmt.Errorf("argon2id with %d passes, %d KiB and %d threads; the most is %d, %d and %d, the least 1, 8 KiB a thread and 1",
			k.Time, k.Memory, k.Threads, maxKDF.Time, maxKDF.Memory, maxKDF.Threads)
	}
	return nil
}

const headerMagic = "INOSVLT1"

// Offsets in a header file. Everything before headerSealed is authenticated with
// the sealed key, everything before headerCheck is covered by a plain hash, which
// tells damage from a wrong key.
const (
	headerKind    = 8 // 0 raw key, 1 passphrase
	headerThreads = 9
	headerTime    = 12
	headerMemory  = 16
	headerSalt    = 20
	headerNonce   = headerSalt + 32
	headerSealed  = headerNonce + chacha20poly1305.NonceSizeX
	headerCheck   = headerSealed + KeySize + chacha20poly1305.Overhead
	headerSize    = headerCheck + hashing.Size
)

const rawKeyContext = "inos 2026-11-24 vault header key v1"

// newHeader makes a vault's own key and returns it with the header that holds it,
// sealed with k.
func newHeader(k Key, cost KDF, random io.Reader) (header []byte, own hashing.Key, err error) {
	b := make([]byte, headerSealed, headerSize)
	copy(b, headerMagic)
	if k.passphrase {
		b[headerKind] = 1
		b[headerThreads] = cost.Threads
		binary.LittleEndian.PutUint32(b[headerTime:], cost.Time)
		binary.LittleEndian.PutUint32(b[headerMemory:], cost.Memory)
	}
	if _, err := io.ReadFull(random, b[headerSalt:headerSealed]); err != nil {
		return nil, own, err
	}
	if _, err := io.ReadFull(random, own[:]); err != nil {
		return nil, own, err
	}
	b = headerAEAD(b, k, cost).Seal(b, b[headerNonce:headerSealed], own[:], b[:headerSealed])
	check := hashing.Sum(b)
	return append(b, check[:]...), own, nil
}

// openHeader returns the vault's own key, ErrCorrupt for what is not a whole
// header, or ErrWrongKey when k does not open it.
func openHeader(b []byte, k Key) (own hashing.Key, err error) {
	if len(b) != headerSize || !bytes.HasPrefix(b, []byte(headerMagic)) {
		return own, fmt.Errorf("%w: not a vault header of this version", ErrCorrupt)
	}
	if hashing.Verify(b[:headerCheck], hashing.Digest(b[headerCheck:])) != nil {
		return own, fmt.Errorf("%w: the vault header does not match its checksum", ErrCorrupt)
	}
	cost := KDF{
		Time:    binary.LittleEndian.Uint32(b[headerTime:]),
		Memory:  binary.LittleEndian.Uint32(b[headerMemory:]),
		Threads: b[headerThreads],
	}
	switch b[headerKind] {
	case 0:
		if k.passphrase {
			return own, fmt.Errorf("%w: this vault opens with a key file, not with a passphrase", ErrWrongKey)
		}
	case 1:
		if !k.passphrase {
			return own, fmt.Errorf("%w: this vault opens with a passphrase, not with a key file", ErrWrongKey)
		}
		if err := cost.check(); err != nil {
			return own, fmt.Errorf("%w: the vault header asks for %w", ErrCorrupt, err)
		}
	default:
		return own, fmt.Errorf("%w: the vault header names key kind %d; it may be of a later version", ErrCorrupt, b[headerKind])
	}
	plain, err := headerAEAD(b, k, cost).Open(nil, b[headerNonce:headerSealed], b[headerSealed:headerCheck], b[:headerSealed])
	if err != nil {
		hint := "it was made with another key file; give the one it was made with"
		if k.passphrase {
			hint = "it was made with another passphrase"
		}
		return own, fmt.Errorf("%w: this vault does not open; %s", ErrWrongKey, hint)
	}
	return hashing.Key(plain), nil
}

// headerAEAD makes the cipher that seals the vault's own key in header b.
func headerAEAD(b []byte, k Key, cost KDF) cipher.AEAD {
	salt := b[headerSalt:headerNonce]
	if k.passphrase {
		return newAEAD(hashing.Key(argon2.IDKey(k.secret, salt, cost.Time, cost.Memory, cost.Threads, KeySize)))
	}
	return newAEAD(hashing.Derive(rawKeyContext, append(append([]byte(nil), k.secret...), salt...)))
}

func newAEAD(key hashing.Key) cipher.AEAD {
	a, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(fmt.Sprintf("vault: %v", err)) // only for a key of the wrong length
	}
	return a
}

// secrets are the keys of a vault, each for one purpose, all made of its own key.
type secrets struct {
	ids     hashing.Key // names of chunks
	names   hashing.Key // names of objects
	chunks  cipher.AEAD
	objects cipher.AEAD
}

func newSecrets(own hashing.Key) *secrets {
	return &secrets{
		ids:     hashing.Derive("inos 2026-11-24 vault chunk ids v1", own[:]),
		names:   hashing.Derive("inos 2026-11-24 vault object names v1", own[:]),
		chunks:  newAEAD(hashing.Derive("inos 2026-11-24 vault chunk encryption v1", own[:])),
		objects: newAEAD(hashing.Derive("inos 2026-11-24 vault manifest encryption v1", own[:])),
	}
}

// id names a file of the vault: a chunk or a manifest.
type id hashing.Digest

func (i id) String() string { return hashing.Digest(i).String() }

// parseID reads the name of a file, if it is one that the vault would give.
func parseID(name string) (id, bool) {
	d, err := hashing.ParseDigest(name)
	return id(d), err == nil && d.String() == name
}

// chunkID returns the id of the chunk whose plaintext has the given BLAKE3 hash.
func (s *secrets) chunkID(plain hashing.Digest) id { return id(hashing.SumKeyed(s.ids, plain[:])) }

// objectID returns the id of the manifest of the object of the given name.
func (s *secrets) objectID(name string) id { return id(hashing.SumKeyed(s.names, []byte(name))) }

// errSealed says that a sealed file is not what was written.
var errSealed = errors.New("its bytes were changed")
