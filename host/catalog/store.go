package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
)

// Errors of a Store. They are about the store, never about a plugin.
var (
	// ErrNotStored says that the store holds no such binary.
	ErrNotStored = errors.New("catalog: not in the store")
	// ErrDamaged says that the bytes in the store are not those that were admitted.
	ErrDamaged = errors.New("catalog: damaged in the store")
)

// Points of the store.
var (
	duringCopy   = failpoint.New("catalog/copy")
	beforeSync   = failpoint.New("catalog/copy-sync")
	afterChecks  = failpoint.New("catalog/checked")
	beforeRename = failpoint.New("catalog/before-rename")
	afterRename  = failpoint.New("catalog/after-rename")
)

// incoming begins the names of copies that are not complete.
const incoming = ".incoming-"

// Store is the private folder of the binaries that may run. Each lies under its
// digest, so any number of versions can be there at once. Its methods may be
// called from any goroutine; two processes must not share a store.
type Store struct {
	dir   string
	who   operator
	trust []string // folders of trusted keys

	mu sync.Mutex // held while the folder changes
}

// Entry is one binary in the store.
type Entry struct {
	Name   string // base name, as it stood in the plugins folder
	Path   string // what to run
	Digest string // SHA-256, lower-case hex
	Size   int64
	Kind   Kind
	Source string // where it was copied from; empty when it was found in the store
	// Publisher names the trusted key that signed it, "" for none.
	Publisher string
	// Listed says that a list of the operator named this digest.
	Listed bool
}

// OpenStore opens the store in dir, made if it is not there, and removes what an
// interrupted copy left behind. Trust names the folders of the keys whose
// signatures count; they are read anew each time.
func OpenStore(dir string, trust ...string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("catalog: store: %w", err)
	}
	s := &Store{dir: dir, who: currentOperator(), trust: trust}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: store: %w", err)
	}
	if r := s.who.alone("store", dir, info); r != nil {
		return nil, fmt.Errorf("catalog: %w", r.about(dir))
	}
	if info.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder that cannot be entered is none
			return nil, fmt.Errorf("catalog: store: %w", err)
		}
	}
	var mount unix.Statfs_t
	if err := unix.Statfs(dir, &mount); err == nil && mount.Flags&unix.ST_NOEXEC != 0 {
		return nil, fmt.Errorf("catalog: store %s: the file system is mounted noexec, nothing could be started from it; put the node's folder elsewhere", dir)
	}
	for _, place := range []string{dir, filepath.Join(dir, "*")} {
		if err := removeUnfinished(filepath.Join(place, incoming)); err != nil {
			return nil, fmt.Errorf("catalog: store: %w", err)
		}
	}
	return s, nil
}

// removeUnfinished removes the files that begin like this, which a process left
// behind that died while it wrote them.
func removeUnfinished(beginning string) error {
	left, err := filepath.Glob(beginning + "*")
	for _, l := range left {
		err = errors.Join(err, os.Remove(l))
	}
	return err
}

// Admit copies a candidate into the store and returns the copy, which is on disk
// when Admit returns. A file that is not what was inspected, not whole, or not
// what the operator's lists say, is a *Refusal; any other error is about the
// store. A binary that the store holds already is checked and kept.
func (s *Store) Admit(c Candidate) (Entry, error) {
	if c.Err != nil {
		return Entry{}, c.Err
	}
	e, err := s.admit(c)
	var r *Refusal
	if errors.As(err, &r) {
		return Entry{}, r.about(c.Path)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("catalog: store: admitting %q: %w", c.Name, err)
	}
	return e, nil
}

