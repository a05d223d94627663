package catalog

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aead.dev/minisign"
)

// signer is somebody with a key.
type signer struct {
	private minisign.PrivateKey
	file    string // of the private key
	line    string // the public key as text
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	must(t, err)
	line, err := public.MarshalText()
	must(t, err)
	text, err := private.MarshalText()
	must(t, err)
	s := signer{private, filepath.Join(folder(t), "some.key"), string(line)}
	put(t, s.file, string(text), 0o600)
	return s
}

// id is the key's number as it is printed.
func (s signer) id() string { return keyID(s.private.ID()) }

// trusting is a store that trusts one publisher called "acme", and a folder with one
// plugin that is not signed.
func trusting(t *testing.T) (s *Store, acme signer, trust, path string) {
	t.Helper()
	acme, trust, path = newSigner(t), filepath.Join(t.TempDir(), "trust"), filepath.Join(folder(t), "plugin")
	_, err := AddKey(trust, "acme", acme.line)
	must(t, err)
	put(t, path, script, 0o755)
	s, err = OpenStore(filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "none"), trust)
	must(t, err)
	return s, acme, trust, path
}

// sign signs a file and fails the test if that cannot be.
func (s signer) sign(t *testing.T, path string) {
	t.Helper()
	made, err := Sign(path, s.file, "")
	must(t, err)
	if made != path+sigSuffix {
		t.Fatalf("the signature is in %s", made)
	}
}

// refusedFor checks that err is a refusal of a signature, with a hint, that says so.
func refusedFor(t *testing.T, err error, file, says string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != BadSignature || r.File != file || r.Hint == "" || !strings.Contains(r.Error(), says) {
		t.Errorf("got %v; want a refusal of %s that says %q", err, file, says)
	}
}

func TestSignedPluginHasThePublisherWhoseKeySignedIt(t *testing.T) {
	s, acme, trust, path := trusting(t)
	acme.sign(t, path)
	by, err := Verify(path, trust)
	if err != nil || by.Publisher != "acme" || by.ID != acme.id() {
		t.Fatalf("verified %+v, %v", by, err)
	}
	e, err := s.Admit(only(t, filepath.Dir(path)))
	if err != nil || e.Publisher != "acme" {
		t.Fatalf("admitted %+v, %v", e, err)
	}
	remove(t, path)
	remove(t, path+sigSuffix)
	if back, err := s.Get(e.Digest, e.Name); err != nil || back.Publisher != "acme" {
		t.Errorf("got back %+v, %v", back, err)
	}
}

func TestPluginWithoutASignatureHasNoPublisher(t *testing.T) {
	s, _, trust, path := trusting(t)
	if by, err := Verify(path, trust); err != nil || by.Publisher != "" || by.ID != "" {
		t.Errorf("verified %+v, %v", by, err)
	}
	e, err := s.Admit(only(t, filepath.Dir(path)))
	if err != nil || e.Publisher != "" {
		t.Errorf("admitted %+v, %v", e, err)
	}
	if back, err := s.Get(e.Digest, e.Name); err != nil || back.Publisher != "" {
		t.Errorf("got back %+v, %v", back, err)
	}
}

func TestSignatureCountsForALinkedPluginWhereTheLinkIs(t *testing.T) {
	s, acme, trust, target := trusting(t)
	dir := folder(t)
	link := filepath.Join(dir, "linked")
	must(t, os.Symlink(target, link))
	acme.sign(t, link)
	if by, err := Verify(link, trust); err != nil || by.Publisher != "acme" {
		t.Errorf("verified %+v, %v", by, err)
	}
	if e, err := s.Admit(only(t, dir)); err != nil || e.Publisher != "acme" {
		t.Errorf("admitted %+v, %v", e, err)
	}
}

// legacy signs the bytes themselves, as the first minisign did.
func legacy(s signer, message []byte) []byte { return minisign.Sign(s.private, message) }

func TestSignatureOfTheOlderFormCounts(t *testing.T) {
	s, acme, _, path := trusting(t)
	text := legacy(acme, []byte(script))
	var sig minisign.Signature
	if err := sig.UnmarshalText(text); err != nil || sig.Algorithm != minisign.EdDSA {
		t.Fatalf("it is of the form %#x, %v", sig.Algorithm, err)
	}
	put(t, path+sigSuffix, string(text), 0o600)
	if e, err := s.Admit(only(t, filepath.Dir(path))); err != nil || e.Publisher != "acme" {
		t.Fatalf("admitted %+v, %v", e, err)
	}
}

