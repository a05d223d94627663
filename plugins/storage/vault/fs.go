package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FS is the file system below a vault. The zero Options use the real one; tests
// put one that fails in its place. It must be safe for concurrent use. Errors for
// what does not exist must wrap fs.ErrNotExist.
type FS interface {
	// Create makes a new file that only its owner may read, or fails if it exists.
	Create(path string) (File, error)
	// ReadFile appends the file's bytes to dst. It returns errLarge, reading
	// nothing, when there are more than limit.
	ReadFile(path string, dst []byte, limit int) ([]byte, error)
	// Rename moves a file over another, which may exist, in one step.
	Rename(from, to string) error
	// Remove deletes a file.
	Remove(path string) error
	// Mkdir makes a folder that only its owner may enter. One that exists is fine.
	Mkdir(path string) error
	// ReadDir returns the names in a folder.
	ReadDir(path string) ([]string, error)
	// SyncDir makes lasting what was created, renamed and removed in a folder.
	SyncDir(path string) error
	// Lock takes the file at path, made if missing, for this holder alone until the
	// closer is closed. It returns ErrLocked at once when another holds it.
	Lock(path string) (io.Closer, error)
}

// File is a file being written.
type File interface {
	io.WriteCloser
	// Sync makes the bytes written lasting.
	Sync() error
}

// errLarge says that a file is longer than anything the vault would have written
// there.
var errLarge = errors.New("file is too long")

// osFS is the file system of the machine.
type osFS struct{}

func (osFS) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (osFS) ReadFile(path string, dst []byte, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return dst, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return dst, err
	}
	if info.Size() > int64(limit) {
		return dst, fmt.Errorf("%s: %w: %d bytes", path, errLarge, info.Size())
	}
	n := int(info.Size())
	start := len(dst)
	if cap(dst)-start < n {
		dst = append(make([]byte, 0, start+n), dst...)
	}
	dst = dst[:start+n]
	read, err := io.ReadFull(f, dst[start:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return dst[:start], err
	}
	return dst[:start+read], nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(path string) error     { return os.Remove(path) }

func (osFS) Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (osFS) ReadDir(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked; stop the node that uses it or name another folder", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func flock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(fd uintptr) {
		for {
			// A lock of the open file, not of the process: a second Open within this
			// process fails too, and the kernel drops it however the process ends.
			locked = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
			if !errors.Is(locked, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, locked)
}
