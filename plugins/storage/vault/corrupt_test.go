package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inos/plugins/sdk/compression"
)

// smallVault returns a disk with a vault of two objects, one of which is stored
// in two chunks, a loose chunk, and what they hold.
func smallVault(t *testing.T) (*memFS, map[string]string) {
	t.Helper()
	disk := newMemFS()
	v := open(t, testOptions(disk))
	want := map[string]string{"big": blocks("12"), "small": "a few bytes", "empty": ""}
	for name, content := range want {
		put(t, v, name, content)
	}
	if _, err := v.PutChunk(context.Background(), []byte("loose"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, want
}

// survey opens a vault and reads everything in it. It fails the test if anything
// is read that is not what was put, or if the disk was changed, and returns every
// error met.
func survey(t *testing.T, disk *memFS, want map[string]string, what string) error {
	t.Helper()
	before := disk.image()
	defer func() {
		t.Helper()
		if !maps.Equal(before, disk.image()) {
			t.Errorf("%s: reading changed the disk", what)
		}
	}()
	v, err := Open(testOptions(disk))
	if err != nil {
		return err
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	errs := v.Problems()
	for name, content := range want {
		got, err := read(v, name)
		if err == nil && got != content {
			t.Errorf("%s: %q came back changed", what, name)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%s: the error does not name the object: %v", what, err)
		}
		report, verifyErr := v.Verify(context.Background(), name, nil)
		if (verifyErr == nil) != (err == nil) {
			t.Errorf("%s: reading says %v, verifying says %v", what, err, verifyErr)
		}
		if verifyErr != nil && len(report.Damaged) > 0 && !strings.Contains(err.Error(), "chunk") {
			t.Errorf("%s: the error does not name the chunk: %v", what, err)
		}
		errs = append(errs, err)
	}
	got, err := v.GetChunk(context.Background(), hashOf("loose"), nil)
	if err == nil && string(got) != "loose" {
		t.Errorf("%s: the loose chunk came back changed", what)
	}
	return errors.Join(append(errs, err)...)
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	disk, want := smallVault(t)
	if err := survey(t, disk, want, "untouched"); err != nil {
		t.Fatal(err)
	}
	flips := 0
	for path, content := range disk.image() {
		for i := range len(content) {
			for _, mask := range []byte{1, 0x80, 0xff} {
				bad := disk.clone()
				bad.files[path].data[i] ^= mask
				what := fmt.Sprintf("%s byte %d ^ %#x", path, i, mask)
				if err := survey(t, bad, want, what); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s: %v", what, err)
				}
				flips++
			}
		}
	}
	if flips < 3000 {
		t.Fatalf("only %d bytes flipped", flips)
	}
}

func TestTruncatedExtendedAndMissingFilesAreNoticed(t *testing.T) {
	disk, want := smallVault(t)
	for path, content := range disk.image() {
		if strings.Contains(path, "/pins/") {
			continue // empty, and only its name counts
		}
		for cut := range len(content) {
			bad := disk.clone()
			bad.files[path].data = bad.files[path].data[:cut]
			if err := survey(t, bad, want, path); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d of %d: %v", path, cut, len(content), err)
			}
		}
		bad := disk.clone()
		bad.files[path].data = append(bad.files[path].data, 0)
		if err := survey(t, bad, want, path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte more: %v", path, err)
		}
		bad = disk.clone()
		delete(bad.files, path)
		err := survey(t, bad, want, path)
		if strings.Contains(path, "/objects/") {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("without %s: %v", path, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Errorf("without %s: %v", path, err)
		}
	}
}

// Files of one vault put in each other's places are whole, but not what was asked
// for.
func TestSwappedFilesAreNoticed(t *testing.T) {
	disk, want := smallVault(t)
	for _, kind := range []string{"objects", "chunks"} {
		var paths []string
		for path := range disk.image() {
			if strings.Contains(path, "/"+kind+"/") {
				paths = append(paths, path)
			}
		}
		slices.Sort(paths)
		bad := disk.clone()
		bad.files[paths[0]], bad.files[paths[1]] = bad.files[paths[1]], bad.files[paths[0]]
		if err := survey(t, bad, want, kind); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s swapped: %v", kind, err)
		}
	}
}

func TestVerifyReportsAllDamage(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "x", blocks("123456"))
	for _, l := range []string{"2", "5"} {
		path := v.file(chunksDir, v.secrets.chunkID(hashOf(blocks(l))))
		disk.files[path].data[50] ^= 1
	}
	var seen []uint64
	report, err := v.Verify(context.Background(), "x", func(n uint64) { seen = append(seen, n) })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "2 of 6 chunks") {
		t.Fatalf("got %v", err)
	}
	if len(report.Damaged) != 2 || report.Damaged[0].Chunk != 1 || report.Damaged[1].Chunk != 4 {
		t.Fatalf("report %+v", report.Damaged)
	}
	if len(seen) != 6 || seen[5] != 6*MinChunk {
		t.Fatalf("progress %v", seen)
	}
	for _, d := range report.Damaged {
		if !strings.Contains(d.Err.Error(), filepath.Base(d.File)) || disk.files[d.File] == nil {
			t.Errorf("damage %+v", d)
		}
	}
}

