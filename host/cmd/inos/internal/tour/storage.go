package tour

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"inos/host/api"
)

// The way through storage: what anybody serves under these names is taken along.
const (
	putCapability    = "storage.put"
	getCapability    = "storage.get"
	deleteCapability = "storage.delete"

	fileBytes = 8 << 20
)

// roundTrip keeps a file, gets it back and compares the two bit for bit.
func roundTrip(ctx context.Context, n Node, plugin string, remove bool) Stop {
	s := Stop{Plugin: plugin, Capability: putCapability + ", " + getCapability}
	began := time.Now()
	seed := uint64(began.UnixNano())
	name := fmt.Sprintf("inos-tour-%x", seed)
	err := putAndGet(ctx, n, name, seed)
	if remove && !errors.Is(err, errPut) {
		_, gone := n.Run(context.WithoutCancel(ctx), api.RunRequest{Capability: deleteCapability, Params: []string{"name=" + name}, Deadline: jobTimeout})
		if err == nil && gone != nil {
			err = fmt.Errorf("delete: %w", gone)
		}
	}
	s.finish(began, 2*fileBytes, err)
	return s
}

var errPut = errors.New("put")

func putAndGet(ctx context.Context, n Node, name string, seed uint64) error {
	param := []string{"name=" + name}
	_, err := n.Run(ctx, api.RunRequest{
		Capability: putCapability, Params: param, Input: io.LimitReader(newFile(seed), fileBytes), Size: fileBytes, Deadline: jobTimeout,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errPut, err)
	}
	same := &comparison{want: newFile(seed)}
	if _, err = n.Run(ctx, api.RunRequest{Capability: getCapability, Params: param, Output: same, Deadline: jobTimeout}); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if same.bytes != fileBytes {
		return fmt.Errorf("%d bytes went in and %d came out", fileBytes, same.bytes)
	}
	return nil
}

// file is an endless made-up file: lines of text, which compress, and noise,
// which does not, in turns. The same seed makes the same file.
type file struct {
	source *rand.ChaCha8
	block  []byte
	rest   []byte
	turn   int
}

func newFile(seed uint64) *file {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &file{source: rand.NewChaCha8(key), block: make([]byte, 64<<10)}
}

// Read never fails.
func (f *file) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		f.fill()
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *file) fill() {
	if f.turn++; f.turn%2 == 0 {
		_, _ = f.source.Read(f.block) // never fails
	} else {
		line := fmt.Appendf(nil, "block %d of the tour's file begins with %x\n", f.turn, f.source.Uint64())
		for text := f.block; len(text) > 0; {
			text = text[copy(text, line):]
		}
	}
	f.rest = f.block
}

// comparison checks that what is written to it is what want reads.
type comparison struct {
	want  io.Reader
	buf   []byte
	bytes int64
}

// Write fails at the first byte that differs.
func (c *comparison) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	want := c.buf[:len(p)]
	if _, err := io.ReadFull(c.want, want); err != nil {
		return 0, err
	}
	if !bytes.Equal(p, want) {
		i := 0
		for p[i] == want[i] {
			i++
		}
		return 0, fmt.Errorf("byte %d came back as %#02x and was %#02x", c.bytes+int64(i), p[i], want[i])
	}
	c.bytes += int64(len(p))
	return len(p), nil
}
