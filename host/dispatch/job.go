package dispatch

import (
	"context"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

// Outcome says what came of a job.
type Outcome struct {
	Status   compute.Status
	Err      *wire.Error // nil on success
	Cost     uint64      // micro-credits
	Metrics  wire.Metrics
	Attempts int
}

// state of a job, guarded by its unit's lock.
type state uint8

const (
	waiting state = iota
	running
	ended // nothing of it is with a plugin or in a queue
)

// Job is one job on its way. Its methods may be called from any goroutine. The
// one who submitted it must call Close, or blocks of the arena stay in use.
type Job struct {
	id       uint64
	cap      *capability
	engine   *Engine
	unit     *unit
	priority compute.Priority
	deadline int64 // CLOCK_MONOTONIC ns, math.MaxInt64 = none
	budget   uint64
	share    uint64 // of its parent's budget, kept for it until it ends
	key      string
	params   wire.Params
	metadata wire.Metadata
	parent   *Job
	depth    int
	only     uint32 // instance that may run it, 0 for any

	submitted time.Time
	progress  [2]atomic.Uint64
	inBytes   atomic.Uint64
	outBytes  atomic.Uint64

	// Guarded by unit.mu.
	state      state
	inst       *Instance
	attempts   int
	started    time.Time
	prev, next *Job
	stands     *queue           // in which it waits, nil for none
	begin      func() error     // to be called before it starts, nil when that was done
	begun      bool             // it was
	gate       chan struct{}    // closed when begin has returned, nil before it is called
	suspect    bool             // something is held against it, see ward
	digest     jobDigest        // zero until somebody had to know
	spec       *wire.Capability // as the instance describes it that has it, or had it last
	head       arena.Ref
	in         source
	explained  *wire.Error // from a result head, for the done that follows
	unacked    int         // pieces of output that the plugin has not heard back of
	grace      *time.Timer // runs while a cancelled job is still with a plugin
	hung       bool        // it ran out

	// Guarded by mu.
	mu      sync.Mutex
	settled bool
	outcome Outcome
	took    time.Duration // until settled
	pieces  []*Piece
	closed  bool
	spent   uint64 // by the jobs it caused
	shared  uint64 // kept for those of them that have not ended

	wake  chan struct{} // a piece came, capacity 1
	done  chan struct{} // closed when settled
	timer *time.Timer
}

// ID returns the number of the job, unique for the life of the node.
func (j *Job) ID() uint64 { return j.id }

// Done is closed when the outcome is known.
func (j *Job) Done() <-chan struct{} { return j.done }

// Wait returns the outcome once it is known. The error is ctx's alone.
func (j *Job) Wait(ctx context.Context) (Outcome, error) {
	select {
	case <-j.done:
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.outcome, nil
}

// Next returns the next piece of the output, io.EOF after the last, or the error
// that the job ended with. The caller releases the piece.
func (j *Job) Next(ctx context.Context) (*Piece, error) {
	for {
		j.mu.Lock()
		if len(j.pieces) > 0 {
			p := j.pieces[0]
			if j.pieces = j.pieces[1:]; len(j.pieces) > 0 {
				j.alert() // another may wait, who was not told of this one
			}
			j.mu.Unlock()
			return p, nil
		}
		settled, outcome := j.settled, j.outcome
		j.mu.Unlock()
		if settled {
			if outcome.Err != nil {
				return nil, outcome.Err
			}
			return nil, io.EOF
		}
		select {
		case <-j.wake:
		case <-j.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Report notes how much of the work is done. A total of 0 means not known.
func (j *Job) Report(done, total uint64) {
	j.progress[0].Store(done)
	j.progress[1].Store(total)
}

// lend takes a reference, for another job, to a part of the input that the job's
// plugin may read now. It reports whether ref is one.
func (j *Job) lend(ref arena.Ref) bool {
	j.unit.mu.Lock()
	defer j.unit.mu.Unlock()
	return j.state == running && j.in.lend(j.unit.arena, ref)
}

// Cancel ends the job as cancelled, unless it has an outcome already. A handler
// that runs is told; it may take a moment to notice.
func (j *Job) Cancel() { j.stop(wire.NewError(base.Code_canceled, "", "the job was cancelled")) }

// stop ends the job with the given error and tells the plugin.
func (j *Job) stop(reason *wire.Error) {
	_, attempts, _ := j.unit.standing(j)
	if !j.settle(Outcome{Status: statusOf(reason), Err: reason, Attempts: attempts}) {
		return
	}
	j.unit.abandon(j)
}

// Close cancels the job if it has no outcome yet, drops what is left of the
// output, and waits until the input is no longer read and Begin has returned: that
// must not call it. Calling it again does nothing.
func (j *Job) Close() {
	j.Cancel()
	j.mu.Lock()
	left := j.pieces
	j.pieces, j.closed = nil, true
	j.mu.Unlock()
	for _, p := range left {
		p.Release()
	}
	j.unit.mu.Lock()
	pumped, gate := j.in.pumped, j.gate // a job with an outcome is not started any more
	j.unit.mu.Unlock()
	for _, c := range [...]chan struct{}{pumped, gate} {
		if c != nil {
			<-c
		}
	}
}

// over reports whether the job has its outcome.
func (j *Job) over() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.settled
}

// settle gives the job its one outcome. It reports whether it was the first to.
func (j *Job) settle(o Outcome) bool {
	j.mu.Lock()
	if j.settled {
		j.mu.Unlock()
		return false
	}
	o.Metrics.InputBytes, o.Metrics.OutputBytes = j.inBytes.Load(), j.outBytes.Load()
	o.Cost = max(o.Cost, j.spent) // whatever became of it, those were paid
	j.settled, j.outcome, j.took = true, o, time.Since(j.submitted)
	timer := j.timer
	j.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	if j.parent != nil {
		j.parent.spend(j.share, o.Cost)
	}
	j.engine.stats.settled(o.Status)
	j.engine.jobs.settled(j)
	close(j.done)
	return true
}

// watch starts the clock of the deadline.
func (j *Job) watch() {
	if j.deadline == math.MaxInt64 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.settled {
		return
	}
	j.timer = time.AfterFunc(time.Duration(j.deadline-wire.Monotonic()), func() {
		j.stop(wire.NewError(base.Code_deadlineExceeded, "run the job again with a later --deadline",
			"%s did not end before its deadline", j.cap.spec.Name))
	})
}

// deliver adds a piece of output for the caller to take. A job nobody waits for
// drops it.
func (j *Job) deliver(p *Piece) {
	j.mu.Lock()
	if j.closed || j.settled {
		j.mu.Unlock()
		p.Release()
		return
	}
	j.pieces = append(j.pieces, p)
	j.mu.Unlock()
	j.alert()
}

// alert wakes one who waits for a piece.
func (j *Job) alert() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// reserve keeps a part of the budget for a job that this one causes: what it asks
// for, or all that is left. Jobs side by side can so not spend more than there is.
// It returns the child's budget, 0 for no bound, and how much of it was kept.
func (j *Job) reserve(budget uint64) (given, share uint64, err *wire.Error) {
	if j.budget == 0 {
		return budget, 0, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	left := j.budget - min(addSat(j.spent, j.shared), j.budget)
	if budget == 0 || budget > left {
		budget = left
	}
	switch {
	case budget > 0:
		j.shared += budget
		return budget, budget, nil
	case j.shared > 0:
		return 0, 0, wire.NewError(base.Code_budgetExceeded, "give each of several jobs at once a budget of its own",
			"what the calling job may spend is kept for others that it called and that run")
	default:
		return 0, 0, wire.NewError(base.Code_budgetExceeded, "run the job again with a larger --budget",
			"the calling job has nothing left to spend")
	}
}

// spend gives back what was reserved for a job and adds what it has cost.
func (j *Job) spend(share, cost uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.shared -= share
	j.spent = addSat(j.spent, cost)
}

// bill computes what the job cost. Charged is what the handler says it spent.
func (j *Job) bill(m *wire.Manifest, charged uint64) (cost uint64, err *wire.Error) {
	cost = addSat(m.Cost.Of(addSat(j.inBytes.Load(), j.outBytes.Load()), time.Since(j.started)), charged)
	j.mu.Lock()
	cost = addSat(cost, j.spent)
	j.mu.Unlock()
	if j.budget > 0 && cost > j.budget {
		return j.budget, wire.NewError(base.Code_budgetExceeded, "run the job again with a larger --budget",
			"%s cost %d micro-credits of a budget of %d", j.cap.spec.Name, cost, j.budget)
	}
	return cost, nil
}

func addSat(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// release frees the blocks of a job that no plugin has.
func (j *Job) release() {
	j.in.free(j.unit.arena)
	if !j.head.IsZero() {
		freeBlock(j.unit.arena, j.head)
		j.head = arena.Ref{}
	}
}
