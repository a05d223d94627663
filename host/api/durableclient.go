package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Submit hands over a job that survives the node. It returns once the job and all
// of its input are on the node's disk; Output, Started and the end of ctx after
// that do not concern it. A request with the Key of a job that is remembered gives
// that job, if it asks for the same. So when it is not known whether the node took
// the job in (wire.ErrOutcomeUnknown), one with a Key can be submitted again.
func (c *Client) Submit(ctx context.Context, r RunRequest) (j Job, err error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return j, err
	}
	cut := context.AfterFunc(ctx, func() { conn.Close() })
	defer cut()
	q := r.query()
	q.Set("durable", "true")
	x, err := begin(conn, q, r.Input, r.Size)
	if err != nil {
		conn.Close()
		return j, c.doubt(ctx, r, err)
	}
	defer x.end()
	//nolint:bodyclose // x.end closes the connection
	resp, err := x.answer(func(*http.Response) {})
	if failed := x.failure(); failed != nil {
		return j, failed
	}
	if err != nil {
		return j, c.doubt(ctx, r, err)
	}
	if resp.StatusCode != http.StatusAccepted {
		return j, refusal(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&j); err != nil {
		return Job{}, c.doubt(ctx, r, err)
	}
	return j, nil
}

// doubt explains that the node did not say whether it took a job in.
func (c *Client) doubt(ctx context.Context, r RunRequest, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	hint := "look for it with inos job list; a job with a --key can be submitted again without harm"
	if r.Key != "" {
		hint = "submit it again with the same key: it is taken in once"
	}
	return wire.NewError(base.Code_outcomeUnknown, hint, "the node at %s went away while it took in a job of %s: %w", c.socket, r.Capability, err)
}

// WaitJob returns a job once it has ended, durable or not. That it failed is no
// error of WaitJob.
func (c *Client) WaitJob(ctx context.Context, id string) (j Job, err error) {
	for {
		if err := c.ask(ctx, c.patient, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"/wait", &j); err != nil || j.Over() {
			return j, err
		}
		j = Job{}
	}
}

// Result writes what a durable job that has ended gave to w, nil for nowhere. A job
// that failed is an error, a *wire.Error, and a result that says more. One that has
// not ended is wire.ErrUnavailable. The node keeps the result: Discard it once it
// is safe elsewhere.
func (c *Client) Result(ctx context.Context, id string, w io.Writer) (res RunResult, err error) {
	res.Job = id
	resp, err := c.request(ctx, c.patient, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"/result")
	if err != nil {
		return res, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		refused := refusal(resp)
		res.outcome(resp.Header, "")
		res.Error = newError(refused)
		return res, refused
	}
	size, err := strconv.ParseUint(resp.Header.Get(headerSize), 10, 64)
	if err != nil {
		return res, fmt.Errorf("node at %s: %s: %w", c.socket, headerSize, err)
	}
	out := &destination{to: w}
	n, err := io.CopyBuffer(out, struct{ io.Reader }{resp.Body}, make([]byte, slice))
	res.Bytes = uint64(n)
	if out.err != nil {
		return res, fmt.Errorf("write the output: %w", out.err)
	}
	if err == nil {
		res.outcome(resp.Header, "")
		if text := resp.Trailer.Get(headerError); text != "" {
			res.fail(text)
			return res, res.Error.wire()
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return res, context.Cause(ctx)
	case err == nil && res.Bytes == size:
		return res, nil
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return res, wire.NewError(base.Code_unavailable, "fetch it again", "the result of job %s broke off after %d of %d bytes: %w", id, res.Bytes, size, err)
}

// Discard forgets a durable job that has ended, with its result and its key.
func (c *Client) Discard(ctx context.Context, id string) error {
	var j Job
	return c.query(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id)+"/result", &j)
}
