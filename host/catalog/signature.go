package catalog

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
)

// Signatures are those of minisign (https://jedisct1.github.io/minisign/): ed25519
// over the BLAKE2b-512 of the file, or over the file itself in the older form, in
// NAME.minisig beside the file. A key is trusted when its public half lies in a
// trust folder, as NAME.pub; NAME is the publisher.

const (
	keySuffix     = ".pub"
	privateSuffix = ".key"
	maxKeyFile    = 4 << 10
	maxKeys       = 256
	maxLegacy     = 64 << 20 // a signature of the older form needs the whole file in memory
)

var readSignature = failpoint.New("catalog/read-signature")

// Key is a trusted key.
type Key struct {
	Publisher string // the name of its file
	ID        string // as minisign prints it
	Path      string
	public    minisign.PublicKey
}

// UserTrust returns the folder of keys that every node of this user trusts, and
// that holds the user's own: inos/trust under the user's configuration.
func UserTrust() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("catalog: no place for keys: %w; set HOME or XDG_CONFIG_HOME", err)
	}
	return filepath.Join(dir, "inos", "trust"), nil
}

// Keys lists the trusted keys of some folders, sorted by publisher. A folder that
// is not there holds none. A file that others may write, or that is no key, is an
// error.
func Keys(dirs ...string) ([]Key, error) {
	var keys []Key
	who := currentOperator()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("catalog: trusted keys: %w", err)
		}
		if r := who.alone("folder "+dir, dir, info); r != nil {
			return nil, fmt.Errorf("catalog: trusted keys: %w", r.about(dir))
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) != keySuffix {
				continue
			}
			k, err := readKey(filepath.Join(dir, e.Name()), who)
			if err != nil {
				return nil, err
			}
			if keys = append(keys, k); len(keys) > maxKeys {
				return nil, fmt.Errorf("catalog: more than %d trusted keys; remove some from %s", maxKeys, dir)
			}
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(strings.Compare(a.Publisher, b.Publisher), strings.Compare(a.ID, b.ID))
	})
	return keys, nil
}

// readKey reads one trusted key.
func readKey(path string, who operator) (Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, fmt.Errorf("catalog: trusted key: %w", err)
	}
	if r := who.alone("key "+path, path, info); r != nil {
		return Key{}, fmt.Errorf("catalog: trusted key: %w", r.about(path))
	}
	text, err := readAtMost(path, maxKeyFile)
	if err != nil {
		return Key{}, fmt.Errorf("catalog: trusted key: %w", err)
	}
	public, err := ParseKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("catalog: trusted key %s: %w", path, err)
	}
	return Key{
		Publisher: strings.TrimSuffix(filepath.Base(path), keySuffix), ID: keyID(public.ID()), Path: path, public: public,
	}, nil
}

func keyID(id uint64) string { return strings.ToUpper(fmt.Sprintf("%016x", id)) }

// ParseKey reads a public key: the text of a .pub file, or its last line alone.
func ParseKey(text string) (minisign.PublicKey, error) {
	var k minisign.PublicKey
	lines := strings.Split(strings.TrimSpace(text), "\n")
	err := k.UnmarshalText([]byte(strings.TrimSpace(lines[len(lines)-1])))
	if err != nil {
		return k, fmt.Errorf("%q is no public key of minisign", cut(text, 80))
	}
	return k, nil
}

// AddKey has a key trusted, under the name of its publisher.
func AddKey(dir, publisher, text string) (Key, error) {
	public, err := ParseKey(text)
	if err != nil {
		return Key{}, err
	}
	if publisher == "" || !printable(publisher) || filepath.Base(publisher) != publisher || strings.HasPrefix(publisher, ".") {
		return Key{}, fmt.Errorf("a publisher cannot be called %q", publisher)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Key{}, err
	}
	path := filepath.Join(dir, publisher+keySuffix)
	if old, err := readAtMost(path, maxKeyFile); err == nil {
		if k, err := ParseKey(old); err == nil && !k.Equal(public) {
			return Key{}, fmt.Errorf("%s is another key of a publisher of that name; remove it first, or name this one otherwise", path)
		}
	}
	line, err := public.MarshalText()
	if err != nil {
		return Key{}, err
	}
	if err := replaceFile(path, append(line, '\n'), 0o600); err != nil {
		return Key{}, err
	}
	return readKey(path, currentOperator())
}

