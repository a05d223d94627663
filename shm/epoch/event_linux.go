package epoch

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NewEvent returns an eventfd for NewEventBell. It is closed on exec: pass it on
// by name.
func NewEvent() (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("epoch: eventfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "doorbell"), nil
}

// eventBed parks the goroutine alone; its thread goes on with other work.
//
// The consumer never reads the eventfd. The poller is edge-triggered and every
// write is an edge, whatever the counter holds. That saves a call, and it keeps
// the consumer safe: the peer shares the open file, could clear its O_NONBLOCK,
// and would then hold the thread that reads (or writes a full counter) for ever.
type eventBed struct {
	file *os.File
	raw  syscall.RawConn
	done func() bool // of the sleep under way
	look func(uintptr) bool
	kick func(uintptr)
}

func newEventBed(f *os.File) (*eventBed, error) {
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPoller, err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPoller, err)
	}
	e := &eventBed{file: f, raw: raw}
	// Made once, so that no wait and no ring allocates.
	e.look = func(uintptr) bool { return e.done() }
	one := binary.NativeEndian.AppendUint64(nil, 1)
	// The counter is full after 2^64 of these, or when the peer spoils its own bell.
	e.kick = func(fd uintptr) { _, _ = unix.Write(int(fd), one) }
	return e, nil
}

// sleep relies on the order within RawConn.Read: it first forgets edges that came
// before, then calls look, then waits for an edge and calls look again. Work that
// was published before a forgotten edge is seen by the first look.
func (e *eventBed) sleep(done func() bool, deadline time.Time) {
	e.done = done
	if e.file.SetReadDeadline(deadline) == nil {
		_ = e.raw.Read(e.look) // the deadline, or Close: the caller sees either
	}
}

func (e *eventBed) wake() { _ = e.raw.Control(e.kick) }

// rouse does not write: the peer may have made that block. A deadline in the past
// ends the sleep. One that begins meanwhile sets its own deadline first and looks
// afterwards, so it finds the reason for which it was roused.
func (e *eventBed) rouse() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) }

func (e *eventBed) close() error { return e.file.Close() }
