package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Listen.
var (
	// ErrRunning says that a node answers at the socket already.
	ErrRunning = errors.New("a node is running here already")
	// ErrExposed says that others than the user may enter the socket's folder.
	ErrExposed = errors.New("the home folder is open to other users")
)

// Listen opens the socket at path, which its user alone may connect to. A socket
// that a dead node left there is replaced; of two that start at once in one
// folder, the node's lock has let only one come here. It fails with ErrRunning
// when somebody answers at the socket, and with ErrExposed when the folder of the
// socket is open to others.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; run chmod 700 %s", ErrExposed, dir, mode, dir)
	}
	name, done, err := address(path)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := sweep(path, name); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // the name it knows may be the short one
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return &listener{UnixListener: l, path: path, uid: os.Geteuid()}, nil
}

// answerWait bounds how long Listen waits for a node that may be there.
const answerWait = time.Second

// sweep removes what a dead node left at path. Anything but a socket stays.
func sweep(path, name string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("socket: %s is no socket; move it away", path)
	}
	conn, err := net.DialTimeout("unix", name, answerWait)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%w: something answers at %s; stop it, or choose another folder with --home", ErrRunning, path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return os.Remove(path)
}

// longestAddress is what sockaddr_un holds, less the final zero.
const longestAddress = 107

// address returns a name for a socket that the kernel accepts: the path, or the
// same file by way of an open folder when the path is too long. The name is good
// until done.
func address(path string) (name string, done func(), err error) {
	if len(path) <= longestAddress {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("socket: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// SocketPath returns where the node of a home folder listens.
func SocketPath(home string) string { return filepath.Join(home, "inos.sock") }