// RemoveKey has the keys of a publisher trusted no more. It returns how many there
// were.
func RemoveKey(dir, publisher string) (int, error) {
	keys, err := Keys(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, k := range keys {
		if k.Publisher == publisher || k.ID == publisher {
			if err := os.Remove(k.Path); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// LocalKey returns the user's own key, which lies unencrypted in a file that only
// the user may read. It is made, and trusted under the name "local", when it is not
// there; made says so. Any number of processes may call it at once.
func LocalKey(trust string) (path string, made bool, err error) {
	home := filepath.Dir(trust)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", false, err
	}
	lock, err := os.Open(home)
	if err != nil {
		return "", false, err
	}
	defer lock.Close() // unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", false, fmt.Errorf("locking %s: %w", home, err)
	}
	path = filepath.Join(home, "local"+privateSuffix)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, false, err
	}
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return "", false, err
	}
	text, err := private.MarshalText()
	if err != nil {
		return "", false, err
	}
	line, err := public.MarshalText()
	if err != nil {
		return "", false, err
	}
	// Trusted first, in the place of one that has lost its other half: a public key
	// alone is of no use to anybody, a private one that nobody trusts is a riddle.
	if _, err := RemoveKey(trust, "local"); err != nil {
		return "", false, err
	}
	if _, err := AddKey(trust, "local", string(line)); err != nil {
		return "", false, err
	}
	return path, true, replaceFile(path, append(text, '\n'), 0o600)
}

// replaceFile puts a file in the place of the one that has the name, in one step.
func replaceFile(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), incoming)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// Sign writes the signature of a file beside it, made with the private key in
// keyFile, and returns its path. Password is for an encrypted key.
func Sign(path, keyFile, password string) (string, error) {
	text, err := readAtMost(keyFile, maxKeyFile)
	if err != nil {
		return "", err
	}
	var key minisign.PrivateKey
	if minisign.IsEncrypted([]byte(text)) {
		key, err = minisign.DecryptKey(password, []byte(text))
	} else {
		err = key.UnmarshalText([]byte(strings.TrimSpace(text)))
	}
	if err != nil {
		return "", fmt.Errorf("the private key %s cannot be read: %w", keyFile, err)
	}
	name := filepath.Base(path)
	if !printable(name) { // it stands in a line of the signature
		return "", fmt.Errorf("the name %q cannot be printed; rename the file", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := minisign.NewReader(f)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	sig := r.SignWithComments(key, fmt.Sprintf("timestamp:%d\tfile:%s\thashed", time.Now().Unix(), name), "signature of "+name)
	return path + sigSuffix, replaceFile(path+sigSuffix, sig, 0o644)
}

// Verify finds out whose signature lies beside a file, among the keys of the trust
// folders. The zero Key means that it is not signed. A signature that is not of the
// file's bytes, or by a key that is not trusted, is a *Refusal.
func Verify(path string, trust ...string) (Key, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Key{}, fmt.Errorf("catalog: %w", err)
	}
	by, _, refusal := checkSignature(path, target, trust)
	if refusal != nil {
		return Key{}, refusal.about(path)
	}
	return by, nil
}

// checkSignature finds out who signed a file. The signature is that of the bytes
// in copied; it lies beside path. No signature is no Key. One that is wrong,
// or by a key that is not trusted, is a refusal: somebody wanted it to count.
func checkSignature(path, copied string, trust []string) (by Key, signature []byte, refusal *Refusal) {
	text, err := readAtMost(path+sigSuffix, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, nil, nil
	}
	bad := func(format string, args ...any) (Key, []byte, *Refusal) {
		return Key{}, nil, refuse(BadSignature, format, args...)
	}
	if err == nil {
		err = readSignature.Hit()
	}
	var sig minisign.Signature
	if err == nil {
		err = sig.UnmarshalText([]byte(text))
	}
	if err != nil {
		return bad("%s: %v", filepath.Base(path)+sigSuffix, err)
	}
	keys, err := Keys(trust...)
	if err != nil {
		return bad("%v", err)
	}
	// The number of a key is anything its owner likes, so several may have the same.
	keys = slices.DeleteFunc(keys, func(k Key) bool { return k.public.ID() != sig.KeyID })
	if len(keys) == 0 {
		_, _, r := bad("it is signed by the key %s, which is not trusted", keyID(sig.KeyID))
		return Key{}, nil, r.but("have the publisher's key trusted with inos plugin trust, or remove %s", path+sigSuffix)
	}
	for _, k := range keys {
		ok, err := verifies(copied, []byte(text), sig, k.public)
		if err != nil {
			return bad("%v", err)
		}
		if ok {
			return k, []byte(text), nil
		}
	}
	return bad("the signature in %s is not of these bytes", filepath.Base(path)+sigSuffix)
}

// verifies reports whether a signature is that of a file's bytes.
func verifies(file string, text []byte, sig minisign.Signature, key minisign.PublicKey) (bool, error) {
	f, err := openSource(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if sig.Algorithm == minisign.EdDSA {
		b, err := io.ReadAll(io.LimitReader(f, maxLegacy+1))
		if err == nil && len(b) > maxLegacy {
			err = fmt.Errorf("a signature of the older form is for files of at most %d bytes; sign it anew", maxLegacy)
		}
		return err == nil && minisign.Verify(key, b, text), err
	}
	r := minisign.NewReader(f)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return false, err
	}
	return r.Verify(key, text), nil
}
