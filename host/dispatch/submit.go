package dispatch

import (
	"context"
	"errors"
	"math"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

// Request asks for a job.
type Request struct {
	// Capability to run.
	Capability string
	// Params for it. They are checked against the manifest.
	Params wire.Params
	// Input of the job. The zero Input is empty.
	Input Input
	// Deadline ends the job, the zero Time means none but the capability's own.
	Deadline time.Time
	// Budget in micro-credits, 0 means without bound.
	Budget uint64
	// Priority among the jobs that wait for the same module.
	Priority compute.Priority
	// Key names the request: while a job with this key is under way, another with
	// the same key is refused. Empty means none.
	Key string
	// Metadata follows the job into the plugin.
	Metadata wire.Metadata
	// Parent is the job on whose behalf this one runs, nil for an operator's.
	Parent *Job
	// Instance is the only one that may run it, 0 for any.
	Instance uint32
	// ID is a number from NewID, 0 for the next.
	ID uint64
	// Begin, unless nil, is called once before the job is given to a plugin for the
	// first time, from a goroutine of its own. The job starts when it returns, or
	// ends with its error.
	Begin func() error
}

// Submit takes a job in: it is checked, its input is read into the arena, and
// it waits for an instance or runs. What is refused here never started.
//
// The input is read as far as one block before Submit returns; the rest of a
// streamed one is read while the job runs, until Close.
func (e *Engine) Submit(ctx context.Context, r Request) (*Job, error) {
	j, err := e.admit(ctx, r)
	if err != nil {
		e.stats.refused.Add(1)
		return nil, err
	}
	e.stats.submitted.Add(1)
	j.watch()
	if err := j.unit.enqueue(j); err != nil {
		j.release()
		j.settle(Outcome{Status: compute.Status_rejected, Err: wire.AsError(err)})
		return nil, err
	}
	return j, nil
}

// find finds who is to run a request.
func (e *Engine) find(r Request) (*capability, error) {
	if r.Instance == 0 {
		return e.lookup(r.Capability)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, errStopping
	}
	for _, u := range e.units {
		if c := u.servedBy(r.Instance, r.Capability); c != nil {
			return c, nil
		}
	}
	return nil, wire.NewError(base.Code_notFound, "see inos plugin list", "no instance %d serves %q", r.Instance, r.Capability)
}

// newJob checks everything about a request that needs no memory of the arena.
func (e *Engine) newJob(c *capability, r Request) (*Job, error) {
	params, err := wire.CheckParams(c.spec.Params, r.Params)
	if err != nil {
		return nil, wire.NewError(base.Code_invalidArgument, "see inos plugin info "+c.unit.module, "%s: %v", r.Capability, err)
	}
	now := time.Now()
	j := &Job{
		id: r.ID, cap: c, engine: e, unit: c.unit, only: r.Instance, begin: r.Begin, priority: r.Priority, deadline: math.MaxInt64,
		budget: r.Budget, key: r.Key, params: params, metadata: r.Metadata, parent: r.Parent,
		submitted: now, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if j.id == 0 {
		j.id = e.next.Add(1)
	}
	// On whose behalf a job runs is known here; the request only claims it.
	j.metadata.ParentJob = 0
	until := r.Deadline
	if t := c.spec.Timeout; t > 0 && (until.IsZero() || until.Sub(now) > t) {
		until = now.Add(t)
	}
	if p := r.Parent; p != nil {
		j.depth = p.depth + 1
		m := &j.metadata
		m.ParentJob, m.UserID, m.DeviceID, m.CreditLedgerID = p.id, p.metadata.UserID, p.metadata.DeviceID, p.metadata.CreditLedgerID
		if p.over() {
			return nil, wire.NewError(base.Code_canceled, "", "%s: the calling job has ended already", r.Capability)
		}
		if j.depth > e.opts.MaxDepth {
			return nil, wire.NewError(base.Code_resourceExhausted, "look for plugins that call each other in a circle",
				"%s: jobs call jobs %d deep", r.Capability, j.depth)
		}
		j.deadline = p.deadline
	}
	if !until.IsZero() {
		left := until.Sub(now)
		if left <= 0 {
			return nil, wire.NewError(base.Code_deadlineExceeded, "give a deadline in the future", "%s: the deadline has passed", r.Capability)
		}
		j.deadline = min(j.deadline, wire.Monotonic()+int64(left))
	}
	if p := r.Parent; p != nil { // the last, since what fails after it has to give it back
		var err *wire.Error
		if j.budget, j.share, err = p.reserve(j.budget); err != nil {
			return nil, wire.NewError(err.Code, err.Hint, "%s: %s", r.Capability, err.Message)
		}
	}
	return j, nil
}

// admit checks a request and brings its input into the arena.
func (e *Engine) admit(ctx context.Context, r Request) (*Job, error) {
	c, err := e.find(r)
	if err != nil {
		return nil, err
	}
	j, err := e.newJob(c, r)
	if err != nil {
		return nil, err
	}
	if err := e.load(ctx, j, r); err != nil {
		j.release()
		if j.parent != nil {
			j.parent.spend(j.share, 0)
		}
		return nil, err
	}
	return j, nil
}

// load does what takes memory of the arena. The job is known from then on.
func (e *Engine) load(ctx context.Context, j *Job, r Request) error {
	if err := j.unit.room(); err != nil {
		return err
	}
	if err := j.in.open(ctx, j, r.Input); err != nil {
		return err
	}
	if m := j.unit.price(); j.budget > 0 && m.Of(j.inBytes.Load(), 0) > j.budget {
		return wire.NewError(base.Code_budgetExceeded, "run the job again with a larger --budget",
			"%s costs at least %d micro-credits for this input, and the budget is %d", r.Capability, m.Of(j.inBytes.Load(), 0), j.budget)
	}
	if err := e.ward.inspect(j); err != nil {
		return err
	}
	if err := j.writeHead(); err != nil {
		return err
	}
	return e.jobs.add(j)
}

// writeHead puts what the descriptor has no room for into a block. A job that
// needs none of it goes without.
func (j *Job) writeHead() error {
	if len(j.params) == 0 && j.metadata == (wire.Metadata{}) && j.key == "" && !j.in.streams() {
		return nil
	}
	deadline := j.deadline
	if deadline == math.MaxInt64 {
		deadline = 0
	}
	msg, err := wire.Job{
		ID: j.id, Capability: j.cap.spec.Name, Params: j.params, Budget: j.budget, Priority: j.priority,
		Deadline: deadline, IdempotencyKey: j.key, InputBytes: j.in.size(), Metadata: j.metadata,
	}.Encode()
	if err != nil {
		return wire.NewError(base.Code_invalidArgument, "send less in parameters and more as input", "%s: %v", j.cap.spec.Name, err)
	}
	ref, v, err := blank(j.unit.arena, uint64(len(msg)))
	if err != nil {
		return err
	}
	copy(v, msg)
	j.head = ref
	return nil
}

// ArenaError tells the caller of a job that the arena cannot hold it.
func ArenaError(err error) error {
	var full *arena.FullError
	switch {
	case errors.As(err, &full):
		return wire.NewError(base.Code_resourceExhausted, "wait for other jobs to end, or start the node with a larger --segment",
			"the arena is full: %d bytes wanted, %d free, at most %d in one piece", full.Wanted, full.Free, full.Largest)
	case errors.Is(err, arena.ErrTooLarge):
		e := wire.NewError(base.Code_resourceExhausted, "use a capability that streams, or start the node with a larger --segment",
			"larger than the whole arena of the plugin: %v", err)
		e.Temporary = false
		return e
	default:
		return err
	}
}
