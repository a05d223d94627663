package api

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connKey finds the connection that a request came on in its context.
type connKey struct{}

func rememberConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// hangupEvery is how often watchHangup looks.
const hangupEvery = 250 * time.Millisecond

var errHungUp = errors.New("the client has hung up")

// watchHangup returns a context that ends soon after the client has closed its
// connection. The server notices by itself once it has read the whole request;
// until then, while a job takes none of its input, nobody reads.
func watchHangup(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := func() { cancel(context.Canceled) }
	raw, ok := rawConn(parent)
	if !ok {
		return ctx, stop
	}
	go func() {
		tick := time.NewTicker(hangupEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if hungUp(raw) {
					cancel(errHungUp)
					return
				}
			}
		}
	}()
	return ctx, stop
}

// rawConn returns the connection that a request came on, as the kernel knows it.
func rawConn(ctx context.Context) (syscall.RawConn, bool) {
	conn, ok := ctx.Value(connKey{}).(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := conn.SyscallConn()
	return raw, err == nil
}

// hungUp reports whether nobody is at the other end any more. One that has only
// finished sending is there.
func hungUp(raw syscall.RawConn) bool {
	gone := false
	err := raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}} // hang-ups and errors are always told
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || gone
}
