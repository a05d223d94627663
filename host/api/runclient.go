package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// RunRequest asks for a job.
type RunRequest struct {
	// Capability to run.
	Capability string
	// Params are "name=value" each.
	Params []string
	// Input of the job, nil for none. The client reads it from a goroutine of its
	// own, which may be inside Read still when Run has returned early.
	Input io.Reader
	// Size of the input in bytes, below 0 when not known.
	Size int64
	// Output takes what the job gives, as it comes. Nil drops it.
	Output io.Writer
	// Deadline is how long the job may take, 0 for as long as its capability allows.
	Deadline time.Duration
	// Budget in micro-credits, 0 for no bound.
	Budget uint64
	// Priority is low, normal, high, critical or emergency; empty means normal.
	Priority string
	// Key refuses the job while another with this key is under way. For Submit it
	// names the job: asked for twice, it is taken in once.
	Key string
	// Started is called when the node has taken the job in, with its number.
	Started func(job string)
}

// RunResult says what came of a job.
type RunResult struct {
	Job      string  `json:"job,omitempty"` // empty when it was never taken in
	Status   string  `json:"status"`        // a name of compute.Status
	Cost     uint64  `json:"cost"`          // micro-credits
	Attempts int     `json:"attempts"`
	Bytes    uint64  `json:"bytes"` // of output that were passed on
	Metrics  Metrics `json:"metrics"`
	Error    *Error  `json:"error,omitempty"`
}

func (r RunRequest) query() url.Values {
	q := url.Values{"capability": {r.Capability}}
	for _, p := range r.Params {
		q.Add("param", p)
	}
	if r.Deadline > 0 {
		q.Set("deadline", r.Deadline.String())
	}
	if r.Budget > 0 {
		q.Set("budget", strconv.FormatUint(r.Budget, 10))
	}
	if r.Priority != "" {
		q.Set("priority", r.Priority)
	}
	if r.Key != "" {
		q.Set("key", r.Key)
	}
	return q
}

// Run runs a job and waits for its end. A job that failed is an error, a
// *wire.Error, and a result that says more. When ctx ends, the job is canceled.
func (c *Client) Run(ctx context.Context, r RunRequest) (res RunResult, err error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return res, err
	}
	cut := context.AfterFunc(ctx, func() { conn.Close() })
	defer cut()
	x, err := begin(conn, r.query(), r.Input, r.Size)
	if err != nil {
		conn.Close()
		return res, c.broken(ctx, res, err)
	}
	defer x.end()
	//nolint:bodyclose // x.end closes the connection; Body.Close would read the rest of the job first
	resp, err := x.answer(func(interim *http.Response) {
		if id := interim.Header.Get(headerJob); id != "" && res.Job == "" {
			if res.Job = id; r.Started != nil {
				r.Started(id)
			}
		}
	})
	if err != nil {
		return res, c.broken(ctx, res, err)
	}
	if res.Job = resp.Header.Get(headerJob); resp.StatusCode != http.StatusOK {
		refused := refusal(resp)
		res.outcome(resp.Header, "rejected")
		res.Error = newError(refused)
		if failed := x.failure(); failed != nil {
			return res, failed
		}
		return res, refused
	}
	out := &destination{to: r.Output}
	n, err := io.CopyBuffer(out, struct{ io.Reader }{resp.Body}, make([]byte, slice))
	res.Bytes = uint64(n)
	if out.err != nil {
		return res, fmt.Errorf("write the output: %w", out.err)
	}
	if err != nil {
		return res, c.broken(ctx, res, err)
	}
	if failed := x.failure(); failed != nil {
		return res, failed
	}
	if res.outcome(resp.Trailer, ""); res.Error != nil {
		return res, res.Error.wire()
	}
	if res.Status == "" {
		return res, c.broken(ctx, res, io.ErrUnexpectedEOF)
	}
	return res, nil
}

// outcome reads what the node says of the job's end.
func (res *RunResult) outcome(h http.Header, missing string) {
	if res.Status = h.Get(headerStatus); res.Status == "" {
		res.Status = missing
	}
	// What is absent or unreadable stays zero: these inform, they decide nothing.
	res.Cost, _ = strconv.ParseUint(h.Get(headerCost), 10, 64)
	res.Attempts, _ = strconv.Atoi(h.Get(headerAttempts))
	_ = json.Unmarshal([]byte(h.Get(headerMetrics)), &res.Metrics)
	if text := h.Get(headerError); text != "" {
		res.fail(text)
	}
}

// fail reads an error from a header.
func (res *RunResult) fail(text string) {
	res.Error = &Error{Code: base.Code_internal.String(), Message: text}
	_ = json.Unmarshal([]byte(text), res.Error)
}

// broken explains a connection that ended early.
func (c *Client) broken(ctx context.Context, res RunResult, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if res.Job == "" {
		return fmt.Errorf("node at %s: %w", c.socket, err)
	}
	return wire.NewError(base.Code_outcomeUnknown, "look whether the node runs and whether the job took effect",
		"the node at %s went away while it ran job %s: %v", c.socket, res.Job, err)
}

// destination remembers that writing failed, to tell it from a failure to
// receive.
type destination struct {
	to  io.Writer
	err error
}

func (d *destination) Write(p []byte) (int, error) {
	if d.to == nil {
		return len(p), nil
	}
	n, err := d.to.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}
