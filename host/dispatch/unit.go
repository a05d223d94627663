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
	suspects  queue // jobs that run one at a time, see ward
	instances []*Instance
	cost      wire.CostModel
	digest    string // of the binary that serves
	turns     int    // of canaries, in percent
	retired   error
}

// size is how many jobs wait. The caller holds mu.
func (u *unit) size() int { return u.queue.size + u.suspects.size }

// line is where a job waits. The caller holds mu.
func (u *unit) line(j *Job) *queue {
	if j.suspect {
		return &u.suspects
	}
	return &u.queue
}

// specOf finds what one instance says of a capability.
func (u *unit) specOf(instance uint32, capability string) (wire.Capability, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := u.instance(instance); i != nil {
		if n, ok := i.index[capability]; ok {
			return i.m.Capabilities[n], true
		}
	}
	return wire.Capability{}, false
}

// instance finds one that is alive. The caller holds mu.
func (u *unit) instance(id uint32) *Instance {
	for _, i := range u.instances {
		if i.id == id && i.phase != dead {
			return i
		}
	}
	return nil
}

// room refuses a job early when the queue is full, before its input is read.
func (u *unit) room() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retired != nil {
		return u.retired
	}
	if u.size() >= u.engine.opts.QueueLimit {
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
	return instances, u.size(), running
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
	case u.size() >= limit:
		err = queueFull(u.module, limit)
	case j.only != 0 && u.instance(j.only) == nil:
		err = addresseeGone(j.only)
	default:
		if j.only != 0 {
			u.instance(j.only).queue.push(j)
		} else {
			u.line(j).push(j)
		}
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

// fill starts waiting jobs while instances have room: those that only one instance
// may run, then those that run alone, then the others. The caller holds mu and runs
// the errands when it has let go of it.
func (u *unit) fill() (later errands) {
	for _, i := range u.instances {
		for j := i.queue.first(); j != nil && i.room() && i.phase != dead; j = i.queue.first() {
			u.start(j, i, &later)
		}
	}
	for _, q := range [...]*queue{&u.suspects, &u.queue} {
		for j := q.first(); j != nil; j = q.first() {
			if j.over() { // whoever gave it its outcome waits for mu
				u.withdraw(j)
				continue
			}
			i, hope := u.pick(j)
			if i == nil && hope {
				break
			}
			if i == nil {
				u.withdraw(j)
				later.refused = append(later.refused, j)
				continue
			}
			u.start(j, i, &later)
		}
	}
	return later
}

// start takes a job out of its queue and gives it to an instance. The caller holds
// mu.
func (u *unit) start(j *Job, i *Instance, later *errands) {
	q := j.stands
	if j.over() {
		u.withdraw(j)
		return
	}
	q.remove(j)
	if j.begin != nil {
		i.reserved++
		j.gated = true
		go u.gate(j, i)
		return
	}
	if i.start(j) {
		later.ring(i)
	} else { // the instance is condemned and not picked again
		q.pushFront(j)
		if q == &i.queue {
			u.withdraw(j)
			later.refused = append(later.refused, j)
		}
	}
}

// gate has a job begin and then starts it, in the place that is kept for it, or
// lets it wait again when the instance is not there any more.
func (u *unit) gate(j *Job, i *Instance) {
	err := beforeBegin.Hit()
	if err == nil {
		err = j.begin()
	}
	var later errands
	u.mu.Lock()
	i.reserved--
	j.begin, j.gated = nil, false
	refused := u.retired
	switch {
	case err != nil || refused != nil || j.over():
		j.state = ended
		j.release()
	case j.only == 0 && (i.phase == dead || i.phase == draining || i.condemned.Load()) || !i.start(j):
		u.line(j).pushFront(j)
	default:
		later.ring(i)
	}
	also := u.fill()
	u.mu.Unlock()
	later.run()
	also.run()
	switch {
	case err != nil:
		j.settle(Outcome{Status: statusOf(err), Err: wire.AsError(err), Attempts: j.attempts})
	case refused != nil:
		j.settle(Outcome{Status: compute.Status_rejected, Err: wire.AsError(refused), Attempts: j.attempts})
	}
}

// withdraw takes a job out of the queue for good. The caller holds mu.
func (u *unit) withdraw(j *Job) {
	j.stands.remove(j)
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
// has room, or nil. There is no hope when others of the module serve, but none of
// them this capability. The caller holds mu.
func (u *unit) pick(j *Job) (best *Instance, hope bool) {
	capability := j.cap.spec.Name
	others := false
	for _, i := range u.instances {
		if i.phase == trial && i.percent > 0 && i.fits(j) && i.room() {
			if u.turns += i.percent; u.turns >= 100 {
				u.turns -= 100
				return i, true
			}
		}
		if i.phase != serving || i.condemned.Load() {
			continue
		}
		if _, ok := i.index[capability]; !ok {
			others = true
			continue
		}
		hope = true
		if i.room() && !(j.suspect && i.suspects > 0) && (best == nil || i.busy() < best.busy()) {
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
		if j.stands != nil { // else it is at the gate, which sees that it is over
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

// retire fails every job that waits, and all that come.
func (u *unit) retire(reason error) {
	u.mu.Lock()
	if u.retired == nil { // the first reason is the one that counts
		u.retired = wire.NewError(base.Code_unavailable, "see inos plugin list", "%s is no longer served: %v", u.module, reason)
	}
	gone := wire.AsError(u.retired)
	var left []*Job
	for _, q := range [...]*queue{&u.suspects, &u.queue} {
		for j := q.first(); j != nil; j = q.first() {
			u.withdraw(j)
			left = append(left, j)
		}
	}
	u.mu.Unlock()
	for _, j := range left {
		j.settle(Outcome{Status: compute.Status_rejected, Err: gone, Attempts: j.attempts})
	}
}

// maxStarts bounds how often a job is started again because of deaths that are not
// held against it.
const maxStarts = 64

// orphan decides what becomes of a job whose instance has died. The caller holds
// mu; a returned outcome is for it to settle once it has let go.
func (u *unit) orphan(j *Job, d *death, blamed bool) (Outcome, bool) {
	j.inst = nil
	j.unwatch()
	if j.over() {
		j.state = ended
		j.release()
		return Outcome{}, false
	}
	kills := 0
	if blamed {
		kills = u.engine.ward.blame(j, d)
	}
	how := deathOf(u.module, j.id, d.cause)
	again := j.idempotent() && j.only == 0
	poison := kills >= u.engine.opts.MaxKills
	if again && !poison && j.attempts < maxStarts && u.retired == nil {
		j.state = waiting
		j.suspect = j.suspect || blamed
		u.line(j).pushFront(j)
		return Outcome{}, false
	}
	j.state = ended
	j.release()
	o := Outcome{Attempts: j.attempts}
	o.Metrics.Wall = time.Since(j.started)
	switch {
	case poison && j.idempotent():
		o.Status = compute.Status_quarantined
		o.Err = quarantined(j.cap.spec.Name, kills, how)
	case !again:
		o.Status = compute.Status_outcomeUnknown
		o.Err = wire.NewError(base.Code_outcomeUnknown, "look whether it took effect, then run it again if it should", "%v", how)
	case u.retired != nil:
		o.Status, o.Err = compute.Status_rejected, wire.AsError(u.retired)
	default:
		o.Status = compute.Status_failed
		o.Err = wire.NewError(base.Code_unavailable, "look at the log of the plugin, then run the job again", "%v, for the %dth time", how, j.attempts)
	}
	return o, true
}

// idempotent reports whether the job can be started again as it was.
func (j *Job) idempotent() bool {
	return j.cap.spec.Idempotent && j.in.replayable() && j.outBytes.Load() == 0
}
