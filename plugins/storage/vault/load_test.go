package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"inos/plugins/sdk/hashing"
)

// source gives n bytes without holding them: half of each 4 KiB repeats, half is
// noise, so that compression has something to do and nothing is stored twice.
type source struct {
	n    int64
	seed uint64
	peak *uint64
	next int64
}

func (s *source) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.n)]
	for i := range p {
		if i&2048 == 0 {
			s.seed = s.seed*6364136223846793005 + 1442695040888963407
			p[i] = byte(s.seed >> 56)
		} else {
			p[i] = 'r'
		}
	}
	s.n -= int64(len(p))
	if s.next -= int64(len(p)); s.next <= 0 {
		s.next = 8 << 20
		notePeak(s.peak)
	}
	return len(p), nil
}

func notePeak(peak *uint64) {
	if peak == nil {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	*peak = max(*peak, m.HeapInuse)
}

// gauge hashes what it is given and watches the heap.
type gauge struct {
	*hashing.Hasher
	peak *uint64
}

func (g gauge) Write(p []byte) (int, error) {
	if g.Bytes()%(8<<20) == 0 {
		notePeak(g.peak)
	}
	return g.Hasher.Write(p)
}

func TestMemoryIsBoundedWhateverTheSize(t *testing.T) {
	const size, bound = 256 << 20, 64 << 20
	v := open(t, Options{Dir: filepath.Join(t.TempDir(), "v"), Key: testKey})
	var putPeak, getPeak uint64
	info, err := v.Put(context.Background(), "large", &source{n: size, peak: &putPeak}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Get(context.Background(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // it cannot fail
	g := gauge{hashing.New(), &getPeak}
	if n, err := io.Copy(g, r); err != nil || n != size || g.Sum() != info.Digest {
		t.Fatalf("%d bytes, %v", n, err)
	}
	t.Logf("peak of the heap: put %d MiB, get %d MiB", putPeak>>20, getPeak>>20)
	if putPeak == 0 || getPeak == 0 || putPeak > bound || getPeak > bound {
		t.Errorf("peak of the heap: put %d, get %d bytes; the bound is %d", putPeak, getPeak, uint64(bound))
	}
}

func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	disk := newMemFS()
	o := testOptions(disk)
	o.Workers = 4
	v := open(t, o)
	// Every goroutine puts, reads and deletes a name of its own and one that all
	// share, with chunks that all share.
	content := func(g, round int) string { return blocks("123") + fmt.Sprint(g, round) + blocks("21") }
	valid := map[string]bool{}
	for g := range 6 {
		for round := range 15 {
			valid[content(g, round)] = true
		}
	}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			own := fmt.Sprint("own", g)
			for round := range 15 {
				for _, name := range []string{own, "shared"} {
					if _, err := v.Put(ctx, name, strings.NewReader(content(g, round)), PutOptions{}); err != nil {
						t.Error(err)
					}
				}
				if got, err := read(v, own); err != nil || got != content(g, round) {
					t.Errorf("own object: %v", err)
				}
				if got, err := read(v, "shared"); err != nil && !errors.Is(err, ErrNotFound) || err == nil && !valid[got] {
					t.Errorf("shared object: %v", err)
				}
				hash, err := v.PutChunk(ctx, []byte(blocks("1")), PutOptions{})
				if err != nil {
					t.Error(err)
				}
				if round%3 == g%3 {
					if err := v.Delete(ctx, own); err != nil {
						t.Error(err)
					}
					if err := v.Delete(ctx, "shared"); err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					if err := v.DeleteChunk(ctx, hash); err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					if _, err := v.Collect(ctx); err != nil {
						t.Error(err)
					}
				}
				if _, err := v.List(ctx, "", 0, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	noStrays(t, v, disk)
	list, err := v.List(ctx, "", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if _, err := v.Verify(ctx, i.Name, nil); err != nil {
			t.Error(err)
		}
	}
}

// Copies within one vault need a worker on both sides; with one worker in all
// they must still end.
func TestCopiesWithinAVaultDoNotStarve(t *testing.T) {
	v := open(t, testOptions(newMemFS()))
	content := blocks("123456789123")
	put(t, v, "from", content)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r, err := v.Get(context.Background(), "from")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = r.Close() }() // it cannot fail
			if _, err := v.Put(context.Background(), fmt.Sprint("to", i), r, PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if got, err := read(v, fmt.Sprint("to", i)); err != nil || got != content {
			t.Errorf("copy %d: %v", i, err)
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	disk := newMemFS()
	v := open(t, testOptions(disk))
	closing := make(chan struct{})
	hung := readerFunc(func(p []byte) (int, error) {
		<-closing
		return copy(p, "x"), nil
	})
	done := make(chan error)
	go func() {
		_, err := v.Put(context.Background(), "endless", hung, PutOptions{})
		done <- err
	}()
	closed := make(chan error)
	go func() { closed <- v.Close() }()
	<-v.ctx.Done()
	close(closing)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("put: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func BenchmarkPut(b *testing.B) {
	v := open(b, Options{Dir: filepath.Join(b.TempDir(), "v"), Key: testKey})
	const size = 64 << 20
	b.SetBytes(size)
	b.ReportAllocs()
	seed := uint64(1)
	for b.Loop() {
		if _, err := v.Put(context.Background(), "x", &source{n: size, seed: seed}, PutOptions{}); err != nil {
			b.Fatal(err)
		}
		seed++
	}
}

func BenchmarkGet(b *testing.B) {
	v := open(b, Options{Dir: filepath.Join(b.TempDir(), "v"), Key: testKey})
	const size = 64 << 20
	if _, err := v.Put(context.Background(), "x", &source{n: size}, PutOptions{}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		r, err := v.Get(context.Background(), "x")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutAgain puts what is already there: every chunk is read and
// authenticated instead of written.
func BenchmarkPutAgain(b *testing.B) {
	v := open(b, Options{Dir: filepath.Join(b.TempDir(), "v"), Key: testKey})
	content := bytes.Repeat([]byte("again and again "), 4<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := v.Put(context.Background(), "x", bytes.NewReader(content), PutOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
