package vault

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"inos/plugins/sdk/hashing"
)

// KeySize is the length in bytes of a raw key.
const KeySize = 32

// Bounds of a passphrase, in bytes.
const (
	minPassphrase = 8
	maxPassphrase = 1024
)

// Key opens a vault: 32 random bytes, or a passphrase. It prints as a placeholder.
// The zero Key opens nothing.
type Key struct {
	secret     []byte
	passphrase bool
}

// RawKey returns the key of exactly KeySize random bytes, or ErrKey.
func RawKey(b []byte) (Key, error) {
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("%w: it has %d bytes; give %d random ones", ErrKey, len(b), KeySize)
	}
	return Key{secret: append([]byte(nil), b...)}, nil
}

// Passphrase returns the key that Argon2id makes of a text of 8 to 1024 bytes, or
// ErrKey.
func Passphrase(text string) (Key, error) {
	if len(text) < minPassphrase || len(text) > maxPassphrase {
		return Key{}, fmt.Errorf("%w: a passphrase of %d bytes; choose one of %d to %d", ErrKey, len(text), minPassphrase, maxPassphrase)
	}
	return Key{secret: []byte(text), passphrase: true}, nil
}

// String hides the key, so that it does not end up in a log.
func (Key) String() string { return "vault.Key(hidden)" }

// GoString hides the key like String.
func (k Key) GoString() string { return k.String() }

// keyFilePrefix opens the one line of a key file. The key follows in hexadecimal,
// then a colon and the first bytes of its hash, so that a damaged file is not
// taken for another key.
const (
	keyFilePrefix = "inos-vault-key-1:"
	keyCheckBytes = 4
	keyFileMax    = 256
)

// LoadOrCreateKeyFile reads the raw key in the file at path, or makes a random one
// and writes it there for its owner alone (mode 0600); created says which. The
// folder must exist. It returns ErrKey for a file that others may read, that is
// not a regular file, or that holds no key. Of two processes that come at once,
// one creates the file and both return the same key.
func LoadOrCreateKeyFile(path string) (key Key, created bool, err error) {
	key, err = loadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	err = createKeyFile(path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, false, fmt.Errorf("key file %s: %w", path, err)
	}
	created = err == nil
	key, err = loadKeyFile(path)
	return key, created, err
}

func loadKeyFile(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("%w: %s is not a regular file", ErrKey, path)
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return Key{}, fmt.Errorf("%w: others may read or change %s (mode %04o); if you trust it still, run: chmod 600 %s",
			ErrKey, path, info.Mode().Perm(), path)
	}
	b, err := osFS{}.ReadFile(path, nil, keyFileMax)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	key, err := parseKey(string(b))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w; put the file back from a copy, without it the vault cannot be read", path, err)
	}
	return key, nil
}

func parseKey(text string) (Key, error) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), keyFilePrefix)
	digits, check, both := strings.Cut(rest, ":")
	if !ok || !both {
		return Key{}, fmt.Errorf("%w: not a key file", ErrKey)
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != KeySize || check != keyCheck(b) {
		return Key{}, fmt.Errorf("%w: the key file is damaged", ErrKey)
	}
	return RawKey(b)
}

func formatKey(b []byte) string {
	return keyFilePrefix + hex.EncodeToString(b) + ":" + keyCheck(b) + "\n"
}

func keyCheck(b []byte) string {
	d := hashing.Sum(b)
	return hex.EncodeToString(d[:keyCheckBytes])
}

// createKeyFile writes a new key beside path and links it into place, which fails
// if something is there by then: a key is never written over, and never seen half
// written.
func createKeyFile(path string) (err error) {
	var secret [KeySize]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".inos-key-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(formatKey(secret[:]))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return osFS{}.SyncDir(dir)
}
