package sdk

import (
	"fmt"

	"inos/plugins/sdk/credits"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// accept takes in one descriptor of the submission ring.
func (s *session) accept(d *ring.Descriptor) {
	switch d.Kind {
	case system.DescriptorKind_head:
		s.acceptHead(d)
	case system.DescriptorKind_submit:
		head := s.head
		s.head = nil // it belongs to this submit or to none
		s.submit(d, head)
	case system.DescriptorKind_piece:
		s.acceptPiece(d)
	case system.DescriptorKind_cancel:
		if j := s.job(d.Job); j != nil {
			j.abort(cancelCause(compute.Status(d.Status)))
		}
	case system.DescriptorKind_ack:
		if j := s.job(d.Job); j != nil {
			for range min(d.Aux, wire.StreamWindow) {
				select {
				case j.credit <- struct{}{}:
				default: // more than was ever sent
				}
			}
		}
	default:
		s.log.Warn("ignored a descriptor of an unknown kind on the submission ring", "kind", d.Kind)
	}
}

func cancelCause(s compute.Status) error {
	if s == compute.Status_timeout {
		return errDeadline
	}
	return errCanceled
}

// acceptHead keeps the request message for the submit that follows at once.
func (s *session) acceptHead(d *ring.Descriptor) {
	s.head = nil
	mem, err := s.at.Arena.View(d.Ref)
	if err != nil {
		s.log.Error("a job's head lies outside the arena", "job", hex(d.Job), "error", err)
		return
	}
	head, err := wire.DecodeJob(mem)
	if err != nil {
		s.log.Error("a job's head cannot be read", "job", hex(d.Job), "error", err)
		return
	}
	if head.ID == d.Job {
		s.head = &head
	}
}

// submit starts a job on a goroutine of its own.
func (s *session) submit(d *ring.Descriptor, head *wire.Job) {
	if d.Has(system.DescriptorFlag_hasHead) && (head == nil || head.ID != d.Job) {
		s.reject(d.Job, "it was submitted without its head")
		return
	}
	if err := atIntake.Hit(); err != nil {
		s.reject(d.Job, "%w", err)
		return
	}
	if !d.Has(system.DescriptorFlag_hasHead) {
		head = new(wire.Job)
	}
	if uint64(d.Aux) >= uint64(len(s.plugin.Capabilities)) {
		s.reject(d.Job, "it is for capability %d of %d", d.Aux, len(s.plugin.Capabilities))
		return
	}
	first := piece{ref: d.Ref, last: !d.Has(system.DescriptorFlag_streamIn)}
	if !d.Ref.IsZero() {
		mem, err := s.at.Arena.View(d.Ref)
		if err != nil {
			s.reject(d.Job, "its input: %w", err)
			return
		}
		first.bytes, first.streamed = mem, !first.last
	}
	j := s.newJob(d, head)
	if first.last {
		j.head.InputBytes = uint64(len(first.bytes))
	}
	if first.last || !d.Ref.IsZero() {
		j.in <- first
	}
	if !s.begin(j) {
		s.errand(func() { s.report(j.id, compute.Status_rejected, 0, arena.Ref{}, errStopping) })
		return
	}
	go s.work(j)
}

func (s *session) newJob(d *ring.Descriptor, head *wire.Job) *Job {
	j := &Job{
		id: d.Job, spec: &s.plugin.Capabilities[d.Aux], head: *head, params: head.Params,
		deadline: int64(d.Args[0]), budget: credits.NewBudget(d.Args[1]),
		port: s, host: s.host, log: s.log, base: s.jobCtx,
		in: make(chan piece, wire.StreamWindow+1), // a window, and a last piece without bytes
	}
	if j.spec.Streams {
		j.credit = make(chan struct{}, wire.StreamWindow)
		for range wire.StreamWindow {
			j.credit <- struct{}{}
		}
	}
	return j
}

// reject answers a job that cannot be begun.
func (s *session) reject(job uint64, format string, args ...any) {
	err := wire.NewError(base.Code_internal, "tell the node's author", "job %x: %w", job, fmt.Errorf(format, args...))
	s.errand(func() { s.report(job, compute.Status_rejected, 0, arena.Ref{}, err) })
}

// acceptPiece hands one more piece of a stream to its job.
func (s *session) acceptPiece(d *ring.Descriptor) {
	j := s.job(d.Job)
	if j == nil {
		return // the job has ended and does not read any more
	}
	p := piece{ref: d.Ref, last: d.Has(system.DescriptorFlag_last), streamed: !d.Ref.IsZero()}
	if p.streamed {
		mem, err := s.at.Arena.View(d.Ref)
		if err != nil {
			j.abort(fmt.Errorf("job %x: input: %w", d.Job, err))
			return
		}
		p.bytes = mem
	}
	select {
	case j.in <- p:
	default:
		j.abort(fmt.Errorf("job %x: more pieces of input than the window of %d", d.Job, wire.StreamWindow))
	}
}

// hex is how a job's number is written everywhere.
func hex(job uint64) string { return fmt.Sprintf("%x", job) }
