package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/zeebo/blake3"

	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

var (
	spoolCreate = failpoint.New("journal/spool/create")
	spoolWrite  = failpoint.New("journal/spool/write")
	spoolSync   = failpoint.New("journal/spool/sync")
	spoolFolder = failpoint.New("journal/spool/folder")
	spoolRemove = failpoint.New("journal/spool/remove")
)

const (
	// inlineLimit is the size up to which an input or a result lies in the store.
	// It shares the transaction there, where a file would cost two syncs of its own.
	inlineLimit = 16 << 10
	// chunk is how much is hashed and written at a time.
	chunk = 256 << 10
)

// side of a job that a file holds.
type side string

const (
	inputSide  side = ".in"
	resultSide side = ".out"
)

// spool is the folder of the inputs and results that are too large for the store,
// and the account of all of them.
type spool struct {
	dir string
	max uint64

	mu   sync.Mutex
	used uint64 // bytes of requests, inputs and results, wherever they are
}

// openSpool opens the folder, made if it is not there.
func openSpool(dir string, most uint64) (*spool, error) {
	if err := makeDir(dir); err != nil {
		return nil, diskError("making its folder", err)
	}
	return &spool{dir: dir, max: most}, nil
}

func (s *spool) path(id uint64, of side) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x%s", id, of))
}

// take reserves room.
func (s *spool) take(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.max || s.used > s.max-n {
		return wire.NewError(base.Code_resourceExhausted, "fetch or discard results, or wait for jobs to end",
			"the journal holds %d bytes of requests, inputs and results and may hold %d", s.used, s.max)
	}
	s.used += n
	return nil
}

// give returns room.
func (s *spool) give(n uint64) {
	s.mu.Lock()
	s.used -= min(n, s.used)
	s.mu.Unlock()
}

func (s *spool) usage() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// remove drops the bytes of a job that no record names any more.
func (s *spool) remove(id uint64, of side, b blob) {
	if b.Place == inFile {
		// What stays behind after an error here is found at the next start.
		if spoolRemove.Hit() == nil {
			_ = os.Remove(s.path(id, of))
		}
	}
	s.give(b.Size)
}

// sweep removes the files that belong to no job: a crash left them.
func (s *spool) sweep(belongs func(id uint64, of side) bool) error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return diskError("reading its folder", err)
	}
	for _, f := range list {
		of := side(filepath.Ext(f.Name()))
		id, err := strconv.ParseUint(strings.TrimSuffix(f.Name(), string(of)), 16, 64)
		if err != nil || (of != inputSide && of != resultSide) || belongs(id, of) {
			continue // somebody else's, or in use
		}
		if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
			return diskError("removing what was left behind", err)
		}
	}
	return nil
}

// open returns a reader of b that fails where the bytes are not what was
// written, before it hands out the last of them. Small is what the store holds.
func (s *spool) open(id uint64, of side, b blob, small []byte) (*verified, error) {
	v := &verified{left: b.Size, sum: b.Sum, hash: blake3.New(), what: "the " + map[side]string{inputSide: "input", resultSide: "result"}[of]}
	switch b.Place {
	case inFile:
		f, err := os.Open(s.path(id, of))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: the file of %s is gone", errDamaged, v.what)
		}
		if err != nil {
			return nil, diskError("reading "+v.what, err)
		}
		v.from = f
	default:
		if uint64(len(small)) != b.Size {
			return nil, fmt.Errorf("%w: %s has %d bytes of %d", errDamaged, v.what, len(small), b.Size)
		}
		v.from = io.NopCloser(bytes.NewReader(small))
	}
	return v, nil
}

// verified reads bytes that must have a given length and hash.
type verified struct {
	from io.ReadCloser
	left uint64
	sum  [32]byte
	hash *blake3.Hasher
	what string
	err  error // what was wrong with them
}

func (v *verified) Read(b []byte) (int, error) {
	switch {
	case v.err != nil:
		return 0, v.err
	case v.left == 0:
		return 0, io.EOF
	}
	n, err := v.from.Read(b[:min(uint64(len(b)), v.left)])
	_, _ = v.hash.Write(b[:n]) // never fails
	v.left -= uint64(n)
	switch {
	case v.left == 0 && !bytes.Equal(v.hash.Sum(nil), v.sum[:]):
		v.err = fmt.Errorf("%w: the bytes of %s are not those that were written", errDamaged, v.what)
	case v.left == 0 || err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		v.err = fmt.Errorf("%w: %s is cut short, %d bytes are missing", errDamaged, v.what, v.left)
	default:
		v.err = diskError("reading "+v.what, err)
	}
	return 0, v.err
}

func (v *verified) Close() error { return v.from.Close() }
