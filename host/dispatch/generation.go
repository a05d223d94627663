package dispatch

import (
	"errors"
	"fmt"
	"maps"
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
	defer e.mu.RUnlock()
	u.mu.Lock()
	i.percent, i.same = min(max(percent, 0), 100), make(map[string]bool)
	for _, c := range i.m.Capabilities {
		if now := e.capabilities[c.Name]; now != nil && now.unit == u {
			i.same[c.Name] = reflect.DeepEqual(now.spec, c)
		}
	}
	later := u.fill()
	u.mu.Unlock()
	later.run()
}

// fits reports whether a canary may run a job. The caller holds unit.mu.
func (i *Instance) fits(j *Job) bool {
	return i.same[j.cap.spec.Name] && !j.suspect && !i.condemned.Load()
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
	for _, i := range to {
		if i.unit != u || i.phase == dead {
			u.mu.Unlock()
			e.mu.Unlock()
			return fmt.Errorf("dispatch: instance %d is gone, or is not of %s", i.id, u.module)
		}
	}
	for _, i := range u.instances {
		switch {
		case slices.Contains(to, i):
			i.phase, i.percent = serving, 0
		case i.phase == serving:
			i.phase = draining
		}
	}
	maps.DeleteFunc(e.capabilities, func(_ string, c *capability) bool { return c.unit == u })
	e.adopt(to[0])
	later := u.fill()
	u.mu.Unlock()
	e.mu.Unlock()
	later.run()
	return nil
}

// Resume lets an instance take jobs again after Drain, or after a Flip that is
// undone.
func (i *Instance) Resume() {
	u := i.unit
	u.mu.Lock()
	if i.phase == draining {
		i.phase = serving
	}
	later := u.fill()
	u.mu.Unlock()
	later.run()
}

// Movable counts the jobs in flight that could start again elsewhere, and those
// that could not.
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
	return movable, fixed + i.reserved
}

// busy returns the places that are taken. The caller holds unit.mu.
func (i *Instance) busy() int { return len(i.inflight) + i.reserved }

// room reports whether one more job may start. The caller holds unit.mu.
func (i *Instance) room() bool { return i.busy() < i.limit && !i.condemned.Load() }

// forget takes a job off the list of those in flight. The caller holds unit.mu.
func (i *Instance) forget(j *Job) {
	delete(i.inflight, j.id)
	if j.suspect {
		i.suspects--
	}
}

// blame decides to whom the death of the instance is charged: to nobody when it was
// moved, to the suspect in flight if there is one, and else to every job in flight.
// The caller holds unit.mu.
func (i *Instance) blame(cause error) func(*Job) bool {
	moved, alone := errors.Is(cause, ErrMoved), i.suspects > 0
	return func(j *Job) bool { return !moved && (j.suspect || !alone) }
}
