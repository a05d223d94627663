package segment

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"inos/shm/internal/mem"
)

// mapping is a memfd of this process, mapped for reading and writing.
type mapping struct {
	file   *os.File
	data   []byte
	region mem.Region
	once   sync.Once
}

const (
	// sealAlways keeps the size for good, and the seals. It also keeps a plugin from
	// sealing the contents, which would stop the host from mapping them again.
	sealAlways = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	// sealFutureWrite makes the mapping that exists the last that can write.
	sealFutureWrite = unix.F_SEAL_FUTURE_WRITE

	// stretch is how much is allocated or populated in one call, so that a signal
	// costs no more than that.
	stretch = 16 << 20
)

// newMapping makes size bytes of zeroes that are there: no later touch of them
// can fail for want of memory. It adds seals to those that every part has. size is
// in whole pages.
func newMapping(name string, size uint64, seals int) (*mapping, error) {
	fd, err := memfd(name)
	if err != nil {
		return nil, fmt.Errorf("segment: memfd %s: %w", name, err)
	}
	m := &mapping{file: os.NewFile(uintptr(fd), name)}
	if err := m.fill(fd, size, seals); err != nil {
		m.unmap()
		return nil, fmt.Errorf("segment: %s of %s: %w", name, amount(size), err)
	}
	m.region = mem.Of(m.data)
	return m, nil
}

// memfd asks for memory that nobody can execute, which kernels before 6.3 do not
// know.
func memfd(name string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	return fd, err
}

func (m *mapping) fill(fd int, size uint64, seals int) error {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return err
	}
	for at := uint64(0); at < size; at += stretch {
		n := min(stretch, size-at)
		if err := retry(func() error { return unix.Fallocate(fd, 0, int64(at), int64(n)) }); err != nil {
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
				return fmt.Errorf("%w: %w", ErrNoMemory, err)
			}
			return err
		}
	}
	var err error
	if m.data, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	err = populate(m.data, unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) { // a kernel before 5.14
		touch(m.data)
	} else if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealAlways|seals); err != nil {
		return fmt.Errorf("sealing (needs Linux 5.1): %w", err)
	}
	return nil
}

// populate makes the page tables for b, so that the first touch is as fast as any
// other: page by page it takes fifty times as long.
func populate(b []byte, advice int) error {
	for at := 0; at < len(b); at += stretch {
		part := b[at:min(at+stretch, len(b))]
		if err := retry(func() error { return unix.Madvise(part, advice) }); err != nil {
			return err
		}
	}
	return nil
}

// touch does what populate does, slowly. The memory is new, so zeroes change
// nothing in it.
func touch(b []byte) {
	for i := 0; i < len(b); i += int(page) {
		b[i] = 0
	}
}

// retry repeats a call that a signal interrupted, usually one of Go's own.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// unmap gives the memory back to the machine and closes the file. Nobody may use
// it any more. Doing it again does nothing.
//
// It cannot fail on what newMapping made, so a failure means that the accounts of
// this process are wrong, and touching memory any further would be unsafe.
func (m *mapping) unmap() {
	m.once.Do(func() {
		if m.data != nil {
			if err := unix.Munmap(m.data); err != nil {
				panic(fmt.Sprintf("segment: unmapping %s: %v", m.file.Name(), err))
			}
		}
		_ = m.file.Close()
	})
}

// control runs f with the descriptor of a file that stays open meanwhile. Unlike
// File.Fd it leaves the mode of the file alone.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}
