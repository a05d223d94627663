package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// runJob runs a job for as long as the request lasts, or takes a durable one in.
func (s *Server) runJob(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("durable") == "true" {
		s.submitJob(w, r)
		return
	}
	conn := http.NewResponseController(w)
	// Output may come before the input has ended, and the client reads it.
	if err := conn.EnableFullDuplex(); err != nil {
		fail(w, err)
		return
	}
	if r.ContentLength != 0 {
		// A job may end before it has read everything, and what is left of the
		// input must not be taken for the next request.
		w.Header().Set("Connection", "close")
	}
	req, err := s.request(r)
	if err != nil {
		fail(w, err)
		return
	}
	in := newBody(r, conn, s.opts.Stall, req.Deadline)
	defer in.leave()
	req.Input = dispatch.Input{Reader: in, Size: r.ContentLength}
	ctx := r.Context()
	if r.ContentLength != 0 {
		var stop context.CancelFunc
		ctx, stop = watchHangup(ctx)
		defer stop()
	}
	job, err := s.submit(ctx, req)
	if err != nil {
		fail(w, err)
		return
	}
	defer job.Close()
	defer in.stop() // before Close, which waits for a read under way

	a := &answer{w: w, conn: conn, stall: s.opts.Stall, spec: req.spec}
	a.accept(r, job.ID())
	if err := a.copy(ctx, job); err != nil {
		s.log.Debug("the client of a job has gone", "job", jobID(job.ID()), "capability", req.Capability, "error", err)
		job.Cancel()
	}
	// The job has its outcome, so this does not wait for anybody.
	outcome, err := job.Wait(context.WithoutCancel(ctx))
	if err != nil {
		outcome = dispatch.Outcome{Status: compute.Status_failed, Err: asError(err)}
	}
	a.finish(outcome)
}

// submit hands the job to the engine. The deadline covers reading the input.
func (s *Server) submit(ctx context.Context, req *request) (*dispatch.Job, error) {
	if !req.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, req.Deadline)
		defer cancel()
	}
	job, err := s.node.Engine().Submit(ctx, req.Request)
	if err != nil && !req.Deadline.IsZero() && !time.Now().Before(req.Deadline) {
		return nil, wire.NewError(base.Code_deadlineExceeded, "run the job again with a later --deadline",
			"%s did not have its input before its deadline: %v", req.Capability, err)
	}
	return job, err
}

// request is a job as it was asked for.
type request struct {
	dispatch.Request
	spec wire.Capability
}

// maxParams bounds the parameters of one job.
const maxParams = 256

// request reads what the query asks for.
func (s *Server) request(r *http.Request) (*request, error) {
	q := r.URL.Query()
	req := &request{Request: dispatch.Request{Capability: q.Get("capability"), Key: q.Get("key")}}
	if req.Capability == "" {
		return nil, wire.NewError(base.Code_invalidArgument, "see inos capability list", "the query names no capability")
	}
	var err error
	if text := q.Get("deadline"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return nil, wire.NewError(base.Code_invalidArgument, "give a duration like 1m30s", "deadline %q is not a time ahead", text)
		}
		req.Deadline = time.Now().Add(d)
	}
	if text := q.Get("budget"); text != "" {
		if req.Budget, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, wire.NewError(base.Code_invalidArgument, "give a whole number of micro-credits", "budget %q is not a number", text)
		}
	}
	if req.Priority, err = parsePriority(q.Get("priority")); err != nil {
		return nil, err
	}
	spec, ok := s.capability(req.Capability)
	if !ok {
		return req, nil // the engine knows best how to say so
	}
	req.spec = spec
	given := q["param"]
	if len(given) > maxParams {
		return nil, wire.NewError(base.Code_invalidArgument, "send data as input", "%d parameters are more than %d", len(given), maxParams)
	}
	if req.Params, err = wire.ParseParams(spec.Params, given); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Capability, err)
	}
	return req, nil
}

// capability finds what is served under a name.
func (s *Server) capability(name string) (wire.Capability, bool) {
	for _, c := range s.node.Engine().Capabilities() {
		if c.Name == name {
			return c.Capability, true
		}
	}
	return wire.Capability{}, false
}

func parsePriority(text string) (compute.Priority, error) {
	if text == "" {
		return compute.Priority_normal, nil
	}
	p := compute.PriorityFromString(text)
	if p.String() != text {
		return 0, wire.NewError(base.Code_invalidArgument, "use low, normal, high, critical or emergency", "there is no priority %q", text)
	}
	return p, nil
}

// answer writes the output of a job and what came of it.
type answer struct {
	w     http.ResponseWriter
	conn  *http.ResponseController
	stall time.Duration
	spec  wire.Capability
	begun bool // the status went out
}

// accept tells the client that the job was taken in, and its number.
func (a *answer) accept(r *http.Request, id uint64) {
	a.w.Header().Set(headerJob, jobID(id))
	a.arm()
	if r.ProtoAtLeast(1, 1) {
		a.w.WriteHeader(http.StatusProcessing)
	}
}

// copy passes the output on until the job has ended. Its error says that the
// client, or the server, gave up.
func (a *answer) copy(ctx context.Context, job *dispatch.Job) error {
	for {
		p, err := job.Next(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
		default:
			return nil // the outcome says how it ended
		}
		err = a.piece(p.Bytes())
		p.Release()
		if err != nil {
			return err
		}
	}
}

// slice is how much is written before the client is given more time.
const slice = 256 << 10

// piece writes output from where the plugin left it to the socket.
func (a *answer) piece(b []byte) error {
	a.begin()
	for len(b) > 0 {
		n := min(len(b), slice)
		a.arm()
		if _, err := a.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	a.arm()
	return a.conn.Flush()
}

// arm gives the client time to take what is written next. When the connection is
// closed, the write will say so.
func (a *answer) arm() { _ = a.conn.SetWriteDeadline(time.Now().Add(a.stall)) }

// begin sends the status of a job that has output, or succeeded without.
func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	a.w.Header().Set("Trailer", strings.Join(outcomeHeaders, ", "))
	a.status()
}

// status sends the status of an answer whose body is output.
func (a *answer) status() {
	h := a.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if t := a.spec.OutputType; validType(t) {
		h.Set("Content-Type", t)
	}
	a.w.WriteHeader(http.StatusOK)
}

// validType reports whether what a plugin says may stand in a header.
func validType(t string) bool {
	return t != "" && len(t) < 128 && strings.IndexFunc(t, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// finish says what came of the job: in trailers once the status is out, and in a
// status of its own when nothing is.
func (a *answer) finish(o dispatch.Outcome) {
	a.arm()
	if o.Err == nil {
		a.begin()
	}
	a.outcome(o)
	if o.Err != nil && !a.begun {
		fail(a.w, o.Err)
	}
}

// outcome puts into the header, or the trailer, what came of a job.
func (a *answer) outcome(o dispatch.Outcome) {
	h := a.w.Header()
	h.Set(headerStatus, o.Status.String())
	h.Set(headerCost, strconv.FormatUint(o.Cost, 10))
	h.Set(headerAttempts, strconv.Itoa(o.Attempts))
	h.Set(headerMetrics, inHeader(newMetrics(o.Metrics)))
	if o.Err != nil {
		h.Set(headerError, inHeader(newError(asError(o.Err)).short()))
	}
}

// inHeader renders v as JSON on one line of ASCII.
func inHeader(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	var s strings.Builder
	for _, r := range string(b) {
		if r < utf8.RuneSelf {
			s.WriteRune(r)
			continue
		}
		for _, half := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&s, `\u%04x`, half)
		}
	}
	return s.String()
}
