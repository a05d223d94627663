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
	retired   error
}

// size is how many jobs wait. The caller holds mu.
func (u *unit) size() int {
	n := u.queue.size + u.suspects.size
	for _, i := range u.instances {
		n += i.queue.size
	}
	return n
}

// line is where a job waits: with the only instance that may run it, among the
// suspects, or with the others. It is nil when that instance is gone. The caller
// holds mu.
func (u *unit) line(j *Job) *queue {
	switch {
	case j.only != 0:
		if i := u.instance(j.only); i != nil {
			return &i.queue
		}
		return nil
	case j.suspect:
		return &u.suspects
	default:
		return &u.queue
	}
}

// servedBy returns what one instance says of a capability, nil if it does not serve
// it.
func (u *unit) servedBy(instance uint32, name string) *capability {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := u.instance(instance); i != nil {
		if n, ok := i.index[name]; ok {
			return i.capability(i.m.Capabilities[n])
		}
	}
	return nil
}

func (i *Instance) capability(c wire.Capability) *capability {
	return &capability{spec: c, unit: i.unit, m: i.m, digest: i.digest}
}

// binary returns the digest of what is to run a job.
func (u *unit) binary(j *Job) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := u.instance(j.only); i != nil {
		return i.digest
	}
	return u.digest
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
	case u.line(j) == nil:
		err = addresseeGone(j.only)
	default:
		u.line(j).push(j)
		// Whoever gave the job its outcome before it stood here did not find it, so
		// nobody else would take it out.
		if j.over() {
			u.withdraw(j)
		}
		u.fill(&later)
	}
	u.mu.Unlock()
	later.run()
	return err
}

// fill starts waiting jobs while instances have room: those that only one instance
// may run, then the suspects, then the others; none of the three holds up another.
// The caller holds mu and runs the errands when it has let go of it.
func (u *unit) fill(later *errands) {
	for _, i := range u.instances {
		for j := i.queue.first(); j != nil && i.phase.open(); j = i.queue.first() {
			if !u.admits(j, i.digest, later) {
				continue
			}
			if !i.room(j) || !u.start(j, i, later) {
				break
			}
		}
	}
	for j := u.suspects.first(); j != nil && u.unguarded(); {
		next := u.suspects.after(j)
		if u.admits(j, u.digest, later) && !u.elsewhere(j) {
			u.place(j, later)
		}
		j = next
	}
	for j := u.queue.first(); j != nil; j = u.queue.first() {
		if !u.admits(j, u.digest, later) {
			continue
		}
		if j.suspect { // of what it was not when it came
			u.queue.remove(j)
			u.suspects.push(j)
			if !u.elsewhere(j) {
				u.place(j, later)
			}
			continue
		}
		if !u.place(j, later) {
			return
		}
	}
}

// admits takes a job out of its queue that has its outcome or must not start on a
// binary, and finds out whether it is a suspect there. The caller holds mu.
func (u *unit) admits(j *Job, plugin string, later *errands) bool {
	if j.over() { // whoever gave it its outcome waits for mu
		u.withdraw(j)
		return false
	}
	r := u.engine.ward.look(j, plugin)
	if j.suspect = r.kills > 0; r.kills >= u.engine.opts.MaxKills {
		u.refuse(j, quarantined(r.capability, r.kills, r.cause), later)
		return false
	}
	return true
}

// place gives a job to the instance that suits it best, or refuses it when there is
// none any more. It reports whether the job waits no longer. The caller holds mu.
func (u *unit) place(j *Job, later *errands) bool {
	for {
		i, hope := u.pick(j)
		switch {
		case i != nil:
		case hope:
			return false
		default:
			u.refuse(j, noLongerServed(j.cap.spec.Name, u.module), later)
			return true
		}
		if err := i.refit(j); err != nil {
			u.refuse(j, err, later)
			return true
		}
		if u.start(j, i, later) {
			return true
		}
	}
}

// start takes a job out of its queue and gives it to an instance. It reports whether
// that could be done; if not, the instance is condemned. The caller holds mu.
func (u *unit) start(j *Job, i *Instance, later *errands) bool {
	q := j.stands
	q.remove(j)
	switch {
	case j.begin != nil:
		j.gate = make(chan struct{})
		i.reserved++
		if j.suspect {
			i.suspects = append(i.suspects, j)
		}
		go u.begin(j, i)
	case i.start(j):
		later.ring(i)
	default:
		q.pushFront(j)
		return false
	}
	if j.only == 0 {
		u.counted(j, i)
	}
	return true
}

// begin has a job begin and then starts it, in the place that is kept for it. It
// waits again when the instance takes no jobs any more, or when it has become a
// suspect meanwhile.
func (u *unit) begin(j *Job, i *Instance) {
	defer close(j.gate)
	err := beforeBegin.Hit()
	if err == nil {
		err = j.begin()
	}
	var later errands
	u.mu.Lock()
	i.reserved--
	i.acquit(j)
	j.begin, j.begun = nil, true
	if err == nil && u.retired != nil {
		err = u.retired
	}
	line := u.line(j)
	if err == nil && line == nil {
		err = addresseeGone(j.only)
	}
	switch known := u.engine.ward.look(j, i.digest).kills > 0; {
	case err != nil || j.over():
		j.state = ended
		j.release()
		if err != nil {
			later.ended = append(later.ended, end{j, Outcome{Status: refusal(err), Err: wire.AsError(err), Attempts: j.attempts}})
		}
	case i.phase.open() && known == j.suspect && i.room(j) && i.start(j):
		later.ring(i)
	default:
		line.pushFront(j)
	}
	u.fill(&later)
	u.mu.Unlock()
	later.run()
}

