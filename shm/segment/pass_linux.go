package segment

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// patience bounds Pass and Attach: both are one message on a local socket.
const patience = 10 * time.Second

// Descriptors travel in this order, and no others.
const (
	controlFd = iota
	linkFd
	arenaFd
	doorbellFd
	parcelFds
)

// Pass hands the control part, a link and an arena to the process at the other
// end of conn, which must call Attach. Do it when the process has said what it
// is: nothing that was passed can be taken back, short of ending the process.
func (s *Segment) Pass(conn *net.UnixConn, l *Link, a *arena.Arena) error {
	r, err := s.room(a.ID())
	if err != nil {
		return err
	}
	// The arena's memory must not go meanwhile; a link and the control part are
	// closed by those who call this.
	if err := a.Pin(); err != nil {
		return err
	}
	defer a.Unpin()

	p := parcel{preamble: newPreamble(system.SegmentMagic, uint64(len(r.data)))}
	p.number, p.control, p.link = uint32(a.ID()), uint64(len(s.control.data)), uint64(len(l.memory.data))
	message := make([]byte, headerBytes)
	p.encode(message)

	var fds []int
	defer func() { closeAll(fds) }()
	for _, f := range [parcelFds]*os.File{controlFd: s.control.file, linkFd: l.memory.file, arenaFd: r.file, doorbellFd: l.event} {
		err := control(f, func(fd int) error {
			n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			fds = append(fds, n)
			return err
		})
		if err != nil {
			return fmt.Errorf("segment: duplicating %s: %w", f.Name(), err)
		}
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("segment: passing to instance %d: %w", l.Instance, err)
	}
	if _, _, err := conn.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("segment: passing to instance %d: %w", l.Instance, err)
	}
	return conn.SetWriteDeadline(time.Time{})
}

// receive returns the message that Pass sent, and its descriptors, which are
// closed on exec and the caller's to close, even beside an error.
func receive(conn *net.UnixConn) (p parcel, fds []int, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return p, nil, fmt.Errorf("segment: receiving it: %w", err)
	}
	message := make([]byte, headerBytes+1) // one more, to notice what is too long
	rights := make([]byte, unix.CmsgSpace(4*parcelFds))
	n, oob, flags, _, err := conn.ReadMsgUnix(message, rights) // asks for close-on-exec
	if err != nil {
		return p, nil, fmt.Errorf("segment: receiving it: %w", err)
	}
	fds, err = descriptors(rights[:oob])
	if err != nil {
		return p, fds, err
	}
	if flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 || len(fds) != parcelFds {
		return p, fds, fmt.Errorf("%w: %d descriptors came with the message, not %d", ErrIncompatible, len(fds), parcelFds)
	}
	if err := p.parse(message[:n]); err != nil {
		return p, fds, err
	}
	return p, fds, conn.SetReadDeadline(time.Time{})
}

// descriptors returns all that a control message holds.
func descriptors(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %w", ErrIncompatible, err)
	}
	for _, m := range messages {
		got, bad := unix.ParseUnixRights(&m)
		fds, err = append(fds, got...), errors.Join(err, bad)
	}
	if err != nil {
		return fds, fmt.Errorf("%w: control message: %w", ErrIncompatible, err)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
