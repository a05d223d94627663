package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// exchange is a request and its answer on a connection of their own, both under
// way at once.
//
// The client of net/http gives up the answer when it cannot send the rest of its
// request. Here that is ordinary: a job may fail after the first megabyte of its
// input, and why is in the answer.
type exchange struct {
	conn net.Conn
	from *bufio.Reader
	req  *http.Request
	in   *origin // nil for no input

	proceed chan struct{} // closed when the node wants the input
	over    chan struct{} // closed when it is too late to send any
}

// maxInterim bounds the interim answers to one request.
const maxInterim = 8

// begin sends a request, and its input once the node asks for it: one that is
// refused is not sent at all. A size below 0 is not known.
func begin(conn net.Conn, query url.Values, in io.Reader, size int64) (*exchange, error) {
	req, err := http.NewRequest(http.MethodPost, "http://inos/v1/jobs?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	x := &exchange{
		conn: conn, from: bufio.NewReaderSize(conn, 64<<10), req: req,
		proceed: make(chan struct{}), over: make(chan struct{}),
	}
	length := "Content-Length: 0"
	if in != nil && size != 0 {
		x.in = &origin{from: in}
		if length = "Expect: 100-continue\r\nTransfer-Encoding: chunked"; size > 0 {
			length = fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d", size)
		}
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: inos\r\n%s\r\n\r\n", req.URL.RequestURI(), length); err != nil {
		return nil, err
	}
	if x.in != nil {
		go x.send(size)
	}
	return x, nil
}

// send gives the node the input. When that cannot be read, no more will come, and
// the node must not wait for it.
func (x *exchange) send(size int64) {
	select {
	case <-x.proceed:
	case <-x.over:
		return
	}
	// That the node takes no more is no error here: it says why in its answer.
	if size > 0 {
		if n, err := io.CopyN(x.conn, x.in, size); err == io.EOF {
			x.in.fail(fmt.Errorf("it ended after %d of %d bytes", n, size))
		}
	} else {
		chunks := httputil.NewChunkedWriter(x.conn)
		if _, err := io.CopyBuffer(chunks, x.in, make([]byte, slice)); err == nil {
			chunks.Close()
			_, _ = io.WriteString(x.conn, "\r\n")
		}
	}
	if x.in.failure() != nil {
		if c, ok := x.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite() // it fails on a connection that has ended anyway
		}
	}
}

// answer returns the final answer. Seen is called with each one before it.
func (x *exchange) answer(seen func(*http.Response)) (*http.Response, error) {
	asked := false
	for range maxInterim {
		resp, err := http.ReadResponse(x.from, x.req)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode >= http.StatusOK:
			return resp, nil
		case resp.StatusCode != http.StatusContinue:
			seen(resp)
		case !asked:
			asked = true
			close(x.proceed)
		}
	}
	return nil, fmt.Errorf("the node sent more than %d interim answers", maxInterim)
}

// end closes the connection. A read of the input that is under way may go on
// until it returns.
func (x *exchange) end() {
	close(x.over)
	x.conn.Close()
}

// failure returns why the input could not be read, if that was so.
func (x *exchange) failure() error {
	if x.in == nil {
		return nil
	}
	return x.in.failure()
}

// origin remembers that reading failed, to tell it from a failure to send.
type origin struct {
	from io.Reader
	err  atomic.Pointer[error]
}

func (o *origin) Read(p []byte) (int, error) {
	n, err := o.from.Read(p)
	if err != nil && err != io.EOF {
		o.fail(err)
	}
	return n, err
}

func (o *origin) fail(err error) { o.err.Store(&err) }

func (o *origin) failure() error {
	if err := o.err.Load(); err != nil {
		return fmt.Errorf("read the input: %w", *err)
	}
	return nil
}
