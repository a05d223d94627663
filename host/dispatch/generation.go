package dispatch

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"inos/plugins/sdk/failpoint"
	"inos/protocols/compute/v1"
)

// Points of the engine, where a delay or a death is most likely to do harm.
var (
	beforeBegin  = failpoint.New("dispatch/begin")
	beforeFlip   = failpoint.New("dispatch/flip")
	duringDetach = failpoint.New("dispatch/detach")
)

// ErrMoved in the cause of Detach says that the process was ended although it was
// well: its jobs go elsewhere, and nothing is held against them.
var ErrMoved = errors.New("the job goes to another process")

// Tally counts the jobs that an instance ended. Failed are those that failed
// through the plugin: neither the caller's parameters, deadline, budget nor
// cancellation count.
type Tally struct{ Succeeded, Failed uint64 }

// Tally returns the counts so far.
func (i *Instance) Tally() Tally { return Tally{i.tally[0].Load(), i.tally[1].Load()} }

// count takes the end of a job into the tally.
func (i *Instance) count(s compute.Status) {
	switch s {
	case compute.Status_success:
		i.tally[0].Add(1)
	case compute.Status_failed:
		i.tally[1].Add(1)
	}
}

// Canary gives an instance on trial about so many percent of the jobs of those
// capabilities that it describes as the generation does that serves. The share is
// counted, not drawn. 0 is none.
func (i *Instance) Canary(percent int) {
	e, u := i.unit.engine, i.unit
	e.mu.RLock()
	u.mu.Lock()
	i.percent, i.turns, i.same = min(max(percent, 0), 100), 0, make(map[string]bool)
	for _, c := range i.m.Capabilities {
		if now := e.capabilities[c.Name]; now != nil && now.unit == u {
			i.same[c.Name] = reflect.DeepEqual(now.spec, c)
		}
	}
	var later errands
	u.fill(&later)
	u.mu.Unlock()
	e.mu.RUnlock()
	later.run()
}

// fits reports whether a canary may run a job: one that neither binary is suspected
// to be ended by. The caller holds unit.mu.
func (i *Instance) fits(j *Job) bool {
	return i.phase == trial && i.percent > 0 && i.same[j.cap.spec.Name] && !j.suspect &&
		i.unit.engine.ward.look(j, i.digest).kills == 0
}

// due reports whether a job is the canary's. The caller holds unit.mu.
func (i *Instance) due(j *Job) bool {
	return i.percent > 0 && i.turns+i.percent >= 100 && i.fits(j) && i.room(j)
}

// owed bounds what a canary that had no room may catch up with, in percent of a job.
const owed = 200

// counted has the canaries take note that to got a job that they might have got. The
// caller holds unit.mu.
func (u *unit) counted(j *Job, to *Instance) {
	for _, i := range u.instances {
		if i.percent > 0 && i.fits(j) {
			if i.turns = min(i.turns+i.percent, owed); i == to {
				i.turns -= 100
			}
		}
	}
}

// Flip gives all jobs of a module to some of its instances and none to the others,
// at one instant. What the first of them describes is the module's from now on; jobs
// that wait for a capability that it does not have any more end.
func (e *Engine) Flip(to ...*Instance) error {
	if len(to) == 0 {
		return errors.New("dispatch: a flip to nobody")
	}
	if err := beforeFlip.Hit(); err != nil {
		return err
	}
	u := to[0].unit
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return errStopping
	}
	if err := e.claim(u.module, to[0].m.Capabilities); err != nil {
		e.mu.Unlock()
		return err
	}
	u.mu.Lock()
	if u.retired != nil {
		defer e.mu.Unlock()
		defer u.mu.Unlock()
		return u.retired
	}
	for _, i := range to {
		if i.unit != u || i.phase == dead {
			u.mu.Unlock()
			e.mu.Unlock()
			return fmt.Errorf("dispatch: instance %d is gone, or is not of %s", i.id, u.module)
		}
	}
	for _, i := range u.instances {
		i.percent = 0 // a canary's share was of those that served until now
		switch {
		case slices.Contains(to, i):
			i.phase, i.home = serving, serving
		case i.phase == serving:
			i.phase = draining
		}
	}
	keep := func(name string) bool { _, ok := to[0].index[name]; return ok }
	e.drop(u, keep, errReplaced)
	e.adopt(to[0])
	var later errands
	u.cull(keep, &later)
	u.fill(&later)
	u.mu.Unlock()
	e.mu.Unlock()
	later.run()
	return nil
}

// Resume lets an instance take jobs again after Drain, or after a Flip that is
// undone. One on trial stays on trial.
func (i *Instance) Resume() {
	u := i.unit
	u.mu.Lock()
	if i.phase == draining {
		i.phase = i.home
	}
	var later errands
	u.fill(&later)
	u.mu.Unlock()
	later.run()
}

// Movable counts the jobs in flight that could start again elsewhere, and those
// that could not. One that begins has not started, so it can.
func (i *Instance) Movable() (movable, fixed int) {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	for _, j := range i.inflight {
		if j.idempotent() && j.only == 0 {
			movable++
		} else {
			fixed++
		}
	}
	return movable + i.reserved, fixed
}

// busy returns the places that are taken. The caller holds unit.mu.
func (i *Instance) busy() int { return len(i.inflight) + i.reserved }

// room reports whether a job may start here too. The caller holds unit.mu.
func (i *Instance) room(j *Job) bool {
	return i.busy() < i.limit && (!j.suspect || len(i.suspects) == 0) && !i.condemned.Load()
}

// forget takes a job off the list of those in flight. The caller holds unit.mu.
func (i *Instance) forget(j *Job) {
	delete(i.inflight, j.id)
	i.acquit(j)
}

// acquit takes a job off the list of suspects. The caller holds unit.mu.
func (i *Instance) acquit(j *Job) {
	if len(i.suspects) > 0 {
		i.suspects = slices.DeleteFunc(i.suspects, func(s *Job) bool { return s == j })
	}
}

// blame decides to whom the death of the instance is charged: to nobody when it was
// moved, to the jobs that would not stop if it was ended for that, to the suspect in
// flight if there is one, and else to every job in flight. The caller holds unit.mu.
func (i *Instance) blame(cause error) func(*Job) bool {
	moved, hung := errors.Is(cause, ErrMoved), false
	for _, j := range i.inflight {
		hung = hung || j.hung
	}
	alone := slices.ContainsFunc(i.suspects, func(j *Job) bool { return j.state == running })
	return func(j *Job) bool {
		switch {
		case moved:
			return false
		case hung:
			return j.hung
		default:
			return j.suspect || !alone
		}
	}
}
