package dispatch

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
	"inos/shm/segment"
)

// Attachment is a plugin process that is ready to serve.
type Attachment struct {
	// ID is the instance number, the owner of its blocks. It is never used again.
	ID uint32
	// Manifest it registered.
	Manifest *wire.Manifest
	// Digest of its binary, by which jobs that end it are remembered.
	Digest string
	// Trial has it get only jobs that name it, and those of its Canary, until Flip.
	Trial bool
	// Link to it. The owner closes it after Detach.
	Link *segment.Link
	// Arena that the module's blocks lie in, the same for all its instances.
	Arena *arena.Arena
	// OnOffence is called once, from a goroutine of its own, when the instance has
	// broken its promises too often or ignores cancellation. No job starts there
	// any more. The owner should end the process and Detach.
	OnOffence func(error)
}

// phase of an instance, guarded by its unit's lock.
type phase uint8

const (
	serving phase = iota
	trial
	draining
	dead
)

// open reports whether jobs may start at all.
func (p phase) open() bool { return p == serving || p == trial }

// descriptorsPerJob bounds what an honest plugin can leave unread on the
// submission ring for each job that it may have in flight: of one that it has not
// begun, head, submit, cancel and the pieces after the first; and of one that it
// has, which may even have ended since, a window of pieces, a window of
// acknowledgements and cancel. The bound on jobs in flight follows from it, so the
// ring fills up only under a plugin that does not read it.
const descriptorsPerJob = (2 + 1 + wire.StreamWindow - 1) + (2*wire.StreamWindow + 1)

// Instance is one plugin process in service.
type Instance struct {
	id     uint32
	unit   *unit
	m      *wire.Manifest
	link   *segment.Link
	arena  *arena.Arena
	log    hclog.Logger
	index  map[string]uint32 // of its capabilities, by name
	limit  int               // jobs at once
	report func(error)

	digest string

	tally     [2]atomic.Uint64 // jobs that succeeded, and that failed
	offences  atomic.Int64
	condemned atomic.Bool
	stop      atomic.Bool
	stopped   chan struct{}

	// Guarded by unit.mu.
	phase    phase
	home     phase // that Resume goes back to: serving or trial
	inflight map[uint64]*Job
	queue    queue           // jobs that only this instance may run
	reserved int             // places kept for jobs that begin
	suspects []*Job          // that run here or begin, usually at most one
	percent  int             // of the module's jobs while on trial
	turns    int             // what of those it is owed, in percent of a job
	same     map[string]bool // capabilities that are the same as in the generation that serves
	onIdle   []chan struct{}
	ahead    [len(leaseClasses)]int // leases granted unasked and not yet used
	granted  map[uint32]int         // the class of each, by slot
}

// Attach puts a process into service.
func (e *Engine) Attach(a Attachment) (*Instance, error) {
	i := &Instance{
		id: a.ID, digest: a.Digest, m: a.Manifest, link: a.Link, arena: a.Arena, report: a.OnOffence,
		log:   e.log.With("plugin", a.Manifest.Name, "instance", a.ID),
		index: make(map[string]uint32, len(a.Manifest.Capabilities)), inflight: make(map[uint64]*Job), granted: make(map[uint32]int),
		limit:   max(1, min(int(min(a.Manifest.Concurrency, math.MaxInt32)), a.Link.Submissions.Entries()/descriptorsPerJob)),
		stopped: make(chan struct{}),
	}
	for n, c := range a.Manifest.Capabilities {
		i.index[c.Name] = uint32(n)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errStopping
	}
	if err := e.claim(a.Manifest.Name, a.Manifest.Capabilities); err != nil {
		return nil, err
	}
	u := e.units[a.Manifest.Name]
	if u == nil {
		u = &unit{module: a.Manifest.Name, engine: e, arena: a.Arena}
		e.units[u.module] = u
	}
	if u.arena != a.Arena {
		return nil, fmt.Errorf("dispatch: instance %d of %s is in another arena than the module", a.ID, u.module)
	}
	i.unit = u
	var later errands
	u.mu.Lock()
	u.instances = append(u.instances, i)
	i.advance()
	if a.Trial {
		i.phase, i.home = trial, trial
	} else {
		e.adopt(i)
		u.fill(&later)
		e.drop(u, u.serves, errReplaced)
	}
	u.mu.Unlock()
	go i.serve()
	later.ring(i)
	later.run()
	return i, nil
}

// adopt makes what an instance says the module's. The caller holds Engine.mu and
// unit.mu.
func (e *Engine) adopt(i *Instance) {
	for _, c := range i.m.Capabilities {
		e.capabilities[c.Name] = i.capability(c)
		delete(e.gone, c.Name)
	}
	i.unit.cost, i.unit.digest = i.m.Cost, i.digest
}

// push puts a descriptor on the submission ring. The caller holds unit.mu. It
// fails only when the plugin has spoilt the ring or does not read it, and that
// condemns the instance: its end decides what becomes of its jobs.
func (i *Instance) push(d *ring.Descriptor) bool {
	err := i.link.Submissions.Push(d)
	if err != nil {
		i.condemn(fmt.Errorf("submission ring: %w", err))
	}
	return err == nil
}

