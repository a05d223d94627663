package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/credits"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

// Job is one piece of work in the hands of a handler. It belongs to the
// goroutine that Handle was called on, but for Context, Progress and Charge,
// which any goroutine may call. After Handle has returned, neither the Job nor
// any view it gave may be used.
//
// A Job is an io.Reader of its input and an io.Writer of its output.
type Job struct {
	id       uint64
	spec     *Capability
	params   Params
	head     wire.Job
	deadline int64 // CLOCK_MONOTONIC ns, 0 = none
	budget   *credits.Budget
	port     port
	host     *Host
	log      hclog.Logger

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelCauseFunc
	base   context.Context
	cause  error // why it was cancelled before a context existed

	in      chan piece // pieces that have arrived
	current piece      // the one Next gave last
	rest    []byte     // what Read has not yet returned of it
	ended   bool       // the last piece was taken

	out     block         // what is being written
	written uint64        // bytes of out in use
	emitted uint64        // bytes in pieces already sent
	credit  chan struct{} // pieces that may be under way, one token each
}

// piece is a view of some input. The last one of a job may be empty.
type piece struct {
	ref      arena.Ref
	bytes    []byte
	last     bool
	streamed bool // it has to be given back to the host
}

// block is memory of the arena that the plugin may write.
type block struct {
	ref   arena.Ref
	bytes []byte // the whole capacity
}

// port is what a job needs of its surroundings: the rings in a running plugin,
// plain memory under the test kit.
type port interface {
	lease(ctx context.Context, n uint64) (block, error)
	release(b block)
	emit(job uint64, b block, n uint64) error
	consumed(job uint64) error
	progress(job, done, total uint64)
	pieceBytes() uint64
}

// ID returns the job's number, the same on every process that handles it.
func (j *Job) ID() uint64 { return j.id }

// Capability returns the name of the operation asked for.
func (j *Job) Capability() string { return j.spec.Name }

// Params returns the parameters, checked against the manifest and with defaults
// filled in.
func (j *Job) Params() Params { return j.params }

// Metadata returns the context the job came with.
func (j *Job) Metadata() wire.Metadata { return j.head.Metadata }

// InputSize returns the length of the whole input where the caller knew it, and
// 0 where not.
func (j *Job) InputSize() uint64 { return j.head.InputBytes }

// Host returns the node's services.
func (j *Job) Host() *Host { return j.host }

// Log returns a logger that names the job.
func (j *Job) Log() hclog.Logger { return j.log }

// Context ends when the job is cancelled, its deadline passes or the plugin is
// told to stop. context.Cause says which.
func (j *Job) Context() context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx != nil {
		return j.ctx
	}
	j.ctx, j.cancel = context.WithCancelCause(j.base)
	if j.deadline != 0 {
		left := time.Duration(j.deadline - wire.Monotonic())
		ctx, stop := context.WithTimeoutCause(j.ctx, left, errDeadline)
		parent := j.cancel
		j.ctx, j.cancel = ctx, func(err error) { parent(err); stop() }
	}
	if j.cause != nil {
		j.cancel(j.cause)
	}
	return j.ctx
}

var (
	errDeadline = wire.NewError(base.Code_deadlineExceeded, "give the job a later deadline", "the job's deadline passed")
	errCanceled = wire.NewError(base.Code_canceled, "", "the job was cancelled")
	errFinished = errors.New("the job has finished")
)

// abort cancels the job for the given reason. Only the first reason counts.
func (j *Job) abort(cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cause != nil {
		return
	}
	j.cause = cause
	if j.cancel != nil {
		j.cancel(cause)
	}
}

// Progress tells the caller how much of the work is done. A total of 0 means
// that it is not known. It never blocks; under load some reports are dropped.
func (j *Job) Progress(done, total uint64) { j.port.progress(j.id, done, total) }

// Charge spends n micro-credits of the job's budget. When it fails, the handler
// should return the error at once.
func (j *Job) Charge(n uint64) error {
	if err := j.budget.Charge(n); err != nil {
		return wire.NewError(base.Code_budgetExceeded, "run the job again with a larger --budget", "job %d: %v", j.id, err)
	}
	return nil
}

// Next returns a view of the next piece of the input, or io.EOF. The view is
// valid until the following call. For a capability that does not stream the
// whole input is one piece.
func (j *Job) Next() ([]byte, error) {
	j.giveBack()
	if j.ended {
		return nil, io.EOF
	}
	select {
	case j.current = <-j.in:
	default:
		select {
		case j.current = <-j.in:
		case <-j.Context().Done():
			return nil, context.Cause(j.Context())
		}
	}
	j.ended = j.current.last
	if len(j.current.bytes) == 0 && j.ended {
		j.giveBack()
		return nil, io.EOF
	}
	return j.current.bytes, nil
}

// giveBack tells the host that the current piece is no longer read.
func (j *Job) giveBack() {
	if j.current.streamed {
		// A host that cannot take the message is gone, and the job with it.
		_ = j.port.consumed(j.id)
	}
	j.current, j.rest = piece{}, nil
}

// Input returns a view of the whole input. Of a streamed input it can give only
// one that came in a single piece.
func (j *Job) Input() ([]byte, error) {
	if j.ended {
		return j.current.bytes, nil
	}
	in, err := j.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil && !j.ended {
		return nil, fmt.Errorf("job %d: the input comes in pieces; read it with Next or Read", j.id)
	}
	return in, err
}

