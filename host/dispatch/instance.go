package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
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
	// Link to it. The owner closes it after Detach.
	Link *segment.Link
	// Arena that the module's blocks lie in, the same for all its instances.
	Arena *arena.Arena
	// OnOffence is called once, from a goroutine of its own, when the instance has
	// broken its promises too often or ignores cancellation. The owner should end
	// the process and Detach.
	OnOffence func(error)
}

// phase of an instance, guarded by its unit's lock.
type phase uint8

const (
	serving phase = iota
	draining
	dead
)

// descriptorsPerJob bounds what one job can have on the submission ring at once:
// head, submit, a window of pieces, a window of acknowledgements, cancel. The
// bound on jobs in flight follows from it, so that the ring never fills up.
const descriptorsPerJob = 3 + 2*wire.StreamWindow

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

	offences atomic.Int64
	reported sync.Once
	stop     atomic.Bool
	stopped  chan struct{}

	// Guarded by unit.mu.
	phase    phase
	inflight map[uint64]*Job
	onIdle   []chan struct{}
	ahead    [len(leaseClasses)]int // leases granted unasked and not yet used
	granted  map[uint32]int         // the class of each, by slot
}

// leaseClasses are the blocks granted ahead: enough for a short answer and for a
// page, so that most jobs ask for nothing.
var leaseClasses = [2]struct {
	bytes uint64
	count int
}{{256, 32}, {4096, 4}}

