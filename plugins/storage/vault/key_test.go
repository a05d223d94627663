package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"inos/plugins/sdk/hashing"
)

func TestKeyFileIsMadeOnceForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault.key")
	k, created, err := LoadOrCreateKeyFile(path)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	again, created, err := LoadOrCreateKeyFile(path)
	if err != nil || created || !bytes.Equal(k.secret, again.secret) {
		t.Fatalf("second time: created %v, %v", created, err)
	}
	other, _, err := LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "other.key"))
	if err != nil || bytes.Equal(k.secret, other.secret) {
		t.Fatalf("two key files hold one key (%v)", err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Fatalf("left beside the key: %v, %v", files, err)
	}
}

func TestKeyFileMadeByManyAtOnceIsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault.key")
	var created atomic.Int32
	keys := make([]Key, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, made, err := LoadOrCreateKeyFile(path)
			if err != nil {
				t.Error(err)
			}
			if made {
				created.Add(1)
			}
			keys[i] = k
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !bytes.Equal(k.secret, keys[0].secret) {
			t.Fatal("they got different keys")
		}
	}
	if created.Load() != 1 {
		t.Fatalf("%d of them made it", created.Load())
	}
}

func TestUnsafeOrDamagedKeyFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	good := formatKey(bytes.Repeat([]byte{1}, KeySize))
	for i, c := range []struct {
		name, content string
		mode          os.FileMode
		says          string
	}{
		{"readable by the group", good, 0o640, "chmod 600"},
		{"readable by all", good, 0o604, "chmod 600"},
		{"writable by others", good, 0o602, "chmod 600"},
		{"empty", "", 0o600, "not a key file"},
		{"another file", "root:x:0:0\n", 0o600, "not a key file"},
		{"a digit changed", strings.Replace(good, ":01", ":02", 1), 0o600, "damaged"},
		{"cut", good[:60], 0o600, "not a key file"},
		{"cut in its check", good[:len(good)-3], 0o600, "damaged"},
		{"something behind", good + "x", 0o600, "damaged"},
		{"long", good + strings.Repeat("x", keyFileMax), 0o600, "too long"},
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, created, err := LoadOrCreateKeyFile(path)
		if !errors.Is(err, ErrKey) || created || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: created %v, %v", c.name, created, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != c.content {
			t.Errorf("%s: the file was changed (%v)", c.name, err)
		}
	}
	if _, _, err := LoadOrCreateKeyFile(dir); !errors.Is(err, ErrKey) {
		t.Errorf("a folder: %v", err)
	}
	if _, _, err := LoadOrCreateKeyFile(filepath.Join(dir, "no", "such", "folder")); err == nil {
		t.Error("a folder that does not exist was accepted")
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	k, err := Passphrase("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if s := fmt.Sprintf(verb, k); strings.Contains(s, "sesame") || !strings.Contains(s, "hidden") {
			t.Errorf("%s prints %s", verb, s)
		}
		if s := fmt.Sprintf(verb, Options{Key: k}); strings.Contains(s, "sesame") {
			t.Errorf("%s of options prints %s", verb, s)
		}
	}
}

func TestKeysOutOfBoundsAreRefused(t *testing.T) {
	for _, n := range []int{0, KeySize - 1, KeySize + 1} {
		if _, err := RawKey(make([]byte, n)); !errors.Is(err, ErrKey) {
			t.Errorf("a raw key of %d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, minPassphrase - 1, maxPassphrase + 1} {
		if _, err := Passphrase(strings.Repeat("x", n)); !errors.Is(err, ErrKey) {
			t.Errorf("a passphrase of %d bytes: %v", n, err)
		}
	}
}

// cheap keeps Argon2id fast in tests.
var cheap = KDF{Time: 1, Memory: 64, Threads: 1}

func TestPassphraseOpensItsVaultAlone(t *testing.T) {
	disk := newMemFS()
	o := testOptions(disk)
	o.KDF = cheap
	opens := func(text string) error {
		k, err := Passphrase(text)
		if err != nil {
			t.Fatal(err)
		}
		o.Key = k
		v, err := Open(o)
		if err != nil {
			return err
		}
		put(t, v, "x", "x")
		return v.Close()
	}
	if err := opens("correct horse battery"); err != nil {
		t.Fatal(err)
	}
	o.KDF = KDF{} // the cost is in the header
	if err := opens("correct horse battery"); err != nil {
		t.Fatal(err)
	}
	if err := opens("correct horse batterz"); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("another passphrase: %v", err)
	}
	if _, err := Open(testOptions(disk)); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), "passphrase") {
		t.Fatalf("a raw key: %v", err)
	}
}

// A forged header, checksum and all, cannot make the vault spend more than maxKDF.
func TestForgedHeaderCannotDemandTheMachine(t *testing.T) {
	k, err := Passphrase("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	header, _, err := newHeader(k, cheap, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(b []byte){
		"1 TiB":           func(b []byte) { binary.LittleEndian.PutUint32(b[headerMemory:], 1<<30) },
		"4 billion times": func(b []byte) { binary.LittleEndian.PutUint32(b[headerTime:], 1<<32-1) },
		"no passes":       func(b []byte) { binary.LittleEndian.PutUint32(b[headerTime:], 0) },
		"no threads":      func(b []byte) { b[headerThreads] = 0 },
		"255 threads":     func(b []byte) { b[headerThreads] = 255 },
		"too little":      func(b []byte) { binary.LittleEndian.PutUint32(b[headerMemory:], 7) },
		"unknown kind":    func(b []byte) { b[headerKind] = 2 },
	} {
		b := bytes.Clone(header)
		forge(b)
		check := hashing.Sum(b[:headerCheck])
		copy(b[headerCheck:], check[:])
		if _, err := openHeader(b, k); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// zeros is a source of randomness that is none, for tests that look at formats.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
