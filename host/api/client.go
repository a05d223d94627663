package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// ErrNotRunning says that no node answers at the socket.
var ErrNotRunning = errors.New("no node is running")

// Bounds on what a client takes from a node.
const (
	dialTimeout  = 5 * time.Second
	queryTimeout = 30 * time.Second
	maxAnswer    = 64 << 20
)

// Client talks to the node behind one socket. It is safe for concurrent use.
// What the node refuses comes back as a *wire.Error.
type Client struct {
	socket  string
	http    *http.Client
	patient *http.Client // for what may take long
}

// Dial returns a client of the node that listens on socket. It fails with
// ErrNotRunning when none does. Close the client when done with it.
func Dial(socket string) (*Client, error) {
	c := &Client{socket: socket}
	t := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     idleTimeout / 2, // before the node's end closes it
	}
	c.http, c.patient = &http.Client{Timeout: queryTimeout, Transport: t}, &http.Client{Transport: t}
	conn, err := c.dial(context.Background())
	if err != nil {
		return nil, err
	}
	return c, conn.Close()
}

// Close drops the connections that are kept for later.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	name, done, err := address(c.socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s: start it with inos run", ErrNotRunning, c.socket)
	}
	if err != nil {
		return nil, err
	}
	defer done()
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "unix", name)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s: start it with inos run", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s belongs to another user: %w", c.socket, err)
	default:
		return nil, fmt.Errorf("node at %s: %w", c.socket, err)
	}
}

// Node describes the node.
func (c *Client) Node(ctx context.Context) (n Node, err error) {
	return n, c.query(ctx, http.MethodGet, "/v1/node", &n)
}

// Plugins lists the files of the plugins folder.
func (c *Client) Plugins(ctx context.Context) ([]Plugin, error) {
	var list Plugins
	err := c.query(ctx, http.MethodGet, "/v1/plugins", &list)
	return list.Plugins, err
}

// Plugin describes one plugin, by its name or its file's.
func (c *Client) Plugin(ctx context.Context, name string) (p Plugin, err error) {
	return p, c.query(ctx, http.MethodGet, "/v1/plugins/"+url.PathEscape(name), &p)
}

// Capabilities lists what is served.
func (c *Client) Capabilities(ctx context.Context) ([]Capability, error) {
	var list Capabilities
	err := c.query(ctx, http.MethodGet, "/v1/capabilities", &list)
	return list.Capabilities, err
}

// Segment describes the shared memory.
func (c *Client) Segment(ctx context.Context) (s Segment, err error) {
	return s, c.query(ctx, http.MethodGet, "/v1/segment", &s)
}

// Jobs lists the newest jobs, limit at most, durable ones too.
func (c *Client) Jobs(ctx context.Context, limit int) (Jobs, error) {
	return c.JobsLike(ctx, "", limit)
}

// JobsLike lists the newest jobs whose numbers begin so, limit at most.
func (c *Client) JobsLike(ctx context.Context, prefix string, limit int) (j Jobs, err error) {
	return j, c.query(ctx, http.MethodGet, "/v1/jobs?limit="+strconv.Itoa(limit)+"&prefix="+url.QueryEscape(prefix), &j)
}

// Job describes one job.
func (c *Client) Job(ctx context.Context, id string) (j Job, err error) {
	return j, c.query(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id), &j)
}

// Cancel ends a job that has not ended.
func (c *Client) Cancel(ctx context.Context, id string) (j Job, err error) {
	return j, c.query(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id), &j)
}

// query asks for something small that is answered soon.
func (c *Client) query(ctx context.Context, method, path string, into any) error {
	return c.ask(ctx, c.http, method, path, into)
}

// ask asks for something small.
func (c *Client) ask(ctx context.Context, by *http.Client, method, path string, into any) error {
	resp, err := c.request(ctx, by, method, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("node at %s: %s %s: %w", c.socket, method, path, err)
	}
	return nil
}

// request sends a request without a body. The caller closes the answer's.
func (c *Client) request(ctx context.Context, by *http.Client, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://inos"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := by.Do(req)
	if err == nil {
		return resp, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text would name an address that does not exist
	}
	return nil, fmt.Errorf("node at %s: %w", c.socket, err)
}

// refusal reads why the node said no.
func refusal(resp *http.Response) *wire.Error {
	var e Error
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxHeaderBytes))
	if err != nil || json.Unmarshal(text, &e) != nil || e.Message == "" {
		return wire.NewError(base.Code_internal, "is something else listening there, or another version?", "the node answered %s", resp.Status)
	}
	return e.wire()
}