// Attach puts a process into service.
func (e *Engine) Attach(a Attachment) (*Instance, error) {
	i := &Instance{
		id: a.ID, m: a.Manifest, link: a.Link, arena: a.Arena, report: a.OnOffence,
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
	for _, c := range a.Manifest.Capabilities {
		e.capabilities[c.Name] = &capability{spec: c, unit: u}
	}
	i.unit = u
	u.mu.Lock()
	u.instances = append(u.instances, i)
	u.cost = a.Manifest.Cost
	i.advance()
	woken := u.fill()
	u.mu.Unlock()
	go i.serve()
	woken.ring()
	i.link.PluginBell.Ring()
	return i, nil
}

// start puts a job on the ring. The caller holds unit.mu. It reports whether
// there was room.
func (i *Instance) start(j *Job) bool {
	s := i.link.Submissions
	if s.Free() < 2 {
		return false
	}
	d := ring.Descriptor{Kind: system.DescriptorKind_submit, Job: j.id, Aux: i.index[j.cap.spec.Name], Ref: j.in.first}
	if j.deadline != math.MaxInt64 {
		d.Args[0] = uint64(j.deadline)
	}
	d.Args[1] = j.budget
	if j.in.more {
		d.Set(system.DescriptorFlag_streamIn)
	}
	if !j.head.IsZero() {
		d.Set(system.DescriptorFlag_hasHead)
		if err := s.Push(&ring.Descriptor{Kind: system.DescriptorKind_head, Job: j.id, Ref: j.head}); err != nil {
			i.Offend(fmt.Errorf("submission ring: %w", err))
			return false
		}
	}
	if err := s.Push(&d); err != nil {
		i.Offend(fmt.Errorf("submission ring: %w", err))
		return false
	}
	j.state, j.inst, j.started = running, i, time.Now()
	j.attempts++
	i.inflight[j.id] = j
	if j.in.more {
		j.in.pumped = make(chan struct{})
		go j.in.pump(j, i)
	}
	return true
}

// consumeWait bounds how long the consumer sleeps without looking around.
const consumeWait = time.Second

// serve takes completions off the ring until the instance is detached.
func (i *Instance) serve() {
	defer close(i.stopped)
	ready := func() bool { return i.link.Completions.Ready() || i.stop.Load() }
	for {
		i.link.HostBell.Wait(ready, time.Now().Add(consumeWait))
		if !i.consume() || i.stop.Load() {
			return
		}
	}
}

// consume takes everything off the ring. It reports whether the ring is sound.
func (i *Instance) consume() bool {
	var d ring.Descriptor
	for {
		ok, err := i.link.Completions.Pop(&d)
		if err != nil {
			i.condemn(fmt.Errorf("completion ring: %w", err))
			return false
		}
		if !ok {
			return true
		}
		if err := i.handle(&d); err != nil {
			i.Offend(err)
		}
	}
}

// handle acts on one descriptor from the plugin, all of it hostile. An error is
// a broken promise.
func (i *Instance) handle(d *ring.Descriptor) error {
	switch d.Kind {
	case system.DescriptorKind_done:
		return i.finish(d)
	case system.DescriptorKind_resultHead:
		return i.explain(d)
	case system.DescriptorKind_output:
		return i.output(d)
	case system.DescriptorKind_progress:
		if j := i.Job(d.Job); j != nil {
			j.Report(d.Args[0], d.Args[1])
		}
		return nil // a report on a job that has just ended is no offence
	case system.DescriptorKind_consumed:
		j := i.Job(d.Job)
		if j == nil || !j.in.consumed(i.arena, d.Aux) {
			return fmt.Errorf("job %x: %d pieces consumed that were not sent", d.Job, d.Aux)
		}
		return nil
	case system.DescriptorKind_leaseRequest:
		return i.lease(d)
	case system.DescriptorKind_release:
		if err := i.arena.Free(d.Ref, arena.Owner(i.id)); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		i.unit.mu.Lock()
		i.used(d.Ref)
		i.unit.mu.Unlock()
		return nil
	default:
		return fmt.Errorf("descriptor of kind %d on the completion ring", d.Kind)
	}
}

// Job returns a job in flight here, or nil.
func (i *Instance) Job(id uint64) *Job {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	return i.inflight[id]
}

// take verifies a block that the plugin hands over and makes it the host's.
func (i *Instance) take(ref arena.Ref) (*Piece, error) {
	if ref.Arena != i.arena.ID() {
		return nil, fmt.Errorf("%w: arena %d is not the plugin's", arena.ErrBadRef, ref.Arena)
	}
	if err := i.arena.Transfer(ref, arena.Owner(i.id), arena.Host); err != nil {
		return nil, err
	}
	i.unit.mu.Lock()
	i.used(ref)
	i.unit.mu.Unlock()
	v, err := i.arena.View(ref)
	if err != nil {
		freeBlock(i.arena, ref)
		return nil, err
	}
	return &Piece{ref: ref, arena: i.arena, bytes: v}, nil
}

// output takes in one more piece of a stream.
func (i *Instance) output(d *ring.Descriptor) error {
	p, err := i.take(d.Ref)
	if err != nil {
		return fmt.Errorf("job %x: output: %w", d.Job, err)
	}
	j := i.Job(d.Job)
	if j == nil || !j.cap.spec.Streams {
		freeBlock(p.arena, p.ref)
		return fmt.Errorf("job %x: a piece of output for a job that does not stream here", d.Job)
	}
	if err := j.grew(p); err != nil {
		freeBlock(p.arena, p.ref)
		j.stop(wire.AsError(err))
		return nil
	}
	p.job, p.acked = j, i
	if !j.deliver(p) {
		p.acked = nil
		p.Release()
		return fmt.Errorf("job %x: more pieces of output than the window", d.Job)
	}
	return nil
}

// grew counts output against its bound.
func (j *Job) grew(p *Piece) error {
	total := j.outBytes.Add(uint64(len(p.bytes)))
	if limit := j.cap.spec.MaxOutput; limit > 0 && total > limit {
		return fmt.Errorf("%s gave more than its bound of %d bytes of output", j.cap.spec.Name, limit)
	}
	return nil
}

// explain keeps the message about a failure for the done that follows it.
func (i *Instance) explain(d *ring.Descriptor) error {
	p, err := i.take(d.Ref)
	if err != nil {
		return fmt.Errorf("job %x: result: %w", d.Job, err)
	}
	defer p.Release()
	// Copy out first: the plugin may still write to the block.
	r, err := wire.DecodeResult(slices.Clone(p.bytes))
	if err != nil {
		return fmt.Errorf("job %x: result: %w", d.Job, err)
	}
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	j := i.inflight[d.Job]
	if j == nil {
		return fmt.Errorf("result for job %x, which does not run here", d.Job)
	}
	j.explained = r.Err
	return nil
}

// finish takes in the end of a job.
func (i *Instance) finish(d *ring.Descriptor) error {
	u := i.unit
	u.mu.Lock()
	j := i.inflight[d.Job]
	if j == nil {
		u.mu.Unlock()
		if !d.Ref.IsZero() {
			if p, err := i.take(d.Ref); err == nil {
				p.Release()
			}
		}
		return fmt.Errorf("job %x ended, but it does not run here", d.Job)
	}
	u.mu.Unlock()

	o, p, offence := i.judge(j, d)
	if p != nil {
		p.job = j
		j.deliver(p)
	}

	u.mu.Lock()
	if i.phase == dead || i.inflight[j.id] != j {
		u.mu.Unlock() // it died meanwhile, and orphan has decided
		return offence
	}
	delete(i.inflight, j.id)
	j.state = ended
	if o.Status != compute.Status_success && o.Err == nil {
		if o.Err = j.explained; o.Err == nil {
			o.Err = statusError(j.cap.spec.Name, o.Status)
		}
	}
	j.release()
	i.advance()
	i.idled()
	woken := u.fill()
	u.mu.Unlock()
	woken.add(i)
	woken.ring()
	j.settle(o)
	return offence
}

// judge turns the end that a plugin reports into an outcome and, on success, the
// output. The error is a broken promise, which the job may survive or not.
func (i *Instance) judge(j *Job, d *ring.Descriptor) (o Outcome, p *Piece, offence error) {
	o = Outcome{Status: compute.Status(d.Status), Attempts: j.attempts}
	o.Metrics.Wall = time.Since(j.started)
	o.Metrics.CPU = time.Duration(min(d.Args[1], math.MaxInt64))
	o.Metrics.Queue = j.started.Sub(j.submitted)
	if d.Status > uint16(compute.Status_rejected) {
		offence = fmt.Errorf("job %x: unknown status %d", d.Job, d.Status)
		o.Status = compute.Status_failed
	}
	if !d.Ref.IsZero() {
		var err error
		if p, err = i.take(d.Ref); err != nil {
			o.Status = compute.Status_failed
			o.Err = wire.NewError(base.Code_internal, "tell the plugin's author", "%s handed back a block that is not its own", j.cap.spec.Name)
			return o, nil, fmt.Errorf("job %x: output: %w", d.Job, err)
		}
		if err := j.grew(p); err != nil {
			o.Status, o.Err = compute.Status_failed, wire.AsError(err)
		}
	}
	cost, over := j.bill(i.m, d.Args[0])
	o.Cost = cost
	if o.Status == compute.Status_success && over != nil {
		o.Status, o.Err = compute.Status_budgetExceeded, over
	}
	if o.Status != compute.Status_success && p != nil {
		p.Release()
		p = nil
	}
	return o, p, offence
}

// lease answers a request for a block.
func (i *Instance) lease(d *ring.Descriptor) error {
	ref, err := i.arena.Alloc(d.Ref.Length, arena.Owner(i.id))
	answer := ring.Descriptor{Kind: system.DescriptorKind_lease, Aux: d.Aux, Ref: ref}
	if err != nil {
		answer = ring.Descriptor{Kind: system.DescriptorKind_leaseDenied, Aux: d.Aux, Status: uint16(compute.Status_outOfMemory)}
		if !errors.Is(err, arena.ErrFull) && !errors.Is(err, arena.ErrTooLarge) {
			i.log.Warn("lease refused", "bytes", d.Ref.Length, "error", err)
		}
	} else {
		answer.Ref.Length = i.arena.Capacity(ref)
	}
	i.unit.mu.Lock()
	err = i.link.Credits.Push(&answer)
	i.unit.mu.Unlock()
	if err != nil {
		if answer.Kind == system.DescriptorKind_lease {
			_ = i.arena.Free(ref, arena.Owner(i.id)) // nobody else knows of it
		}
		return fmt.Errorf("credit ring: %w", err)
	}
	i.link.PluginBell.Ring()
	return nil
}

// advance grants blocks ahead, up to the count of each class. An arena without
// room gets by without: the plugin then asks for what it needs. The caller holds
// unit.mu.
func (i *Instance) advance() {
	for class, c := range leaseClasses {
		for i.ahead[class] < c.count {
			ref, err := i.arena.Alloc(c.bytes, arena.Owner(i.id))
			if err != nil {
				return
			}
			ref.Length = i.arena.Capacity(ref)
			if err := i.link.Credits.Push(&ring.Descriptor{Kind: system.DescriptorKind_lease, Ref: ref}); err != nil {
				_ = i.arena.Free(ref, arena.Owner(i.id)) // nobody else knows of it
				return
			}
			i.ahead[class]++
			i.granted[ref.Slot] = class
		}
	}
}

// used notes that a block left the plugin's hands, so that one granted ahead is
// replaced. The caller holds unit.mu.
func (i *Instance) used(ref arena.Ref) {
	if class, ok := i.granted[ref.Slot]; ok {
		delete(i.granted, ref.Slot)
		i.ahead[class]--
	}
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
	i.log.Warn("refused what the plugin handed over", "error", err, "offences", n)
	if n >= int64(i.unit.engine.opts.MaxOffences) {
		i.condemn(fmt.Errorf("%d broken promises, the last: %w", n, err))
	}
}

// condemn asks the owner to end the process.
func (i *Instance) condemn(err error) {
	i.reported.Do(func() {
		if i.report != nil {
			go i.report(err)
		}
	})
}

// watchdog condemns the instance when the job is still in its hands after the
// grace.
func (i *Instance) watchdog(j *Job) {
	grace := i.unit.engine.opts.CancelGrace
	time.AfterFunc(grace, func() {
		if i.Job(j.id) == j {
			i.condemn(fmt.Errorf("job %x did not stop within %s of being cancelled", j.id, grace))
		}
	})
}

// Drain lets no new job start here and waits until none runs.
func (i *Instance) Drain(ctx context.Context) error {
	i.unit.mu.Lock()
	if i.phase == serving {
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
	i.stop.Store(true)
	i.link.HostBell.Interrupt()
	<-i.stopped
	i.consume()

	u := i.unit
	u.mu.Lock()
	i.phase = dead
	u.instances = slices.DeleteFunc(u.instances, func(o *Instance) bool { return o == i })
	type end struct {
		job *Job
		o   Outcome
	}
	var ends []end
	for _, j := range i.inflight {
		if o, over := u.orphan(j, cause); over {
			ends = append(ends, end{j, o})
		}
	}
	clear(i.inflight)
	i.idled()
	woken := u.fill()
	u.mu.Unlock()
	woken.ring()
	for _, e := range ends {
		e.job.settle(e.o)
	}
	return i.arena.Reclaim(arena.Owner(i.id))
}
