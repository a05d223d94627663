package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Vault is an open vault. It is safe for concurrent use.
type Vault struct {
	dir       string
	chunkSize int
	fs        FS
	now       func() time.Time
	random    io.Reader
	secrets   *secrets
	lock      io.Closer

	objects [fanout]sync.RWMutex // by first byte of the object id; taken before a shard's lock
	shards  [fanout]shard        // by first byte of the chunk id
	index   index
	broken  atomic.Pointer[error] // why the vault refuses changes
	tmp     atomic.Uint64         // numbers the files under tmp

	slots   chan *slot // the workers' buffers; holding one is being a worker
	buffers sync.Pool  // *[]byte, plaintext of a chunk

	ctx     context.Context // ends with the vault
	cancel  context.CancelCauseFunc
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // operations; added to with mu held while not closed
}

// slot is the working memory of one worker.
type slot struct{ file []byte }

// Folders and files of a vault.
const (
	headerName = "header"
	copyName   = "header.copy"
	lockName   = "lock"
	objectsDir = "objects"
	chunksDir  = "chunks"
	pinsDir    = "pins"
	tmpDir     = "tmp"
)

// write puts b into a file and the file in its place, in one step that a crash
// does not split. The folder of path is still to be synced.
func (v *Vault) write(path string, b []byte) (err error) {
	tmp := v.path(tmpDir, strconv.FormatUint(v.tmp.Add(1), 10))
	f, err := v.fs.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = v.fs.Remove(tmp) // else the next Open does it
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := v.fs.Rename(tmp, path); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return err // nothing was renamed, for certain
		}
		return fmt.Errorf("%w: %w", errPlacing, err)
	}
	return nil
}

// errPlacing says that a file may or may not have been put in place.
var errPlacing = errors.New("put a file in place")

func (v *Vault) path(parts ...string) string {
	return filepath.Join(append([]string{v.dir}, parts...)...)
}

// file returns the path of a chunk, manifest or pin, and folder the one it is in.
func (v *Vault) file(kind string, name id) string {
	s := name.String()
	return v.path(kind, s[:2], s)
}

func (v *Vault) folder(kind string, first int) string {
	return v.path(kind, fmt.Sprintf("%02x", first))
}

// breakOff makes the vault refuse changes: what the disk holds after err is not
// known.
func (v *Vault) breakOff(err error) error {
	err = fmt.Errorf("%w since a file could not be put in place or removed (%w); check the disk and open the vault again", ErrReadOnly, err)
	v.broken.CompareAndSwap(nil, &err)
	return err
}

// begin admits an operation. The context it returns also ends with the vault;
// done must be called in the end.
func (v *Vault) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, ErrClosed
	}
	v.running.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(v.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil); v.running.Done() }, nil
}

// beginChange is begin for an operation that writes.
func (v *Vault) beginChange(ctx context.Context) (context.Context, func(), error) {
	if err := v.broken.Load(); err != nil {
		return nil, nil, *err
	}
	return v.begin(ctx)
}

// slot waits for a worker's turn. A worker waits for nobody but the disk, so the
// turn comes.
func (v *Vault) slot(ctx context.Context) (*slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case s := <-v.slots:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (v *Vault) buffer(n int) *[]byte {
	b := v.buffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, 0, n)
	}
	return b
}

// syncDirs syncs folders, some at once: the file system makes one commit of
// syncs that come together.
func (v *Vault) syncDirs(paths []string) error {
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	for _, p := range paths {
		g.Go(func() error { return v.fs.SyncDir(p) })
	}
	return g.Wait()
}

const syncsAtOnce = 8

// Close ends the vault. Operations under way end with ErrClosed; Close waits for
// them, but not for readers, whose next Read fails. A Put that waits for its
// source ends when the source answers, so end that first.
func (v *Vault) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	v.mu.Unlock()
	v.cancel(ErrClosed)
	v.running.Wait()
	return v.lock.Close()
}
