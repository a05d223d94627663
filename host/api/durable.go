package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"inos/host/dispatch"
	"inos/host/journal"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// submitJob takes a durable job in. It answers when the job is on disk.
func (s *Server) submitJob(w http.ResponseWriter, r *http.Request) {
	conn := http.NewResponseController(w)
	if err := conn.EnableFullDuplex(); err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Connection", "close") // as for runJob
	_ = conn.SetWriteDeadline(time.Time{})
	w = &promptly{w, conn}
	req, err := s.request(r)
	if err != nil {
		fail(w, err)
		return
	}
	in := newBody(r, conn, s.opts.Stall, req.Deadline)
	defer in.leave()
	defer in.stop()
	req.Input = dispatch.Input{Reader: in, Size: r.ContentLength}
	j, err := s.node.Durable().Submit(r.Context(), req.Request)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set(headerJob, jobID(j.ID))
	w.Header().Set("Location", "/v1/jobs/"+jobID(j.ID))
	reply(w, http.StatusAccepted, s.durable(j))
}

// durable describes a durable job, and what the engine says of it while it runs.
func (s *Server) durable(j journal.Job) Job {
	out := newDurable(j)
	if running := s.node.Engine().Find(j.ID); running != nil && !j.Over() {
		out.running(running.Info())
	}
	return out
}

// waitJob answers when a job has ended, and with the job as it is when that takes
// long.
func (s *Server) waitJob(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), maxPoll)
	defer stop()
	if _, err = s.node.Durable().Wait(ctx, id); errors.Is(err, wire.ErrNotFound) {
		err = nil
		if j := s.node.Engine().Find(id); j != nil {
			_, err = j.Wait(ctx)
		}
	}
	switch {
	case err != nil && s.waiting.Err() != nil:
		fail(w, errStopping)
	case err != nil && ctx.Err() == nil:
		fail(w, err)
	default:
		s.getJob(w, r)
	}
}

// getResult passes on what a durable job gave.
func (s *Server) getResult(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	j, err := s.node.Durable().Get(id)
	if err != nil {
		fail(w, s.noResult(id, err))
		return
	}
	in, outcome, err := s.node.Durable().Result(id)
	if err != nil {
		fail(w, err)
		return
	}
	defer in.Close()
	a := &answer{w: w, conn: http.NewResponseController(w), stall: s.opts.Stall}
	if spec, ok := s.capability(j.Capability); ok {
		a.spec = spec
	}
	h := w.Header()
	h.Set(headerJob, jobID(id))
	h.Set(headerSize, strconv.FormatUint(j.OutBytes, 10))
	a.outcome(outcome)
	if outcome.Err != nil {
		a.arm()
		fail(w, outcome.Err)
	} else {
		h.Set("Trailer", headerError+", "+headerDiscarded)
		a.status()
		if err := a.pass(in); err != nil {
			h.Set(headerError, inHeader(newError(asError(err)).short()))
			return
		}
	}
	if r.URL.Query().Get("discard") == "true" && a.taken(r.Context()) && s.node.Durable().Discard(id) == nil {
		h.Set(headerDiscarded, "true")
	}
}

// noResult says why a job that the journal does not know has no result.
func (s *Server) noResult(id uint64, err error) error {
	if _, ok := s.node.Engine().Lookup(id); !ok {
		return err
	}
	return wire.NewError(base.Code_notFound, "run it with --durable to have its result kept",
		"nothing is kept of job %s: it was not durable, and its output went to whoever ran it, or its result was discarded", jobID(id))
}

// discardResult forgets a durable job that has ended.
func (s *Server) discardResult(w http.ResponseWriter, r *http.Request) {
	id, err := parseJobID(r)
	if err != nil {
		fail(w, err)
		return
	}
	j, err := s.node.Durable().Get(id)
	if err != nil {
		fail(w, s.noResult(id, err))
		return
	}
	if err := s.node.Durable().Discard(id); err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, newDurable(j))
}

// pass writes all of a result.
func (a *answer) pass(from io.Reader) error {
	buf := make([]byte, slice)
	for {
		n, err := io.ReadFull(from, buf)
		a.arm()
		if _, gone := a.w.Write(buf[:n]); gone != nil {
			return gone
		}
		switch {
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// lookEvery is how often taken looks.
const lookEvery = 2 * time.Millisecond

// taken sends what was written and waits until the client has read all of it. The
// end of the answer comes after that, so a client that has what it wants is still
// there.
func (a *answer) taken(ctx context.Context) bool {
	raw, ok := rawConn(ctx)
	if !ok || a.conn.Flush() != nil {
		return false
	}
	limit := time.NewTimer(a.stall)
	defer limit.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-limit.C:
			return false
		case <-tick.C:
			if left, err := unread(raw); err != nil || left == 0 {
				// Nothing is left to read of a connection that was closed, either.
				return err == nil && !hungUp(raw) && ctx.Err() == nil
			}
		}
	}
}

// unread returns how much of what was written the other end has not read, in
// bytes of the kernel's memory.
func unread(raw syscall.RawConn) (left int, err error) {
	if e := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }); e != nil {
		return 0, e
	}
	return left, err
}
