package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

var errInjected = errors.New("injected failure of the disk")

// faultMode says how the chosen operation fails.
type faultMode int

const (
	failBefore faultMode = iota // it has no effect
	failAfter                   // it has its effect and reports an error
	failPower                   // it has half of its effect, and nothing works from then on
)

func (m faultMode) String() string { return [...]string{"before", "after", "power"}[m] }

// faultFS fails the operation with a given number, counted from 1.
type faultFS struct {
	FS
	mode faultMode
	at   int

	mu sync.Mutex
	n  int
}

// do runs an operation, or fails it.
func (f *faultFS) do(op func() error, half func()) error {
	f.mu.Lock()
	f.n++
	hit, dead := f.n == f.at, f.mode == failPower && f.at > 0 && f.n > f.at
	f.mu.Unlock()
	switch {
	case dead:
		return errInjected
	case !hit:
		return op()
	case f.mode == failAfter:
		return errors.Join(op(), errInjected)
	case f.mode == failPower && half != nil:
		half()
	}
	return errInjected
}

func (f *faultFS) ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *faultFS) Create(path string) (file File, err error) {
	err = f.do(func() (err error) { file, err = f.FS.Create(path); return err }, nil)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f}, nil
}

func (f *faultFS) ReadFile(path string, dst []byte, limit int) (b []byte, err error) {
	b = dst
	err = f.do(func() (err error) { b, err = f.FS.ReadFile(path, dst, limit); return err }, nil)
	return b, err
}

func (f *faultFS) ReadDir(path string) (names []string, err error) {
	err = f.do(func() (err error) { names, err = f.FS.ReadDir(path); return err }, nil)
	return names, err
}

func (f *faultFS) Rename(from, to string) error {
	return f.do(func() error { return f.FS.Rename(from, to) }, func() { _ = f.FS.Rename(from, to) })
}

func (f *faultFS) Remove(path string) error {
	return f.do(func() error { return f.FS.Remove(path) }, func() { _ = f.FS.Remove(path) })
}

func (f *faultFS) Mkdir(path string) error {
	return f.do(func() error { return f.FS.Mkdir(path) }, nil)
}

func (f *faultFS) SyncDir(path string) error {
	return f.do(func() error { return f.FS.SyncDir(path) }, nil)
}

func (f *faultFS) Lock(path string) (c io.Closer, err error) {
	err = f.do(func() (err error) { c, err = f.FS.Lock(path); return err }, nil)
	if err != nil && c != nil {
		_ = c.Close()
		c = nil
	}
	return c, err
}

type faultFile struct {
	File
	fs *faultFS
}

func (f *faultFile) Write(p []byte) (n int, err error) {
	err = f.fs.do(func() (err error) { n, err = f.File.Write(p); return err },
		func() { n, _ = f.File.Write(p[:len(p)/2]) })
	return n, err
}

func (f *faultFile) Sync() error  { return f.fs.do(f.File.Sync, nil) }
func (f *faultFile) Close() error { return f.fs.do(f.File.Close, nil) }

const absent = "\x00absent"

// ledger is what may be found under each name. A change that was answered leaves
// one possibility; one that failed adds to them.
type ledger map[string][]string

func (l ledger) record(name, now string, err error) {
	if err == nil {
		l[name] = []string{now}
		return
	}
	if l[name] == nil {
		l[name] = []string{absent}
	}
	if !slices.Contains(l[name], now) {
		l[name] = append(l[name], now)
	}
}

// chunkName marks a loose chunk in a ledger.
const chunkName = "loose chunk of "

// play runs a fixed series of changes, going on after failures as a node would,
// and opening the vault anew in the middle.
func play(t *testing.T, fsys FS, l ledger) {
	t.Helper()
	ctx := context.Background()
	put := func(v *Vault, name, content string) {
		_, err := v.Put(ctx, name, strings.NewReader(content), PutOptions{})
		l.record(name, content, err)
		mustBeInjected(t, err)
	}
	del := func(v *Vault, name string) {
		err := v.Delete(ctx, name)
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		l.record(name, absent, err)
		mustBeInjected(t, err)
	}
	putChunk := func(v *Vault, content string) {
		_, err := v.PutChunk(ctx, []byte(content), PutOptions{})
		l.record(chunkName+content, content, err)
		mustBeInjected(t, err)
	}
	delChunk := func(v *Vault, content string) {
		err := v.DeleteChunk(ctx, hashOf(content))
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		// The bytes may stay as part of an object, or wait for Collect.
		if l.record(chunkName+content, absent, err); err == nil {
			l[chunkName+content] = []string{absent, content}
		}
		mustBeInjected(t, err)
	}
	for _, act := range []func(v *Vault){
		func(v *Vault) {
			put(v, "a", blocks("123"))
			put(v, "b", blocks("234"))
			put(v, "a", blocks("35"))
			put(v, "empty", "")
			putChunk(v, blocks("2"))
			putChunk(v, blocks("9"))
		},
		func(v *Vault) {
			del(v, "b")
			put(v, "c", blocks("4433"))
			delChunk(v, blocks("2"))
			del(v, "a")
			put(v, "b", blocks("6"))
			_, err := v.Collect(ctx)
			mustBeInjected(t, err)
		},
	} {
		v, err := Open(testOptions(fsys))
		mustBeInjected(t, err)
		if err != nil {
			continue
		}
		act(v)
		// What this process sees must be possible too.
		check(t, v, l, true)
		mustBeInjected(t, v.Close())
	}
}

func mustBeInjected(t *testing.T, err error) {
	t.Helper()
	// ErrDamaged stands for a manifest that could not be read while opening.
	if err != nil && !errors.Is(err, errInjected) && !errors.Is(err, ErrReadOnly) && !errors.Is(err, ErrDamaged) {
		t.Fatalf("an error from elsewhere: %v", err)
	}
}

