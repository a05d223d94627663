package api

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxConnections bounds the connections open at once. One more is closed as soon
// as it is made.
const maxConnections = 512

// listener accepts connections of the node's own user. The permissions of the
// socket and its folder keep others out already; this holds when somebody has
// changed them, or was handed the socket.
type listener struct {
	*net.UnixListener
	path string
	uid  int

	open   atomic.Int64
	closed sync.Once
}

// Accept returns the next connection of our user. Others are closed unread.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > maxConnections || !l.trusts(c) {
			l.open.Add(-1)
			c.Close()
			continue
		}
		return &connection{UnixConn: c, listener: l}, nil
	}
}

// trusts reports whether the process behind a connection may come in.
func (l *listener) trusts(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && failed == nil && l.knows(peer.Uid)
}

// knows reports whether uid is our user, or root, whom nothing here could keep
// out.
func (l *listener) knows(uid uint32) bool { return int(uid) == l.uid || uid == 0 }

// Close stops listening and removes the socket's file.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.closed.Do(func() {
		err = l.UnixListener.Close()
		if gone := os.Remove(l.path); err == nil && !errors.Is(gone, fs.ErrNotExist) {
			err = gone
		}
	})
	return err
}

// connection is counted until it is closed.
type connection struct {
	*net.UnixConn
	listener *listener
	closed   sync.Once
}

func (c *connection) Close() error {
	c.closed.Do(func() { c.listener.open.Add(-1) })
	return c.UnixConn.Close()
}
