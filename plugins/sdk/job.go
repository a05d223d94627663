package sdk

import (
	"context"
	"errors"
	"fmt"
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
	ctx    context.Context // made when it is first asked for
	cancel context.CancelCauseFunc
	base   context.Context
	cause  error // why it was cancelled, nil while it was not

	in     chan piece // pieces that have arrived
	input             // what became of them, see input.go
	output            // see output.go
}

// piece is a view of some input. The last one of a job may be empty.
type piece struct {
	ref      arena.Ref
	bytes    []byte
	last     bool
	streamed bool // the host waits to hear that it is no longer read
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
	consumed(job uint64)
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

// InputSize returns the length of the whole input where it is known before the
// input was read, and 0 where not.
func (j *Job) InputSize() uint64 { return j.head.InputBytes }

// Host returns the node's services, as asked for by this job: what they cost is
// charged to it, and they are refused when it has ended.
func (j *Job) Host() *Host { return j.host.forJob(j) }

// Log returns a logger that names the job.
func (j *Job) Log() hclog.Logger {
	return j.log.With("job", fmt.Sprintf("%x", j.id), "capability", j.spec.Name)
}

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
	errStopping = wire.NewError(base.Code_canceled, "run the job again", "the plugin was told to stop")
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
		return wire.NewError(base.Code_budgetExceeded, "run the job again with a larger --budget", "job %x: %w", j.id, err)
	}
	return nil
}

// errGoexit is what becomes of a job whose handler neither returned nor panicked.
var errGoexit = wire.NewError(base.Code_internal, "tell the plugin's author", "the handler ended its goroutine instead of returning")

// run calls the handler and turns its error, or a panic, into a result.
func (j *Job) run() (compute.Status, error) {
	panicked, err := guard(j.log, j.spec.Name, func() error { return j.spec.Handle(j) })
	switch {
	case panicked:
		return compute.Status_panicked, err
	case err != nil:
		return statusOf(err), err
	default:
		return compute.Status_success, nil
	}
}

// guard calls what an author wrote and makes a panic an error.
func guard(log hclog.Logger, what string, f func() error) (panicked bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			panicked = true
			err = wire.NewError(base.Code_internal, "see the node's log for the stack and tell the plugin's author", "%s panicked: %v", what, r)
			log.Error("the plugin's own code panicked", "in", what, "panic", fmt.Sprint(r), "stack", stack())
		}
	}()
	return false, f()
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

// end gives back what the handler held of the input and ends its context.
func (j *Job) end() {
	j.giveBack()
	j.abort(errFinished)
}