// check compares a vault with what may be in it. Reading may fail only while the
// disk does.
func check(t *testing.T, v *Vault, l ledger, faulty bool) {
	t.Helper()
	for name, possible := range l {
		var got string
		var err error
		if content, ok := strings.CutPrefix(name, chunkName); ok {
			var b []byte
			b, err = v.GetChunk(context.Background(), hashOf(content), nil)
			got = string(b)
		} else {
			got, err = read(v, name)
		}
		if errors.Is(err, ErrNotFound) {
			got, err = absent, nil
		}
		if err != nil && faulty && errors.Is(err, errInjected) {
			continue
		}
		if err != nil || !slices.Contains(possible, got) {
			t.Fatalf("%q: found %s, %v; possible: %s", name, short(got), err, short(possible...))
		}
	}
}

func short(contents ...string) string {
	var b strings.Builder
	for _, c := range contents {
		fmt.Fprintf(&b, "[%d bytes %.8q]", len(c), c)
	}
	return b.String()
}

// TestAnyFailureOfTheDiskKeepsWhatWasAnswered fails every single operation of the
// file system, in every way, and then cuts the power.
func TestAnyFailureOfTheDiskKeepsWhatWasAnswered(t *testing.T) {
	count := &faultFS{FS: newMemFS()}
	play(t, count, ledger{})
	if count.ops() < 150 {
		t.Fatalf("only %d operations to fail", count.ops())
	}
	for _, mode := range []faultMode{failBefore, failAfter, failPower} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			for at := 1; at <= count.ops(); at++ {
				disk := newMemFS()
				l := ledger{}
				play(t, &faultFS{FS: disk, mode: mode, at: at}, l)
				for seed := range uint64(4) {
					found := disk.afterPowerLoss(seed)
					aftermath(t, found, l, fmt.Sprintf("operation %d failed, seed %d", at, seed))
				}
			}
		})
	}
}

// aftermath opens the vault after a loss of power and looks at everything.
func aftermath(t *testing.T, disk *memFS, l ledger, what string) {
	t.Helper()
	ctx := context.Background()
	v, err := Open(testOptions(disk))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	if p := v.Problems(); len(p) > 0 {
		t.Fatalf("%s: %v", what, p)
	}
	if left, err := disk.ReadDir("/vault/tmp"); err != nil || len(left) > 0 {
		t.Fatalf("%s: left under tmp: %v, %v", what, left, err)
	}
	check(t, v, l, false)
	if _, err := v.Collect(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	check(t, v, l, false)
	list, err := v.List(ctx, "", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if _, err := v.Verify(ctx, i.Name, nil); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if _, err := v.Put(ctx, "afterwards", strings.NewReader(blocks("1234569")), PutOptions{}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got, err := read(v, "afterwards"); err != nil || got != blocks("1234569") {
		t.Fatalf("%s: %v", what, err)
	}
	noStrays(t, v, disk)
}

// noStrays fails if there is a chunk that nothing refers to, or a reference to a
// chunk that is not there.
func noStrays(t *testing.T, v *Vault, disk *memFS) {
	t.Helper()
	files := 0
	for path := range disk.image() {
		if strings.HasPrefix(path, "/vault/chunks/") {
			files++
		}
	}
	if used := v.Usage().Chunks; used != files {
		t.Fatalf("%d chunks are in use, %d are on disk", used, files)
	}
}

func TestVaultTakesNoChangesAfterAFailureWhileCommitting(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "kept", blocks("1"))
	v.fs = &faultFS{FS: disk, mode: failBefore, at: 1}
	if err := v.Delete(context.Background(), "kept"); !errors.Is(err, errInjected) {
		// Operation 1 reads the manifest: an error, but nothing is in doubt.
		t.Fatalf("got %v", err)
	}
	v.fs = &faultFS{FS: disk, mode: failAfter, at: 2} // removes it
	err := v.Delete(context.Background(), "kept")
	if !errors.Is(err, ErrReadOnly) || !errors.Is(err, errInjected) {
		t.Fatalf("got %v", err)
	}
	v.fs = disk
	if _, err := v.Put(context.Background(), "other", strings.NewReader("x"), PutOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("put: %v", err)
	}
	if _, err := v.PutChunk(context.Background(), []byte("x"), PutOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("put chunk: %v", err)
	}
	if _, err := v.Collect(context.Background()); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("collect: %v", err)
	}
	// The chunk stays: after a crash the manifest may be back.
	if got, err := v.GetChunk(context.Background(), hashOf(blocks("1")), nil); err != nil || string(got) != blocks("1") {
		t.Fatalf("the chunk: %v", err)
	}
}

// unsyncedFS is a disk whose folders cannot be synced: what a process that dies
// at that moment leaves is visible, but would not survive a loss of power.
type unsyncedFS struct{ FS }

func (unsyncedFS) SyncDir(string) error { return errInjected }

func TestOpenMakesLastingWhatItFinds(t *testing.T) {
	ctx := context.Background()
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "x", blocks("1"))
	put(t, v, "other", blocks("1"))
	if _, err := v.PutChunk(ctx, []byte(blocks("2")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	v.fs = unsyncedFS{disk}
	if _, err := v.commit(&manifest{Info: Info{Name: "x", Digest: hashOf("")}}); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("got %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	// The new process sees x without content, so that the other object is the last
	// to hold the chunk. The old x must not come back without it.
	v = open(t, testOptions(disk))
	if err := v.Delete(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(16) {
		after, err := Open(testOptions(disk.afterPowerLoss(seed)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(after, "x"); err != nil || got != "" {
			t.Errorf("seed %d: %d bytes, %v", seed, len(got), err)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