// start puts a job on the ring. The caller holds unit.mu. It reports whether
// that could be done.
func (i *Instance) start(j *Job) bool {
	n := i.index[j.cap.spec.Name]
	d := ring.Descriptor{Kind: system.DescriptorKind_submit, Job: j.id, Aux: n, Ref: j.in.first}
	if j.deadline != math.MaxInt64 {
		d.Args[0] = uint64(j.deadline)
	}
	d.Args[1] = j.budget
	if j.in.more {
		d.Set(system.DescriptorFlag_streamIn)
	}
	if !j.head.IsZero() {
		d.Set(system.DescriptorFlag_hasHead)
		if !i.push(&ring.Descriptor{Kind: system.DescriptorKind_head, Job: j.id, Ref: j.head}) {
			return false
		}
	}
	if !i.push(&d) {
		return false
	}
	j.state, j.inst, j.started, j.spec = running, i, time.Now(), &i.m.Capabilities[n]
	j.explained, j.unacked = nil, 0 // of an earlier attempt
	j.attempts++
	i.inflight[j.id] = j
	if j.suspect {
		i.suspects = append(i.suspects, j)
	}
	if j.in.more {
		j.in.pumped = make(chan struct{})
		go j.in.pump(j, i)
	}
	return true
}

// Job returns a job in flight here, or nil.
func (i *Instance) Job(id uint64) *Job {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	return i.inflight[id]
}

// idled wakes those who wait for the last job to end. The caller holds unit.mu.
func (i *Instance) idled() {
	if len(i.inflight) > 0 {
		return
	}
	for _, c := range i.onIdle {
		close(c)
	}
	i.onIdle = nil
}

// Offend counts a broken promise of the plugin, and reports the instance at the limit.
func (i *Instance) Offend(err error) {
	n := i.offences.Add(1)
	i.unit.engine.stats.offences.Add(1)
	limit := int64(i.unit.engine.opts.MaxOffences)
	if n <= limit { // the log must not be the plugin's to fill
		i.log.Warn("refused what the plugin handed over", "error", err, "offences", n)
	}
	if n >= limit {
		i.condemn(fmt.Errorf("%d broken promises, the last: %w", n, err))
	}
}

// condemn lets no new job start here and asks the owner to end the process.
func (i *Instance) condemn(err error) {
	if !i.condemned.Swap(true) && i.report != nil {
		go i.report(err)
	}
}

// watch condemns the instance when the job is still in its hands after the grace.
// The caller holds unit.mu.
func (i *Instance) watch(j *Job) {
	grace := i.unit.engine.opts.CancelGrace
	j.grace = time.AfterFunc(grace, func() {
		i.unit.mu.Lock()
		hung := i.inflight[j.id] == j
		j.hung = j.hung || hung
		i.unit.mu.Unlock()
		if hung {
			i.condemn(fmt.Errorf("job %x did not stop within %s of being cancelled", j.id, grace))
		}
	})
}

// unwatch ends what watch began. The caller holds unit.mu.
func (j *Job) unwatch() {
	if j.grace != nil {
		j.grace.Stop()
	}
}

// Drain lets no new job start here and waits until none runs.
func (i *Instance) Drain(ctx context.Context) error {
	i.unit.mu.Lock()
	if i.phase != dead {
		i.phase = draining
	}
	if len(i.inflight) == 0 {
		i.unit.mu.Unlock()
		return nil
	}
	c := make(chan struct{})
	i.onIdle = append(i.onIdle, c)
	n := len(i.inflight)
	i.unit.mu.Unlock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d jobs were running: %w", n, context.Cause(ctx))
	}
}

// Load returns the jobs in flight here.
func (i *Instance) Load() int {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	return len(i.inflight)
}

// Offences returns how many promises the instance has broken.
func (i *Instance) Offences() int64 { return i.offences.Load() }

// Detach takes the instance out of service for good. Its process must have
// ended, or cause says why nothing more is expected of it. What it had finished
// counts; every other job of it is retried or ends with cause. Its blocks go
// back to the arena. The link may be closed afterwards.
func (i *Instance) Detach(cause error) (blocks int, bytes uint64) {
	u := i.unit
	u.mu.Lock()
	i.phase = dead // nothing starts here and no block is granted any more
	u.mu.Unlock()
	i.stop.Store(true)
	i.link.HostBell.Interrupt()
	<-i.stopped
	i.consume()

	_ = duringDetach.Hit()
	u.mu.Lock()
	u.instances = slices.DeleteFunc(u.instances, func(o *Instance) bool { return o == i })
	var ends []end
	blamed, d := i.blame(cause), &death{cause: cause, plugin: i.digest, charged: make(map[jobDigest]bool)}
	// The youngest first, since each one that is tried again goes to the front.
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(i.inflight))) {
		j := i.inflight[id]
		if o, over := u.orphan(j, d, blamed(j)); over {
			ends = append(ends, end{j, o})
		}
	}
	for j := i.queue.first(); j != nil; j = i.queue.first() {
		u.withdraw(j)
		ends = append(ends, end{j, Outcome{Status: compute.Status_rejected, Err: addresseeGone(i.id), Attempts: j.attempts}})
	}
	clear(i.inflight)
	if len(d.charged) > 0 {
		u.alert(i.digest)
	}
	i.idled()
	var later errands
	u.fill(&later)
	u.mu.Unlock()
	later.ended = append(later.ended, ends...)
	later.run()
	return i.arena.Reclaim(arena.Owner(i.id))
}