func TestSignatureThatDoesNotHoldKeepsThePluginOut(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, acme signer, trust, path string)
		says  string
	}{
		{"of other bytes", func(t *testing.T, acme signer, _, path string) {
			acme.sign(t, path)
			put(t, path, strings.Replace(script, "served", "stolen", 1), 0o755)
		}, "not of these bytes"},
		{"of other bytes, the older form", func(t *testing.T, acme signer, _, path string) {
			put(t, path+sigSuffix, string(legacy(acme, []byte("other"))), 0o600)
		}, "not of these bytes"},
		{"by somebody unknown", func(t *testing.T, _ signer, _, path string) { newSigner(t).sign(t, path) }, "inos plugin trust"},
		{"by a key that is trusted no more", func(t *testing.T, acme signer, trust, path string) {
			acme.sign(t, path)
			if n, err := RemoveKey(trust, "acme"); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}, "not trusted"},
		{"empty", func(t *testing.T, _ signer, _, path string) { put(t, path+sigSuffix, "", 0o600) }, "plugin.minisig"},
		{"cut short", func(t *testing.T, acme signer, _, path string) {
			acme.sign(t, path)
			must(t, os.Truncate(path+sigSuffix, 90))
		}, "plugin.minisig"},
		{"too large", func(t *testing.T, acme signer, _, path string) {
			acme.sign(t, path)
			must(t, os.Truncate(path+sigSuffix, maxKeyFile+1))
		}, "plugin.minisig"},
		{"a folder", func(t *testing.T, _ signer, _, path string) { must(t, os.Mkdir(path+sigSuffix, 0o700)) }, "plugin.minisig"},
		{"with another trusted comment", func(t *testing.T, acme signer, _, path string) {
			acme.sign(t, path)
			text, err := os.ReadFile(path + sigSuffix)
			must(t, err)
			forged := strings.Replace(string(text), "file:plugin", "file:others", 1)
			if forged == string(text) {
				t.Fatalf("no comment in %s", text)
			}
			put(t, path+sigSuffix, forged, 0o600)
		}, "not of these bytes"},
		{"with a key file that anybody can write", func(t *testing.T, acme signer, trust, path string) {
			acme.sign(t, path)
			must(t, os.Chmod(filepath.Join(trust, "acme.pub"), 0o666))
		}, "anybody can write"},
		{"with a folder of keys that anybody can write", func(t *testing.T, acme signer, trust, path string) {
			acme.sign(t, path)
			must(t, os.Chmod(trust, 0o777))
		}, "anybody can write"},
		{"beside a file that is no key", func(t *testing.T, acme signer, trust, path string) {
			acme.sign(t, path)
			put(t, filepath.Join(trust, "broken.pub"), "hello", 0o600)
		}, "broken.pub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, acme, trust, path := trusting(t)
			c.spoil(t, acme, trust, path)
			_, err := Verify(path, trust)
			refusedFor(t, err, path, c.says)
			_, err = s.Admit(only(t, filepath.Dir(path)))
			refusedFor(t, err, path, c.says)
			if l := leftovers(t, s); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

func TestSignatureThatCannotBeReadKeepsThePluginOut(t *testing.T) {
	s, acme, _, path := trusting(t)
	acme.sign(t, path)
	mend := fault(t, "catalog/read-signature", "error(input/output error)")
	_, err := s.Admit(only(t, filepath.Dir(path)))
	refusedFor(t, err, path, "input/output error")
	mend()
	if e, err := s.Admit(only(t, filepath.Dir(path))); err != nil || e.Publisher != "acme" {
		t.Errorf("admitted %+v, %v", e, err)
	}
}

func TestStoredVersionIsRefusedOnceItsKeyIsTrustedNoMore(t *testing.T) {
	s, acme, trust, path := trusting(t)
	acme.sign(t, path)
	e, err := s.Admit(only(t, filepath.Dir(path)))
	must(t, err)
	for range 2 { // and served again once it is
		if n, err := RemoveKey(trust, acme.id()); n != 1 || err != nil {
			t.Fatalf("removed %d, %v", n, err)
		}
		_, err = s.Get(e.Digest, e.Name)
		refusedFor(t, err, e.Path, "not trusted")
		_, err = AddKey(trust, "renamed", acme.line)
		must(t, err)
		if back, err := s.Get(e.Digest, e.Name); err != nil || back.Publisher != "renamed" {
			t.Errorf("got %+v, %v", back, err)
		}
	}
}

func TestAdmittingAgainKeepsTheSignatureOfTheLastTime(t *testing.T) {
	s, acme, _, path := trusting(t)
	admit := func(want string) Entry {
		t.Helper()
		e, err := s.Admit(only(t, filepath.Dir(path)))
		if err != nil || e.Publisher != want {
			t.Fatalf("admitted %+v, %v; want %q", e, err, want)
		}
		back, err := s.Get(e.Digest, e.Name)
		if err != nil || back.Publisher != want {
			t.Fatalf("got back %+v, %v; want %q", back, err, want)
		}
		return e
	}
	first := admit("")
	acme.sign(t, path)
	admit("acme")
	remove(t, path+sigSuffix)
	if last := admit(""); last.Digest != first.Digest {
		t.Error("another digest")
	}
}

// The number in a key is anything that its owner likes.
func TestTwoKeysMayHaveTheSameNumber(t *testing.T) {
	_, acme, trust, path := trusting(t)
	raw, err := base64.StdEncoding.DecodeString(lastLine(newSigner(t).line))
	must(t, err)
	binary.LittleEndian.PutUint64(raw[2:], acme.private.ID())
	other := base64.StdEncoding.EncodeToString(raw)
	if _, err := AddKey(trust, "aardvark", other); err != nil { // sorts before acme
		t.Fatal(err)
	}
	acme.sign(t, path)
	if by, err := Verify(path, trust); err != nil || by.Publisher != "acme" {
		t.Errorf("verified %+v, %v", by, err)
	}
}

func TestKeysAreListedByPublisher(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for _, k := range []struct{ dir, name string }{{two, "a"}, {one, "c"}, {one, "b"}} {
		_, err := AddKey(k.dir, k.name, newSigner(t).line)
		must(t, err)
	}
	put(t, filepath.Join(one, "README"), "no key", 0o600)
	keys, err := Keys(one, two, filepath.Join(t.TempDir(), "none"))
	must(t, err)
	var names strings.Builder
	for _, k := range keys {
		names.WriteString(k.Publisher)
		if len(k.ID) != 16 || k.Path == "" {
			t.Errorf("incomplete: %+v", k)
		}
	}
	if names.String() != "abc" {
		t.Errorf("in the order %s", &names)
	}
}

func TestKeyIsAddedOnceAndNotReplaced(t *testing.T) {
	trust, one := filepath.Join(t.TempDir(), "trust"), newSigner(t)
	// As the file of minisign has it, or its last line.
	for _, text := range []string{one.line, "untrusted comment: minisign public key " + one.id() + "\n" + lastLine(one.line) + "\n", lastLine(one.line)} {
		if k, err := AddKey(trust, "acme", text); err != nil || k.ID != one.id() {
			t.Errorf("%q: %+v, %v", text, k, err)
		}
	}
	if _, err := AddKey(trust, "acme", newSigner(t).line); err == nil || !strings.Contains(err.Error(), "remove it first") {
		t.Errorf("another key: %v", err)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\nb"} {
		if _, err := AddKey(trust, name, one.line); err == nil {
			t.Errorf("a publisher may be called %q", name)
		}
	}
	for _, text := range []string{"", "hello", lastLine(one.line)[1:]} {
		if _, err := AddKey(trust, "bad", text); err == nil || !strings.Contains(err.Error(), "no public key") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if keys, err := Keys(trust); err != nil || len(keys) != 1 {
		t.Errorf("there are %+v, %v", keys, err)
	}
	if n, err := RemoveKey(trust, "nobody"); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestLocalKeyIsMadeOnceTrustedAndPrivate(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "inos", "trust")
	var wg sync.WaitGroup
	made := make(chan bool, 8)
	for range cap(made) {
		wg.Go(func() {
			_, m, err := LocalKey(trust)
			if err != nil {
				t.Error(err)
			}
			made <- m
		})
	}
	wg.Wait()
	close(made)
	n := 0
	for m := range made {
		if m {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("made %d times", n)
	}
	path, _, err := LocalKey(trust)
	must(t, err)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key is %v, %v", info.Mode(), err)
	}
	plugin := filepath.Join(folder(t), "plugin")
	put(t, plugin, script, 0o755)
	_, err = Sign(plugin, path, "")
	must(t, err)
	if by, err := Verify(plugin, trust); err != nil || by.Publisher != "local" {
		t.Errorf("verified %+v, %v", by, err)
	}
}

func TestLocalKeyTakesThePlaceOfOneThatIsLost(t *testing.T) {
	trust := filepath.Join(t.TempDir(), "trust")
	path, _, err := LocalKey(trust)
	must(t, err)
	remove(t, path)
	if _, made, err := LocalKey(trust); !made || err != nil {
		t.Fatalf("made %v, %v", made, err)
	}
	plugin := filepath.Join(folder(t), "plugin")
	put(t, plugin, script, 0o755)
	_, err = Sign(plugin, path, "")
	must(t, err)
	if by, err := Verify(plugin, trust); err != nil || by.Publisher != "local" {
		t.Errorf("verified %+v, %v", by, err)
	}
}

func TestSignSaysWhatIsMissing(t *testing.T) {
	_, acme, _, path := trusting(t)
	if _, err := Sign(path+"-not-there", acme.file, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Sign(path, acme.file+"-not-there", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	if _, err := Sign(path, path, ""); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a key that is none: %v", err)
	}
	if _, err := Verify(path + "-not-there"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("verified: %v", err)
	}
}

// A signature is untrusted input until it holds.
func FuzzSignature(f *testing.F) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good := minisign.Sign(private, []byte(script))
	for _, seed := range []string{string(good), "", "untrusted comment:\n", strings.Repeat("A", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var sig minisign.Signature
		if sig.UnmarshalText(text) != nil {
			return
		}
		file := filepath.Join(t.TempDir(), "plugin")
		put(t, file, script+"#", 0o755)
		if ok, err := verifies(file, text, sig, public); ok || err != nil {
			t.Errorf("a signature of other bytes holds: %v, %v", ok, err)
		}
	})
}
