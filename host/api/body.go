package api

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// body reads the input of a job from a request. It gives up when the client is
// silent for too long, and at once when it is told to stop: the engine may be
// reading when the job has ended.
type body struct {
	from  io.Reader
	conn  *http.ResponseController
	stall time.Duration
	until time.Time // zero for none; the deadline of the job

	mu      sync.Mutex
	stopped bool
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.arm(); err != nil {
		return 0, err
	}
	n, err := b.from.Read(p)
	switch {
	case err == io.EOF:
		b.end()
	case errors.Is(err, io.ErrUnexpectedEOF):
		// A reader that fills a buffer would take this error for the end.
		err = errBroken
	}
	return n, err
}

var errBroken = errors.New("the client stopped sending")

// end takes the time limit away when everything was read. From now on the server
// reads ahead to notice when the client goes away, for as long as the job takes.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
}

// arm gives the client time for its next bytes.
func (b *body) arm() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return io.ErrClosedPipe
	}
	until := time.Now().Add(b.stall)
	if !b.until.IsZero() && b.until.Before(until) {
		until = b.until
	}
	return b.conn.SetReadDeadline(until)
}

// stop makes a read under way return, and all that follow.
func (b *body) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		b.stopped = true
		// An error means that the connection is closed, which serves as well.
		_ = b.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// newBody returns the input of r, to be read before until unless that is zero.
func newBody(r *http.Request, conn *http.ResponseController, stall time.Duration, until time.Time) *body {
	b := &body{from: r.Body, conn: conn, stall: stall, until: until}
	if r.ContentLength == 0 {
		b.end()
	}
	return b
}

// leave lets the server read a little of what is left, so that a client that
// still sends sees the answer rather than a broken connection.
func (b *body) leave() { _ = b.conn.SetReadDeadline(time.Now().Add(linger)) }
