package dispatch

import (
	"slices"
	"sync"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// unit is a module in service: the proxy behind its capabilities. It outlives
// its instances, so jobs can wait while one is replaced or started again.
type unit struct {
	module string
	engine *Engine
	arena  *arena.Arena

	mu        sync.Mutex
	queue     queue
	instances []*Instance
	cost      wire.CostModel
	retired   error
}

// room refuses a job early when the queue is full, before its input is read.
func (u *unit) room() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retired != nil {
		return u.retired
	}
	if u.queue.size >= u.engine.opts.QueueLimit {
		return queueFull(u.module, u.engine.opts.QueueLimit)
	}
	return nil
}

// price returns the cost model of the newest instance.
func (u *unit) price() wire.CostModel {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cost
}

// load returns the instances in service, the jobs that wait, and those that run.
func (u *unit) load() (instances, waiting, running int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, i := range u.instances {
		if i.phase == serving {
			instances++
		}
		running += len(i.inflight)
	}
	return instances, u.queue.size, running
}

// standing describes where a job is.
func (u *unit) standing(j *Job) (state string, attempts int, instance uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if j.inst != nil {
		instance = j.inst.id
	}
	if j.state == waiting {
		return "waiting", j.attempts, instance
	}
	return "running", j.attempts, instance
}

// enqueue starts the job at once when somebody is free and nobody is before it,
// and lets it wait otherwise.
func (u *unit) enqueue(j *Job) error {
	var err error
	var later errands
	u.mu.Lock()
	switch limit := u.engine.opts.QueueLimit; {
	case u.retired != nil:
		err = u.retired
	case u.queue.size >= limit:
		err = queueFull(u.module, limit)
	default:
		u.queue.push(j)
		// Whoever gave the job its outcome before it stood here did not find it, so
		// nobody else would take it out.
		if j.over() {
			u.withdraw(j)
		}
		later = u.fill()
	}
	u.mu.Unlock()
	later.run()
	return err
}

// fill starts waiting jobs while instances have room. The caller holds mu and
// runs the errands when it has let go of it.
func (u *unit) fill() (later errands) {
	for j := u.queue.first(); j != nil; j = u.queue.first() {
		if j.over() { // whoever gave it its outcome waits for mu
			u.withdraw(j)
			continue
		}
		i, hope := u.pick(j.cap.spec.Name)
		switch {
		case i != nil:
			u.queue.remove(j)
			if i.start(j) {
				later.ring(i)
			} else { // the instance is condemned and not picked again
				u.queue.pushFront(j)
			}
		case !hope:
			u.withdraw(j)
			later.refused = append(later.refused, j)
		default:
			return later
		}
	}
	return later
}

// withdraw takes a job out of the queue for good. The caller holds mu.
func (u *unit) withdraw(j *Job) {
	u.queue.remove(j)
	j.state = ended
	j.release()
}

// errands are what a change of a unit leaves to do without its lock: bells to
// ring, usually one, so it is kept without memory of its own, and jobs to settle
// that nobody serves any more.
type errands struct {
	first   *Instance
	more    []*Instance
	refused []*Job
}

func (e *errands) ring(i *Instance) {
	switch {
	case e.first == nil || e.first == i:
		e.first = i
	case !slices.Contains(e.more, i):
		e.more = append(e.more, i)
	}
}

func (e *errands) run() {
	if e.first != nil {
		e.first.link.PluginBell.Ring()
	}
	for _, i := range e.more {
		i.link.PluginBell.Ring()
	}
	for _, j := range e.refused {
		j.settle(Outcome{Status: compute.Status_rejected, Err: noLongerServed(j.cap.spec.Name, j.unit.module), Attempts: j.attempts})
	}
}

// pick returns the instance with the fewest jobs that serves the capability and
// has room, or nil. There is no hope when others of the module serve, but none
// of them this capability. The caller holds mu.
func (u *unit) pick(capability string) (best *Instance, hope bool) {
	others := false
	for _, i := range u.instances {
		if i.phase != serving || i.condemned.Load() {
			continue
		}
		if _, ok := i.index[capability]; !ok {
			others = true
			continue
		}
		hope = true
		if len(i.inflight) < i.limit && (best == nil || len(i.inflight) < len(best.inflight)) {
			best = i
		}
	}
	return best, hope || !others
}

// serves reports whether an instance knows the capability. The caller holds mu.
func (u *unit) serves(capability string) bool {
	return slices.ContainsFunc(u.instances, func(i *Instance) bool {
		_, ok := i.index[capability]
		return ok
	})
}

// abandon takes a settled job out of the queue, or tells the plugin to stop it.
func (u *unit) abandon(j *Job) {
	u.mu.Lock()
	switch j.state {
	case waiting:
		if j.queued(u) {
			u.withdraw(j)
		}
		u.mu.Unlock()
	case running:
		i := j.inst
		j.mu.Lock()
		status := j.outcome.Status
		j.mu.Unlock()
		i.push(&ring.Descriptor{Kind: system.DescriptorKind_cancel, Job: j.id, Status: uint16(status)})
		i.watch(j)
		u.mu.Unlock()
		i.link.PluginBell.Ring()
	default:
		u.mu.Unlock()
	}
}

// queued reports whether j stands in the queue of u. The caller holds u.mu.
func (j *Job) queued(u *unit) bool {
	return j.prev != nil || j.next != nil || u.queue.lists[level(j.priority)].head == j
}

// retire fails every job that waits, and all that come.
func (u *unit) retire(reason error) {
	u.mu.Lock()
	if u.retired == nil { // the first reason is the one that counts
		u.retired = wire.NewError(base.Code_unavailable, "see inos plugin list", "%s is no longer served: %v", u.module, reason)
	}
	gone := wire.AsError(u.retired)
	var left []*Job
	for j := u.queue.first(); j != nil; j = u.queue.first() {
		u.withdraw(j)
		left = append(left, j)
	}
	u.mu.Unlock()
	for _, j := range left {
		j.settle(Outcome{Status: compute.Status_rejected, Err: gone, Attempts: j.attempts})
	}
}

// orphan decides what becomes of a job whose instance has died. The caller holds
// mu; a returned outcome is for it to settle once it has let go.
func (u *unit) orphan(j *Job, cause error) (Outcome, bool) {
	j.inst = nil
	j.unwatch()
	if j.over() {
		j.state = ended
		j.release()
		return Outcome{}, false
	}
	death := deathOf(u.module, j.id, cause)
	idempotent := j.cap.spec.Idempotent && j.in.replayable() && j.outBytes.Load() == 0
	if idempotent && j.attempts < u.engine.opts.MaxAttempts && u.retired == nil {
		j.state = waiting
		u.queue.pushFront(j)
		return Outcome{}, false
	}
	j.state = ended
	j.release()
	o := Outcome{Attempts: j.attempts}
	o.Metrics.Wall = time.Since(j.started)
	switch {
	case !idempotent:
		o.Status = compute.Status_outcomeUnknown
		o.Err = wire.NewError(base.Code_outcomeUnknown, "look whether it took effect, then run it again if it should", "%v", death)
	case u.retired != nil:
		o.Status, o.Err = compute.Status_rejected, wire.AsError(u.retired)
	default:
		o.Status = compute.Status_quarantined
		o.Err = wire.NewError(base.Code_quarantined, "look at the input and at the plugin's log: this job ended its plugin every time",
			"%v, for the %dth time", death, j.attempts)
	}
	return o, true
}
