package dispatch

import (
	"fmt"
	"math"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

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

// consume takes what is on the ring, and no more than that holds: a plugin that
// keeps writing must not hold up Detach. It reports whether the ring is sound.
func (i *Instance) consume() bool {
	var d ring.Descriptor
	for range i.link.Completions.Entries() {
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
	return true
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
		if err := i.Free(d.Ref); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("descriptor of kind %d on the completion ring", d.Kind)
	}
}

// take verifies a block that the plugin hands over and makes it the host's.
func (i *Instance) take(ref arena.Ref) (*Piece, error) {
	i.unit.mu.Lock()
	err := i.arena.Transfer(ref, arena.Owner(i.id), arena.Host)
	if err == nil {
		i.used(ref)
	}
	i.unit.mu.Unlock()
	if err != nil {
		return nil, err
	}
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
	j, err := i.emitting(d.Job)
	if err != nil {
		p.Release()
		return err
	}
	p.job, p.acked = j, i
	if err := j.grew(p); err != nil {
		p.Release()
		j.stop(wire.AsError(err))
		return nil
	}
	j.deliver(p)
	return nil
}

// emitting finds the job that a piece of output is for, and takes a place in its
// window until the piece is acknowledged.
func (i *Instance) emitting(id uint64) (*Job, error) {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	j := i.inflight[id]
	switch {
	case j == nil || !j.spec.Streams:
		return nil, fmt.Errorf("job %x: a piece of output for a job that does not stream here", id)
	case j.unacked == wire.StreamWindow:
		return nil, fmt.Errorf("job %x: more than %d pieces of output that were not acknowledged", id, wire.StreamWindow)
	}
	j.unacked++
	return j, nil
}

// grew counts output against its bound.
func (j *Job) grew(p *Piece) error {
	total := j.outBytes.Add(uint64(len(p.bytes)))
	if limit := j.spec.MaxOutput; limit > 0 && total > limit {
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
	r, err := wire.DecodeResult(p.bytes) // of a copy: the plugin may still write
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
	j := i.Job(d.Job)
	if j == nil {
		if !d.Ref.IsZero() {
			if p, err := i.take(d.Ref); err == nil {
				p.Release()
			}
		}
		return fmt.Errorf("job %x ended, but it does not run here", d.Job)
	}
	o, p, offence := i.judge(j, d)
	if p != nil {
		p.job = j
		j.deliver(p)
	}

	u.mu.Lock()
	i.forget(j)
	j.state = ended
	j.unwatch()
	i.count(o.Status)
	if o.Status != compute.Status_success && o.Err == nil {
		if o.Err = j.explained; o.Err == nil {
			o.Err = statusError(j.cap.spec.Name, o.Status)
		}
	}
	j.release()
	i.advance()
	i.idled()
	if j.suspect && o.Status != compute.Status_canceled && o.Status != compute.Status_timeout {
		u.engine.ward.clear(j, i.digest) // it came to its end, and its process lives
	}
	var later errands
	u.fill(&later)
	u.mu.Unlock()
	later.ring(i)
	later.run()
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