// Read copies the next bytes of the input. Next gives them without a copy.
func (j *Job) Read(p []byte) (int, error) {
	for len(j.rest) == 0 {
		in, err := j.Next()
		if err != nil {
			return 0, err
		}
		j.rest = in
	}
	n := copy(p, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

// Output returns n bytes of shared memory for the handler to fill. For a
// capability that does not stream they become the result, and another call
// replaces them. For one that streams they are the next piece: the call sends
// the previous one, and returning from the handler sends the last.
func (j *Job) Output(n int) ([]byte, error) {
	if n < 0 {
		return nil, fmt.Errorf("job %d: an output of %d bytes", j.id, n)
	}
	if err := j.bound(uint64(n)); err != nil {
		return nil, err
	}
	if j.spec.Streams {
		if err := j.flush(); err != nil {
			return nil, err
		}
	}
	if uint64(n) > uint64(len(j.out.bytes)) || j.out.bytes == nil {
		j.drop()
		b, err := j.port.lease(j.Context(), uint64(n))
		if err != nil {
			return nil, fmt.Errorf("job %d: output of %d bytes: %w", j.id, n, err)
		}
		j.out = b
	}
	j.written = uint64(n)
	return j.out.bytes[:n:n], nil
}

// Write appends to the output.
func (j *Job) Write(p []byte) (int, error) {
	var done int
	for done < len(p) {
		room := uint64(len(j.out.bytes)) - j.written
		if room == 0 {
			if err := j.grow(uint64(len(p) - done)); err != nil {
				return done, err
			}
			continue
		}
		n := copy(j.out.bytes[j.written:], p[done:])
		if err := j.bound(j.written + uint64(n)); err != nil {
			return done, err
		}
		j.written += uint64(n)
		done += n
	}
	return done, nil
}

// smallOutput is the first block that Write asks for: leases of this size are
// held ahead, so a short answer costs no request.
const smallOutput = 256

// grow makes room for more bytes: the next piece of a stream, or a block twice
// as large with what was written so far.
func (j *Job) grow(more uint64) error {
	if j.spec.Streams {
		if err := j.flush(); err != nil {
			return err
		}
		b, err := j.port.lease(j.Context(), j.port.pieceBytes())
		if err != nil {
			return fmt.Errorf("job %d: next piece of the output: %w", j.id, err)
		}
		j.out = b
		return nil
	}
	want := max(smallOutput, 2*j.written, j.written+more)
	if limit := j.spec.MaxOutput; limit > 0 {
		if j.written+more > limit {
			return j.bound(j.written + more)
		}
		want = min(want, limit)
	}
	b, err := j.port.lease(j.Context(), want)
	if err != nil {
		return fmt.Errorf("job %d: output of %d bytes: %w", j.id, want, err)
	}
	copy(b.bytes, j.out.bytes[:j.written])
	kept := j.written
	j.drop()
	j.out, j.written = b, kept
	return nil
}

// flush sends the current output block as a piece of the stream.
func (j *Job) flush() error {
	if j.written == 0 {
		return nil
	}
	select {
	case <-j.credit:
	default:
		select {
		case <-j.credit:
		case <-j.Context().Done():
			return context.Cause(j.Context())
		}
	}
	n := j.written
	if err := j.port.emit(j.id, j.out, n); err != nil {
		return err
	}
	j.out, j.written = block{}, 0
	j.emitted += n
	return nil
}

// drop gives back the current output block.
func (j *Job) drop() {
	if j.out.bytes != nil {
		j.port.release(j.out)
	}
	j.out, j.written = block{}, 0
}

// bound refuses an output larger than the manifest allows.
func (j *Job) bound(n uint64) error {
	limit := j.spec.MaxOutput
	if limit == 0 || (n <= limit && j.emitted <= limit-n) {
		return nil
	}
	return wire.NewError(base.Code_resourceExhausted, "raise MaxOutput in the plugin's manifest or ask for less",
		"%s: the output exceeds %d bytes", j.spec.Name, limit)
}

// run calls the handler and turns a panic into a result.
func (j *Job) run() (status compute.Status, err error) {
	defer func() {
		if r := recover(); r != nil {
			status = compute.Status_panicked
			err = wire.NewError(base.Code_internal, "see the plugin's log for the stack and tell its author",
				"%s panicked: %v", j.spec.Name, r)
			j.log.Error("handler panicked", "panic", fmt.Sprint(r), "stack", stack())
		}
	}()
	if err := j.spec.Handle(j); err != nil {
		return statusOf(err), err
	}
	return compute.Status_success, nil
}

// statusOf names the outcome that an error of a handler stands for.
func statusOf(err error) compute.Status {
	switch {
	case errors.Is(err, wire.ErrBudgetExceeded):
		return compute.Status_budgetExceeded
	case errors.Is(err, wire.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return compute.Status_timeout
	case errors.Is(err, wire.ErrCanceled), errors.Is(err, context.Canceled):
		return compute.Status_canceled
	case errors.Is(err, wire.ErrInvalidArgument):
		return compute.Status_invalidParams
	case errors.Is(err, wire.ErrNotSupported):
		return compute.Status_notSupported
	default:
		return compute.Status_failed
	}
}

// end releases what the handler left. The output block stays with the caller of
// end when it is part of the result.
func (j *Job) end() {
	j.giveBack()
	j.abort(errFinished)
	j.mu.Lock()
	if j.cancel != nil {
		j.cancel(errFinished)
	}
	j.mu.Unlock()
}