func TestReadingStopsBeforeDamage(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	content := blocks("123456")
	put(t, v, "x", content)
	disk.files[v.file(chunksDir, v.secrets.chunkID(hashOf(blocks("4"))))].data[60] ^= 1
	r, err := v.Get(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // it cannot fail
	got, err := io.ReadAll(r)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunk 4 of 6") || string(got) != content[:3*MinChunk] {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("read on: %v", err)
	}
}

func TestPutWritesADamagedChunkAnew(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:20] },
		"emptied":   func([]byte) []byte { return nil },
		"too long":  func([]byte) []byte { return make([]byte, maxChunkFile+1) },
		"zeroed":    func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		disk := newMemFS()
		v := open(t, testOptions(disk))
		put(t, v, "x", blocks("12"))
		path := v.file(chunksDir, v.secrets.chunkID(hashOf(blocks("1"))))
		disk.files[path].data = damage(disk.files[path].data)
		if _, err := read(v, "x"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v", name, err)
		}
		put(t, v, "y", blocks("1"))
		if got, err := read(v, "x"); err != nil || got != blocks("12") {
			t.Errorf("%s: after putting the chunk again: %v", name, err)
		}
	}
}

func TestWrongKeyChangesNothing(t *testing.T) {
	other, err := RawKey(bytes.Repeat([]byte{8}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	phrase, err := Passphrase("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	disk, want := smallVault(t)
	disk.files["/vault/tmp/left"] = &memFile{data: []byte("over")}
	before := disk.image()
	for name, k := range map[string]Key{"another key": other, "a passphrase": phrase} {
		o := testOptions(disk)
		o.Key = k
		if _, err := Open(o); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !maps.Equal(before, disk.image()) {
		t.Error("a wrong key changed the disk")
	}
	delete(disk.files, "/vault/tmp/left")
	if err := survey(t, disk, want, "the right key"); err != nil {
		t.Error(err)
	}
}

func TestSpareHeaderOpensTheVault(t *testing.T) {
	disk, want := smallVault(t)
	disk.files["/vault/header"].data[30] ^= 1
	err := survey(t, disk, want, "damaged header")
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "copy the file header.copy over header") {
		t.Fatalf("got %v", err)
	}
	delete(disk.files, "/vault/header")
	if err := survey(t, disk, want, "missing header"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	disk.files["/vault/header"] = disk.files["/vault/header.copy"]
	if err := survey(t, disk, want, "spare in place"); err != nil {
		t.Fatal(err)
	}
}

// damageManifest makes the manifest of an object unreadable and returns what puts
// it back.
func damageManifest(v *Vault, disk *memFS, name string) (restore func()) {
	path := v.file(objectsDir, v.secrets.objectID(name))
	good := disk.files[path]
	disk.files[path] = &memFile{data: []byte("damaged")}
	return func() { disk.files[path] = good }
}

func TestDamagedManifestKeepsEveryChunk(t *testing.T) {
	ctx := context.Background()
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "a", blocks("12"))
	put(t, v, "b", blocks("23"))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	restore := damageManifest(v, disk, "a")
	v = open(t, testOptions(disk))
	if p := v.Problems(); len(p) != 1 || !errors.Is(p[0], ErrCorrupt) {
		t.Fatalf("problems %v", p)
	}
	if _, err := v.Stat(ctx, "a"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `"a"`) {
		t.Fatalf("stat: %v", err)
	}
	if _, err := v.Collect(ctx); !errors.Is(err, ErrDamaged) {
		t.Fatalf("collect: %v", err)
	}
	if err := v.Delete(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	restore()
	v = open(t, testOptions(disk))
	if got, err := read(v, "a"); err != nil || got != blocks("12") {
		t.Fatalf("after the manifest was restored: %v", err)
	}
	if n, err := v.Collect(ctx); n != 1 || err != nil { // block 3
		t.Fatalf("collected %d, %v", n, err)
	}
	noStrays(t, v, disk)
}

func TestDamagedObjectCanBePutOrDeleted(t *testing.T) {
	ctx := context.Background()
	for name, mend := range map[string]func(v *Vault) error{
		"put":    func(v *Vault) error { put(t, v, "a", blocks("4")); return nil },
		"delete": func(v *Vault) error { return v.Delete(ctx, "a") },
	} {
		disk := newMemFS()
		v := open(t, testOptions(disk))
		put(t, v, "a", blocks("12"))
		put(t, v, "b", blocks("23"))
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		damageManifest(v, disk, "a")
		v = open(t, testOptions(disk))
		if err := mend(v); err != nil {
			t.Fatal(name, err)
		}
		if p := v.Problems(); len(p) > 0 {
			t.Errorf("%s: %v", name, p)
		}
		if n, err := v.Collect(ctx); n != 1 || err != nil { // block 1
			t.Errorf("%s: collected %d, %v", name, n, err)
		}
		if got, err := read(v, "b"); err != nil || got != blocks("23") {
			t.Errorf("%s: the other object: %v", name, err)
		}
		noStrays(t, v, disk)
	}
}

// An older manifest put back while the vault is open names chunks that were never
// counted for it: deleting it must not take them from others.
func TestRestoredManifestDoesNotTakeChunksOfOthers(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "other", blocks("1"))
	put(t, v, "x", blocks("1"))
	path := v.file(objectsDir, v.secrets.objectID("x"))
	older := disk.files[path]
	put(t, v, "x", blocks("2"))
	disk.files[path] = older
	if err := v.Delete(context.Background(), "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := read(v, "other"); err != nil || got != blocks("1") {
		t.Fatalf("the other object: %v", err)
	}
}

// A chunk written by a compressor that lied is caught, although its seal holds.
func TestSealedButWrongContentIsNoticed(t *testing.T) {
	v := open(t, testOptions(newMemFS()))
	codec, err := compression.New(compression.Zstd, compression.Default)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Put(context.Background(), "x", strings.NewReader(blocks("1")), PutOptions{Codec: liar{codec}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(v, "x"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunk 1 of 1") {
		t.Fatalf("got %v", err)
	}
	if _, err := v.GetChunk(context.Background(), hashOf(blocks("1")), nil); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("by hash: %v", err)
	}
}

type liar struct{ compression.Codec }

func (l liar) Compress(dst, src []byte) ([]byte, error) {
	return l.Codec.Compress(dst, make([]byte, len(src)))
}
