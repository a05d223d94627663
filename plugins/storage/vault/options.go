package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
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
