package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = Key{secret: bytes.Repeat([]byte{7}, KeySize)}

// testOptions are those of a vault in memory with small chunks and one worker.
func testOptions(fsys FS) Options {
	return Options{Dir: "/vault", Key: testKey, ChunkSize: MinChunk, Workers: 1, FS: fsys}
}

func open(t testing.TB, o Options) *Vault {
	t.Helper()
	v, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func put(t testing.TB, v *Vault, name, content string) Info {
	t.Helper()
	i, err := v.Put(context.Background(), name, strings.NewReader(content), PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func read(v *Vault, name string) (string, error) {
	r, err := v.Get(context.Background(), name)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }() // it cannot fail
	b, err := io.ReadAll(r)
	return string(b), err
}

// blocks returns content of one whole test chunk for each letter.
func blocks(letters string) string {
	var b strings.Builder
	for _, l := range letters {
		b.WriteString(strings.Repeat(string(l), MinChunk))
	}
	return b.String()
}

func hashOf(content string) hashing.Digest { return hashing.Sum([]byte(content)) }

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestRoundTripAroundChunkBorders(t *testing.T) {
	const c = 1000
	o := testOptions(newMemFS())
	o.ChunkSize, o.Workers = c, 3
	v := open(t, o)
	for _, a := range []compression.Algorithm{compression.None, compression.Zstd, compression.S2, compression.Brotli} {
		codec, err := compression.New(a, compression.Default)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, c - 1, c, c + 1, 2 * c, 17*c + 3} {
			for kind, content := range map[string][]byte{"noise": noise(n, uint64(n)), "text": bytes.Repeat([]byte("ab"), n)[:n]} {
				info, err := v.Put(context.Background(), "x", iotest.HalfReader(bytes.NewReader(content)), PutOptions{Codec: codec})
				if err != nil {
					t.Fatal(err)
				}
				if info.Size != uint64(n) || info.Digest != hashing.Sum(content) || info.Chunks != (n+c-1)/c || info.Compression != a {
					t.Errorf("%s %d %s: %+v", a, n, kind, info)
				}
				if got, err := read(v, "x"); err != nil || got != string(content) {
					t.Errorf("%s %d %s: read %d bytes, %v", a, n, kind, len(got), err)
				}
				r, err := v.Get(context.Background(), "x")
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				written, err := io.Copy(&out, r) // by WriteTo
				if err != nil || written != int64(n) || out.String() != string(content) {
					t.Errorf("%s %d %s: wrote %d bytes, %v", a, n, kind, written, err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestReaderPassesTheReaderTest(t *testing.T) {
	v := open(t, testOptions(newMemFS()))
	content := noise(5*MinChunk+7, 1)
	put(t, v, "x", string(content))
	r, err := v.Get(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, content); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

func TestStatKeepsWhenTheNameWasFirstPut(t *testing.T) {
	now := time.Unix(1_700_000_000, 42).UTC()
	o := testOptions(newMemFS())
	o.Now = func() time.Time { return now }
	v := open(t, o)
	put(t, v, "x", blocks("11"))
	first := now
	now = now.Add(time.Hour)
	put(t, v, "x", blocks("112"))
	got, err := v.Stat(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "x" || !got.Created.Equal(first) || !got.Modified.Equal(now) || got.Size != 3*MinChunk ||
		got.Chunks != 3 || got.Digest != hashOf(blocks("112")) || got.Compression != compression.Zstd || got.Stored == 0 || got.Stored > got.Size {
		t.Fatalf("got %+v", got)
	}
	if _, err := v.Stat(context.Background(), "y"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("missing object: %v", err)
	}
}

func TestNamesAreTextAndNeverPaths(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: filepath.Join(dir, "vault"), Key: testKey, ChunkSize: MinChunk})
	for _, name := range []string{"../../escape", "/etc/passwd", "a/b", ".", "..", "~", "naïve", "日本語", "a\u202eb", strings.Repeat("x", MaxName)} {
		put(t, v, name, name)
		if got, err := read(v, name); err != nil || got != name {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("beside the vault: %v, %v", names, err)
	}
	for _, name := range []string{"", strings.Repeat("x", MaxName+1), "a\x00b", "a\nb", "a\x7f", "a\u0085", "\xff\xfe", "a\x1b[31m"} {
		_, putErr := v.Put(context.Background(), name, strings.NewReader("x"), PutOptions{})
		_, getErr := v.Get(context.Background(), name)
		_, statErr := v.Stat(context.Background(), name)
		_, verifyErr := v.Verify(context.Background(), name, nil)
		delErr := v.Delete(context.Background(), name)
		for _, err := range []error{putErr, getErr, statErr, verifyErr, delErr} {
			if !errors.Is(err, ErrName) {
				t.Errorf("%.20q: %v", name, err)
			}
		}
	}
}

func TestListPagesInOrder(t *testing.T) {
	v := open(t, testOptions(newMemFS()))
	for _, name := range []string{"b", "a/2", "a/10", "a", "a/1", "c/1", "é"} {
		put(t, v, name, name)
	}
	list := func(prefix string, limit int, after string) []string {
		t.Helper()
		infos, err := v.List(context.Background(), prefix, limit, after)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range infos {
			names = append(names, i.Name)
		}
		return names
	}
	for _, c := range []struct {
		prefix string
		limit  int
		after  string
		want   string
	}{
		{"", 0, "", "a a/1 a/10 a/2 b c/1 é"},
		{"", 3, "", "a a/1 a/10"},
		{"", 3, "a/10", "a/2 b c/1"},
		{"a/", 0, "", "a/1 a/10 a/2"},
		{"a/", 2, "a/1", "a/10 a/2"},
		{"a/", 1, "a/15", "a/2"},
		{"a/", 0, "a/2", ""},
		{"a/", 0, "b", ""},
		{"c", 0, "a", "c/1"},
		{"nothing", 0, "", ""},
		{"", 0, "é", ""},
	} {
		if got := strings.Join(list(c.prefix, c.limit, c.after), " "); got != c.want {
			t.Errorf("prefix %q, limit %d, after %q: %s, want %s", c.prefix, c.limit, c.after, got, c.want)
		}
	}
	for _, limit := range []int{-1, MaxList + 1} {
		if _, err := v.List(context.Background(), "", limit, ""); !errors.Is(err, ErrOptions) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestEqualChunksAreStoredOnce(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "a", blocks("1231"))
	put(t, v, "b", blocks("3211"))
	if got := v.Usage(); got != (Usage{Objects: 2, Bytes: 8 * MinChunk, Chunks: 3}) {
		t.Errorf("usage %+v", got)
	}
	noStrays(t, v, disk)
}

func TestDeleteKeepsWhatOthersHold(t *testing.T) {
	ctx := context.Background()
	disk := newMemFS()
	v := open(t, testOptions(disk))
	put(t, v, "a", blocks("12"))
	put(t, v, "b", blocks("23"))
	if _, err := v.PutChunk(ctx, []byte(blocks("3")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	has := func(letter string) bool {
		b, err := v.GetChunk(ctx, hashOf(blocks(letter)), nil)
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil && string(b) == blocks(letter)
	}
	expect := func(when, letters string) {
		t.Helper()
		for _, l := range []string{"1", "2", "3"} {
			if want := strings.Contains(letters, l); has(l) != want {
				t.Errorf("%s: chunk %s is there: %v", when, l, !want)
			}
		}
		noStrays(t, v, disk)
	}
	expect("at first", "123")
	for _, step := range []struct {
		when, left string
		do         func() error
	}{
		{"without a", "23", func() error { return v.Delete(ctx, "a") }},
		{"without b", "3", func() error { return v.Delete(ctx, "b") }},
		{"unpinned", "", func() error { return v.DeleteChunk(ctx, hashOf(blocks("3"))) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		expect(step.when, step.left)
	}
	if err := v.Delete(ctx, "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := v.DeleteChunk(ctx, hashOf(blocks("3"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("chunk deleted twice: %v", err)
	}
}

func TestPinSurvivesReopening(t *testing.T) {
	ctx := context.Background()
	disk := newMemFS()
	v := open(t, testOptions(disk))
	var hash hashing.Digest
	for range 2 { // the second time changes nothing
		var err error
		if hash, err = v.PutChunk(ctx, []byte("loose"), PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if hash != hashOf("loose") {
		t.Fatalf("hash %s", hash)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, testOptions(disk))
	if n, err := v.Collect(ctx); n != 0 || err != nil {
		t.Fatalf("collected %d, %v", n, err)
	}
	if got, err := v.GetChunk(ctx, hash, []byte("head ")); err != nil || string(got) != "head loose" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got := v.Usage(); got.Pinned != 1 || got.Chunks != 1 {
		t.Fatalf("usage %+v", got)
	}
	if err := v.DeleteChunk(ctx, hash); err != nil {
		t.Fatal(err)
	}
	if _, err := v.GetChunk(ctx, hash, nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("after DeleteChunk: %v", err)
	}
}

func TestChunkBounds(t *testing.T) {
	v := open(t, testOptions(newMemFS()))
	for _, n := range []int{0, 1, MaxChunk} {
		hash, err := v.PutChunk(context.Background(), make([]byte, n), PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.GetChunk(context.Background(), hash, nil); err != nil || len(got) != n {
			t.Errorf("%d bytes: %d back, %v", n, len(got), err)
		}
	}
	if _, err := v.PutChunk(context.Background(), make([]byte, MaxChunk+1), PutOptions{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestReaderGivesTheContentItOpened(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	content := blocks("123456789")
	put(t, v, "x", content)
	r, err := v.Get(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 100)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	put(t, v, "x", "new")
	if err := v.Delete(context.Background(), "x"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || string(head)+string(rest) != content {
		t.Fatalf("%d bytes, %v", len(rest), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	noStrays(t, v, disk) // the reader was the last to hold them
}

func TestPutThatFailsLeavesTheOldContent(t *testing.T) {
	disk := newMemFS()
	o := testOptions(disk)
	o.Workers = 4
	v := open(t, o)
	old := blocks("12")
	put(t, v, "x", old)
	gone := errors.New("source went away")
	ctx, cancel := context.WithCancelCause(context.Background())
	for name, c := range map[string]struct {
		ctx context.Context
		r   io.Reader
		err error
	}{
		"source fails":         {context.Background(), io.MultiReader(strings.NewReader(blocks("23456")), iotest.ErrReader(gone)), gone},
		"source was cut short": {context.Background(), io.MultiReader(strings.NewReader(blocks("23456")+"rest"), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		"cancelled": {ctx, io.MultiReader(strings.NewReader(blocks("23456")), readerFunc(func(p []byte) (int, error) {
			cancel(gone)
			return copy(p, blocks("7")), nil
		})), gone},
	} {
		if _, err := v.Put(c.ctx, "x", c.r, PutOptions{}); !errors.Is(err, c.err) || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := read(v, "x"); err != nil || got != old {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if used := v.Usage().Chunks; used != 2 {
			t.Errorf("%s: %d chunks are held, 2 are in use", name, used)
		}
		noStrays(t, v, disk)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestClosedVaultRefusesEverything(t *testing.T) {
	ctx := context.Background()
	v := open(t, testOptions(newMemFS()))
	put(t, v, "x", blocks("123456789"))
	r, err := v.Get(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatalf("closed twice: %v", err)
	}
	_, putErr := v.Put(ctx, "y", strings.NewReader("y"), PutOptions{})
	_, getErr := v.Get(ctx, "x")
	_, statErr := v.Stat(ctx, "x")
	_, listErr := v.List(ctx, "", 0, "")
	_, verifyErr := v.Verify(ctx, "x", nil)
	_, pinErr := v.PutChunk(ctx, nil, PutOptions{})
	_, chunkErr := v.GetChunk(ctx, hashing.Digest{}, nil)
	_, collectErr := v.Collect(ctx)
	_, readErr := io.ReadAll(r)
	for i, err := range []error{putErr, getErr, statErr, listErr, verifyErr, pinErr, chunkErr, collectErr, readErr,
		v.Delete(ctx, "x"), v.DeleteChunk(ctx, hashing.Digest{})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreCheckedTogether(t *testing.T) {
	_, err := Open(Options{ChunkSize: 1, Workers: -1, KDF: KDF{Time: 1, Memory: 1 << 30, Threads: 1}})
	if !errors.Is(err, ErrOptions) {
		t.Fatal(err)
	}
	for _, part := range []string{"folder", "key", "1 bytes", "-1 workers", "1073741824 KiB"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not mentioned in: %v", part, err)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "v"), Key: testKey}
	v := open(t, o)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Fatalf("opened twice: %v", err)
	}
	put(t, v, "x", "still works")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, o)
	if got, err := read(v, "x"); err != nil || got != "still works" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestLeftoversAreSweptAndStrangersKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	o := Options{Dir: dir, Key: testKey, ChunkSize: MinChunk}
	v := open(t, o)
	put(t, v, "x", "x")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(dir, "chunks", "README")
	for _, path := range []string{filepath.Join(dir, "tmp", "17"), filepath.Join(dir, "tmp", "half"), stranger} {
		if err := os.WriteFile(path, []byte("half written"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v = open(t, o)
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if n, err := v.Collect(context.Background()); n != 0 || err != nil {
		t.Errorf("collected %d, %v", n, err)
	}
	if _, err := os.Stat(stranger); err != nil {
		t.Error(err)
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	v := open(t, Options{Dir: dir, Key: testKey})
	put(t, v, "x", "x")
	if _, err := v.PutChunk(context.Background(), []byte("y"), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || seen < 12 {
		t.Fatalf("%d files, %v", seen, err)
	}
}

func TestTwoVaultsShareNoNames(t *testing.T) {
	names := func(o Options) []string {
		disk := newMemFS()
		o.FS = disk
		v := open(t, o)
		put(t, v, "same name", blocks("123"))
		var files []string
		for path, content := range disk.image() {
			if strings.Contains(content, "same name") || strings.Contains(content, blocks("1")[:32]) {
				t.Errorf("%s shows what it holds", path)
			}
			if d := filepath.Dir(path); d != "/vault" {
				files = append(files, filepath.Base(path))
			}
		}
		return files
	}
	a, b := names(testOptions(nil)), names(testOptions(nil))
	if len(a) != 4 || len(b) != 4 {
		t.Fatalf("%d and %d files", len(a), len(b))
	}
	for _, n := range a {
		if slices.Contains(b, n) {
			t.Errorf("both vaults have a file %s", n)
		}
	}
}