func (s *Store) admit(c Candidate) (Entry, error) {
	copied, digest, err := s.copyIn(c)
	if err != nil {
		return Entry{}, err
	}
	defer os.Remove(copied) // fails once it was renamed
	listed, refusal := checkSums(c.Path, digest)
	if refusal != nil {
		return Entry{}, refusal
	}
	by, signature, refusal := checkSignature(c.Path, copied, s.trust)
	if refusal != nil {
		return Entry{}, refusal
	}
	if err := afterChecks.Hit(); err != nil {
		return Entry{}, err
	}
	e := Entry{Name: c.Name, Publisher: by.Publisher, Digest: hex.EncodeToString(digest[:]), Size: c.Size, Source: c.Target, Listed: listed}
	e.Path = filepath.Join(s.dir, e.Digest, e.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind, err = s.verify(e.Path, e.Digest); err == nil {
		return e, s.keepSignature(e.Path, signature)
	}
	if err := os.MkdirAll(filepath.Dir(e.Path), 0o700); err != nil {
		return Entry{}, err
	}
	if err := s.keepSignature(e.Path, signature); err != nil {
		return Entry{}, err
	}
	if err := beforeRename.Hit(); err != nil {
		return Entry{}, err
	}
	if err := os.Rename(copied, e.Path); err != nil {
		return Entry{}, err
	}
	if err := afterRename.Hit(); err != nil {
		return Entry{}, err
	}
	if err := errors.Join(syncDir(filepath.Dir(e.Path)), syncDir(s.dir)); err != nil {
		return Entry{}, err
	}
	e.Kind, err = s.verify(e.Path, e.Digest)
	return e, err
}

// keepSignature keeps a signature beside the binary that it is of, or none.
func (s *Store) keepSignature(path string, signature []byte) error {
	if signature == nil {
		if err := os.Remove(path + sigSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return replaceFile(path+sigSuffix, signature, 0o600)
}

// copyIn copies the candidate's bytes into a file of the store's own, reading
// them once. The file is closed when it returns: a program that is open for
// writing cannot be started.
func (s *Store) copyIn(c Candidate) (path string, digest [sha256.Size]byte, err error) {
	src, err := openSource(c.Target)
	if err != nil {
		return "", digest, refuse(Unreadable, "%v", err)
	}
	defer src.Close()
	if err := unchanged(src, c); err != nil {
		return "", digest, err
	}
	dst, err := os.CreateTemp(s.dir, incoming)
	if err != nil {
		return "", digest, err
	}
	defer func() {
		err = errors.Join(err, dst.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(dst.Name()))
		}
	}()
	h := sha256.New()
	if err := duringCopy.Hit(); err != nil {
		return "", digest, err
	}
	// One byte more than there should be, to see a file that grows.
	n, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(src, c.Size+1))
	if err != nil {
		return "", digest, err
	}
	if n != c.Size {
		return "", digest, refuse(Changed, "%d bytes were read, %d inspected", n, c.Size)
	}
	if err := unchanged(src, c); err != nil {
		return "", digest, err
	}
	h.Sum(digest[:0])
	return dst.Name(), digest, errors.Join(dst.Chmod(0o500), beforeSync.Hit(), dst.Sync())
}

// unchanged compares an open file with what was inspected.
func unchanged(f *os.File, c Candidate) error {
	info, err := f.Stat()
	if err != nil {
		return refuse(Unreadable, "%v", err)
	}
	if !info.Mode().IsRegular() || stamp(info) != c.Stamp {
		return refuse(Changed, "it is being written, or was exchanged since it was inspected")
	}
	return nil
}

// verify reads a stored binary again and says what kind of program it is.
func (s *Store) verify(path, digest string) (Kind, error) {
	f, err := openSource(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %s", ErrNotStored, path)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != 0o500 {
		return 0, fmt.Errorf("%w: %s has mode %v", ErrDamaged, path, info.Mode())
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return 0, fmt.Errorf("%w: the digest of %s is %s; remove it and admit the plugin again", ErrDamaged, path, got)
	}
	// What was inspected before was the file in the folder. These bytes are the
	// ones that will run.
	p, refusal := examine(f, info.Size())
	if refusal != nil {
		return 0, refusal
	}
	return p.kind, nil
}

// Get returns a binary that was admitted before, checked again: the way back to
// an older version. Errors: ErrNotStored, ErrDamaged.
func (s *Store) Get(digest, name string) (Entry, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size || filepath.Base(name) != name {
		return Entry{}, fmt.Errorf("%w: %q is no digest or %q no file name", ErrNotStored, digest, name)
	}
	e := Entry{Name: name, Digest: strings.ToLower(digest)}
	e.Path = filepath.Join(s.dir, e.Digest, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if e.Kind, err = s.verify(e.Path, e.Digest); err != nil {
		return Entry{}, err
	}
	info, err := os.Stat(e.Path)
	if err != nil {
		return Entry{}, fmt.Errorf("catalog: store: %w", err)
	}
	e.Size = info.Size()
	// A key that was trusted once need not be now.
	by, _, refusal := checkSignature(e.Path, e.Path, s.trust)
	if refusal != nil {
		return Entry{}, refusal.about(e.Path)
	}
	e.Publisher = by.Publisher
	return e, nil
}

// Has reports whether a binary of that digest is in the store, unchecked.
func (s *Store) Has(digest string) bool {
	_, err := os.Stat(filepath.Join(s.dir, filepath.Base(digest)))
	return err == nil
}

// Prune removes every binary whose digest keep does not hold, so that the store
// does not grow with each version that was ever offered, and returns the digests
// that went. A binary that still runs may go: its process holds it.
func (s *Store) Prune(keep []string) (removed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("catalog: store: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), incoming) || slices.Contains(keep, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("catalog: store: %w", err))
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}

// syncDir puts the names of a folder on disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