// withdraw takes a job out of the queue for good. The caller holds mu.
func (u *unit) withdraw(j *Job) {
	j.stands.remove(j)
	j.state = ended
	j.release()
}

// refuse ends a job that waits. The caller holds mu.
func (u *unit) refuse(j *Job, err *wire.Error, later *errands) {
	u.withdraw(j)
	later.ended = append(later.ended, end{j, Outcome{Status: refusal(err), Err: err, Attempts: j.attempts}})
}

// cull ends the jobs that wait for a capability that the module has no more. The
// caller holds mu.
func (u *unit) cull(keep func(name string) bool, later *errands) {
	for _, q := range [...]*queue{&u.suspects, &u.queue} {
		for j := q.first(); j != nil; {
			next := q.after(j)
			if !keep(j.cap.spec.Name) {
				u.refuse(j, noLongerServed(j.cap.spec.Name, u.module), later)
			}
			j = next
		}
	}
}

// end is a job with the outcome that it is to have.
type end struct {
	job *Job
	o   Outcome
}

// errands are what a change of a unit leaves to do without its lock: bells to
// ring, usually one, so it is kept without memory of its own, and jobs to settle.
type errands struct {
	first *Instance
	more  []*Instance
	ended []end
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
	for _, n := range e.ended {
		n.job.settle(n.o)
	}
}

// pick returns the canary whose turn it is, or else the instance with the fewest jobs
// that serves the capability and has room, or nil. There is no hope when others of
// the module serve, but none of them this capability. The caller holds mu.
func (u *unit) pick(j *Job) (best *Instance, hope bool) {
	capability := j.cap.spec.Name
	others := false
	for _, i := range u.instances {
		if i.due(j) {
			return i, true
		}
		if i.phase != serving || i.condemned.Load() {
			continue
		}
		if _, ok := i.index[capability]; !ok {
			others = true
			continue
		}
		hope = true
		if i.room(j) && (best == nil || i.busy() < best.busy()) {
			best = i
		}
	}
	return best, hope || !others
}

// unguarded reports whether an instance may run a suspect now. The caller holds mu.
func (u *unit) unguarded() bool {
	return slices.ContainsFunc(u.instances, func(i *Instance) bool {
		return i.phase == serving && len(i.suspects) == 0 && i.busy() < i.limit && !i.condemned.Load()
	})
}

// elsewhere reports whether a job that is the same as a suspect runs or begins, so
// that it has to wait for what becomes of that one. The caller holds mu.
func (u *unit) elsewhere(j *Job) bool {
	return slices.ContainsFunc(u.instances, func(i *Instance) bool {
		return slices.ContainsFunc(i.suspects, func(s *Job) bool { return s.digest == j.digest })
	})
}

// alert has those under suspicion be known that run already: another copy of a job
// that was in flight where a process died. The caller holds mu.
func (u *unit) alert(plugin string) {
	for _, i := range u.instances {
		if i.digest != plugin {
			continue
		}
		for _, j := range i.inflight {
			if !j.suspect && u.engine.ward.look(j, plugin).kills > 0 {
				j.suspect = true
				i.suspects = append(i.suspects, j)
			}
		}
	}
}

// serves reports whether an instance in service knows the capability. The caller
// holds mu.
func (u *unit) serves(capability string) bool {
	return slices.ContainsFunc(u.instances, func(i *Instance) bool {
		_, ok := i.index[capability]
		return ok && i.home == serving && i.phase != dead
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
	var later errands
	lines := []*queue{&u.suspects, &u.queue}
	for _, i := range u.instances {
		lines = append(lines, &i.queue)
	}
	for _, q := range lines {
		for j := q.first(); j != nil; j = q.first() {
			u.refuse(j, gone, &later)
		}
	}
	u.mu.Unlock()
	later.run()
}

// maxStarts bounds how often a job is started again because of deaths that are not
// held against it.
const maxStarts = 64

// orphan decides what becomes of a job whose instance has died. The caller holds
// mu; a returned outcome is for it to settle once it has let go.
func (u *unit) orphan(j *Job, d *death, blamed bool) (Outcome, bool) {
	j.inst = nil
	j.unwatch()
	kills := 0
	if blamed { // also for what was cancelled and is asked for again
		kills = u.engine.ward.blame(j, d)
	}
	if j.over() {
		j.state = ended
		j.release()
		return Outcome{}, false
	}
	how := deathOf(u.module, j.id, d.cause)
	again := j.idempotent() && j.only == 0
	poison := kills >= u.engine.opts.MaxKills
	if again && !poison && j.attempts < maxStarts && u.retired == nil {
		if j.state = waiting; d.moved() {
			j.attempts--
		}
		// The binary that serves may be another than the one that died.
		j.suspect = u.engine.ward.look(j, u.digest).kills > 0
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

// idempotent reports whether the job, which was started, can be started again as it
// was.
func (j *Job) idempotent() bool {
	return j.spec.Idempotent && j.in.replayable() && j.outBytes.Load() == 0
}
