package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// push sends one descriptor to the host. A full ring means that the host is
// behind; it waits for it, since a completion must not be lost, until the session
// ends. The service loop must not call it.
func (s *session) push(d *ring.Descriptor) {
	for s.ctx.Err() == nil {
		s.send.Lock()
		err := s.at.Completions.Push(d)
		s.send.Unlock()
		s.at.HostBell.Ring()
		if err == nil {
			return
		}
		if !errors.Is(err, ring.ErrFull) {
			s.cancel(fmt.Errorf("completion ring: %w", err))
			return
		}
		time.Sleep(fullRingPause)
	}
}

// fullRingPause is how long a job waits for the host to catch up. The ring holds
// hundreds of completions, so this is off the path of any node that keeps pace.
const fullRingPause = 100 * time.Microsecond

// work runs a job and reports what came of it, even when the handler ends its
// goroutine.
func (s *session) work(j *Job) {
	defer s.ended()
	status, err := compute.Status_panicked, error(errGoexit)
	defer func() { s.finish(j, status, err) }()
	status, err = j.run()
}

// finish gives back what a job held, forgets it and reports its outcome.
func (s *session) finish(j *Job, status compute.Status, err error) {
	s.mu.Lock()
	delete(s.jobs, j.id)
	s.mu.Unlock()
	j.end()
	var out arena.Ref
	if err != nil {
		j.drop()
	} else {
		out = j.result()
	}
	s.report(j.id, status, j.budget.Spent(), out, err)
}

// report tells the host the outcome of a job. An error goes before it, in a block
// of its own.
func (s *session) report(job uint64, status compute.Status, charged uint64, out arena.Ref, err error) {
	if e := atReport.Hit(); e != nil { // nothing is lost: the point is for delays and kills
		s.log.Warn("an outcome is reported despite its failpoint", "job", hex(job), "error", e)
	}
	done := ring.Descriptor{Kind: system.DescriptorKind_done, Job: job, Status: uint16(status), Ref: out}
	done.Args[0] = charged
	if err != nil {
		if head, ok := s.explain(job, status, err); ok {
			done.Set(system.DescriptorFlag_hasHead)
			s.push(&head)
		}
	}
	s.push(&done)
}

// explain writes the message that says why a job failed into a block.
func (s *session) explain(job uint64, status compute.Status, failure error) (ring.Descriptor, bool) {
	msg, err := wire.Result{ID: job, Status: status, Err: wire.AsError(failure)}.Encode()
	if err != nil {
		s.log.Error("cannot describe a failure", "job", hex(job), "failure", failure, "error", err)
		return ring.Descriptor{}, false
	}
	ctx, stop := context.WithTimeout(s.ctx, explainWait)
	defer stop()
	b, err := s.lease(ctx, uint64(len(msg)))
	if err != nil {
		s.log.Warn("no memory to describe a failure in", "job", hex(job), "failure", failure, "error", err)
		return ring.Descriptor{}, false
	}
	copy(b.bytes, msg)
	d := ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: job, Ref: b.ref}
	d.Ref.Length = uint64(len(msg))
	return d, true
}

// explainWait bounds the wait for memory to describe a failure in: without it the
// caller still learns the status.
const explainWait = time.Second

// lease returns a block of at least n bytes.
func (s *session) lease(ctx context.Context, n uint64) (block, error) {
	n = max(n, 1)
	if b, ok := s.leases.take(n); ok {
		return b, nil
	}
	number, c, err := s.leases.request()
	if err != nil {
		return block{}, err
	}
	s.push(&ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: number, Ref: arena.Ref{Length: n}})
	return s.leases.await(ctx, number, c)
}

// release keeps a block for the next job, or returns it to the host.
func (s *session) release(b block) {
	if uint64(len(b.bytes)) > pageLease || !s.leases.put(b) {
		s.giveUp(b)
	}
}

// pageLease is the largest block kept for later: larger ones are worth more to
// others.
const pageLease = 4096

// giveUp returns a block to the host.
func (s *session) giveUp(b block) {
	s.push(&ring.Descriptor{Kind: system.DescriptorKind_release, Ref: b.ref})
}

// emit sends a piece of output.
func (s *session) emit(job uint64, b block, n uint64) error {
	d := ring.Descriptor{Kind: system.DescriptorKind_output, Job: job, Ref: b.ref}
	d.Ref.Length = n
	s.push(&d)
	return context.Cause(s.ctx)
}

// consumed says that the oldest piece of input is no longer read. A host that
// cannot be told has gone, and the job with it.
func (s *session) consumed(job uint64) {
	s.push(&ring.Descriptor{Kind: system.DescriptorKind_consumed, Job: job, Aux: 1})
}

// progress is dropped when the ring is more than half full: a report is worth
// less than the completions that need the room.
func (s *session) progress(job, done, total uint64) {
	d := ring.Descriptor{Kind: system.DescriptorKind_progress, Job: job, Args: [2]uint64{done, total}}
	s.send.Lock()
	sent := s.at.Completions.Free() > s.at.Completions.Entries()/2 && s.at.Completions.Push(&d) == nil
	s.send.Unlock()
	if sent {
		s.at.HostBell.Ring()
	}
}

func (s *session) pieceBytes() uint64 { return s.piece }
