package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say how a vault is opened. Dir and Key are needed; the rest has
// defaults.
type Options struct {
	// Dir is the folder of the vault. It is made if its parent exists.
	Dir string
	// Key opens the vault, or is what a new vault is made with.
	Key Key
	// ChunkSize is the length in bytes that new objects are cut to, from MinChunk to
	// MaxChunk; 0 means DefaultChunk. Equal content is only stored once when it is
	// cut alike. Objects cut otherwise stay readable.
	ChunkSize int
	// Workers is how many chunks are worked on at once, over all operations, from 1
	// to 64; 0 means two for each CPU and two more, since some of them always wait
	// for the disk.
	Workers int
	// KDF is the cost of a passphrase when a vault is made; zero means DefaultKDF.
	KDF KDF
	// FS is the file system, nil for the machine's own.
	FS FS
	// Now is the clock, nil for time.Now.
	Now func() time.Time
	// Random is the source of keys and nonces, nil for crypto/rand. It must be safe
	// for concurrent use, and never give the same bytes twice outside of a test.
	Random io.Reader
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunk
	}
	if o.Workers == 0 {
		o.Workers = min(2*runtime.GOMAXPROCS(0)+2, maxWorkers)
	}
	if o.KDF == (KDF{}) {
		o.KDF = DefaultKDF
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
}

const maxWorkers = 64

// check returns everything that is wrong with o, as ErrOptions.
func (o *Options) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
	}
	if o.Dir == "" {
		bad("no folder is named")
	}
	if len(o.Key.secret) == 0 {
		bad("no key is given; use LoadOrCreateKeyFile, RawKey or Passphrase")
	}
	if o.ChunkSize < MinChunk || o.ChunkSize > MaxChunk {
		bad("chunks of %d bytes; choose %d to %d", o.ChunkSize, MinChunk, MaxChunk)
	}
	if o.Workers < 1 || o.Workers > maxWorkers {
		bad("%d workers; choose 1 to %d", o.Workers, maxWorkers)
	}
	if err := o.KDF.check(); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}

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

// Open opens the vault in o.Dir, or makes one there if the folder is missing or
// has no vault in it. The process that has it open has it alone. Open reads every
// manifest, so that it takes some 50 us for each object; damaged ones do not keep
// it from opening, see Problems.
//
// It returns ErrOptions, ErrLocked, ErrWrongKey, or ErrCorrupt when the header is
// damaged. In each of these cases nothing in the folder was changed.
func Open(o Options) (*Vault, error) {
	o.EnsureDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	v := &Vault{dir: o.Dir, chunkSize: o.ChunkSize, fs: o.FS, now: o.Now, random: o.Random,
		slots: make(chan *slot, o.Workers)}
	if err := v.open(o); err != nil {
		if v.lock != nil {
			err = errors.Join(err, v.lock.Close())
		}
		return nil, fmt.Errorf("vault %s: %w", o.Dir, err)
	}
	for range o.Workers {
		v.slots <- new(slot)
	}
	v.buffers.New = func() any { b := make([]byte, 0, o.ChunkSize); return &b }
	v.ctx, v.cancel = context.WithCancelCause(context.Background())
	return v, nil
}

func (v *Vault) open(o Options) (err error) {
	if _, err := v.fs.ReadDir(v.dir); errors.Is(err, fs.ErrNotExist) {
		if err := v.fs.Mkdir(v.dir); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if v.lock, err = v.fs.Lock(v.path(lockName)); err != nil {
		return err
	}
	header, err := v.fs.ReadFile(v.path(headerName), nil, headerSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = v.create(o)
	case errors.Is(err, errLarge):
		err = fmt.Errorf("%w: the vault header is too long", ErrCorrupt)
		fallthrough
	case err == nil:
		if err == nil {
			err = v.unlock(header, o.Key)
		}
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w; copy the file %s over %s", err, copyName, headerName)
		}
	}
	if err != nil {
		return err
	}
	if err := v.makeFolders(); err != nil {
		return err
	}
	return v.load()
}

// unlock takes the vault's own key out of its header.
func (v *Vault) unlock(header []byte, k Key) error {
	own, err := openHeader(header, k)
	if err != nil {
		return err
	}
	v.secrets = newSecrets(own)
	spare, err := v.fs.ReadFile(v.path(copyName), nil, headerSize)
	if err != nil || string(spare) != string(header) {
		v.index.notes = append(v.index.notes, fmt.Errorf("%w: %s differs from %s; copy the file %s over it",
			ErrCorrupt, copyName, headerName, headerName))
	}
	return nil
}

// create writes the header of a new vault. The spare comes first, and the folder
// itself is made lasting before: where there is a header, the vault is whole.
func (v *Vault) create(o Options) error {
	for _, kind := range []string{objectsDir, chunksDir, pinsDir} {
		if _, err := v.fs.ReadDir(v.path(kind)); err == nil {
			return fmt.Errorf("%w: there is data but no header; copy the file %s to %s", ErrCorrupt, copyName, headerName)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := v.fs.SyncDir(filepath.Dir(v.dir)); err != nil {
		return err
	}
	header, own, err := newHeader(o.Key, o.KDF, v.random)
	if err != nil {
		return err
	}
	if err := errors.Join(v.fs.Mkdir(v.path(tmpDir)), v.sweep()); err != nil {
		return err
	}
	for _, name := range []string{copyName, headerName} {
		if err := v.write(v.path(name), header); err != nil {
			return err
		}
		if err := v.fs.SyncDir(v.dir); err != nil {
			return err
		}
	}
	v.secrets = newSecrets(own)
	return nil
}

// makeFolders makes the folders that are missing and removes what a crash left
// under tmp.
func (v *Vault) makeFolders() error {
	for _, kind := range []string{tmpDir, objectsDir, chunksDir, pinsDir} {
		if err := v.fs.Mkdir(v.path(kind)); err != nil {
			return err
		}
	}
	if err := v.fs.SyncDir(v.dir); err != nil {
		return err
	}
	return v.sweep()
}

// sweep removes every file under tmp. Only the holder of the lock writes there.
func (v *Vault) sweep() error {
	names, err := v.fs.ReadDir(v.path(tmpDir))
	for _, name := range names {
		err = errors.Join(err, v.fs.Remove(v.path(tmpDir, name)))
	}
	return err
}

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

// Problems returns what is damaged among the headers and manifests, as far as it
// is known: found by Open, and not put again or deleted since. While a manifest is
// damaged no chunk is removed, as it may be in use. Chunks are only read by Get
// and Verify.
func (v *Vault) Problems() []error { return v.index.problems() }

// Usage tells how much a vault holds.
type Usage struct {
	Objects int
	Bytes   uint64 // of all objects, before compression
	Chunks  int    // different ones in use
	Pinned  int    // of these, stored by PutChunk
}

// Usage returns how much the vault holds.
func (v *Vault) Usage() Usage {
	u := v.index.usage()
	for i := range v.shards {
		s := &v.shards[i]
		s.mu.Lock()
		u.Chunks += len(s.refs)
		u.Pinned += len(s.pins)
		s.mu.Unlock()
	}
	return u
}

// addSize adds without wrapping around.
func addSize(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
