package sdk

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/credits"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
	"inos/shm/segment"
)

// heartbeat is how often an idle service loop shows that it is alive.
const heartbeat = 500 * time.Millisecond

// session is one attachment to the node's segment: the service loop that takes
// descriptors off the rings, and the jobs that run because of them.
//
// The service loop alone reads the submission and credit rings. Any goroutine
// may write the completion ring under send.
type session struct {
	plugin *Plugin
	at     *segment.Attached
	host   *Host
	log    hclog.Logger
	leases *leases
	piece  uint64

	send sync.Mutex // guards at.Completions

	heads map[uint64]wire.Job // whose submit has not come yet; the service loop's own

	mu      sync.Mutex
	jobs    map[uint64]*Job
	running int
	onIdle  []chan struct{} // closed when running falls to 0

	loopEnd chan struct{}
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

func newSession(p *Plugin, at *segment.Attached, h *Host, log hclog.Logger) *session {
	s := &session{
		plugin: p, at: at, host: h, log: log, leases: newLeases(),
		piece: wire.PieceBytes(at.Arena.Size()),
		jobs:  make(map[uint64]*Job), heads: make(map[uint64]wire.Job),
		loopEnd: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// serve runs the service loop until the session is stopped.
func (s *session) serve() {
	defer close(s.loopEnd)
	for s.ctx.Err() == nil {
		s.at.Heartbeat()
		s.at.PluginBell.Wait(s.pending, time.Now().Add(heartbeat))
		if err := s.drain(); err != nil {
			// Only the host writes these rings. If they are broken, so is the node's
			// promise, and no answer of ours can be trusted to arrive.
			s.log.Error("the rings are damaged, stopping", "error", err)
			s.cancel(err)
		}
	}
}

func (s *session) pending() bool {
	return s.at.Submissions.Ready() || s.at.Credits.Ready() || s.ctx.Err() != nil
}

// drain takes everything off both rings.
func (s *session) drain() error {
	var d ring.Descriptor
	for {
		ok, err := s.at.Credits.Pop(&d)
		if err != nil {
			return fmt.Errorf("credit ring: %w", err)
		}
		if !ok {
			break
		}
		s.credit(&d)
	}
	for {
		ok, err := s.at.Submissions.Pop(&d)
		if err != nil {
			return fmt.Errorf("submission ring: %w", err)
		}
		if !ok {
			return nil
		}
		s.accept(&d)
	}
}

// credit takes in a lease, or the refusal of one.
func (s *session) credit(d *ring.Descriptor) {
	switch d.Kind {
	case system.DescriptorKind_lease:
		mem, err := s.at.Arena.View(d.Ref)
		if err != nil {
			s.log.Error("the host granted a block outside the arena", "error", err)
			return
		}
		b := block{ref: d.Ref, bytes: mem}
		if !s.leases.answer(d.Aux, grant{block: b}) {
			s.giveUp(b)
		}
	case system.DescriptorKind_leaseDenied:
		s.leases.answer(d.Aux, grant{err: errArenaFull})
	default:
		s.log.Warn("unknown descriptor on the credit ring", "kind", d.Kind)
	}
}

// accept takes in one descriptor of the submission ring.
func (s *session) accept(d *ring.Descriptor) {
	switch d.Kind {
	case system.DescriptorKind_head:
		s.acceptHead(d)
	case system.DescriptorKind_submit:
		s.submit(d)
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
		s.log.Warn("unknown descriptor on the submission ring", "kind", d.Kind)
	}
}

func cancelCause(s compute.Status) error {
	if s == compute.Status_timeout {
		return errDeadline
	}
	return errCanceled
}

// acceptHead keeps the request message for the submit that follows.
func (s *session) acceptHead(d *ring.Descriptor) {
	mem, err := s.at.Arena.View(d.Ref)
	if err != nil {
		s.log.Error("a job's head lies outside the arena", "job", d.Job, "error", err)
		return
	}
	head, err := wire.DecodeJob(mem)
	if err != nil {
		s.log.Error("a job's head cannot be read", "job", d.Job, "error", err)
		return
	}
	s.heads[d.Job] = head
}

// submit starts a job on a goroutine of its own.
func (s *session) submit(d *ring.Descriptor) {
	head, found := s.heads[d.Job]
	delete(s.heads, d.Job)
	if d.Has(system.DescriptorFlag_hasHead) != found || int64(d.Aux) >= int64(len(s.plugin.Capabilities)) {
		s.finish(&Job{id: d.Job}, compute.Status_rejected, fmt.Errorf("job %d: submitted without its head or for capability %d of %d",
			d.Job, d.Aux, len(s.plugin.Capabilities)))
		return
	}
	j := &Job{
		id: d.Job, spec: &s.plugin.Capabilities[d.Aux], head: head, params: head.Params,
		deadline: int64(d.Args[0]), budget: credits.NewBudget(d.Args[1]),
		port: s, host: s.host, log: s.log, base: s.ctx,
		in: make(chan piece, wire.StreamWindow+1),
	}
	if j.spec.Streams {
		j.credit = make(chan struct{}, wire.StreamWindow)
		for range wire.StreamWindow {
			j.credit <- struct{}{}
		}
	}
	j.host = s.host.forJob(j)
	first := piece{last: d.Has(system.DescriptorFlag_last) || !d.Has(system.DescriptorFlag_streamIn)}
	first.streamed = d.Has(system.DescriptorFlag_streamIn) && !d.Ref.IsZero()
	if !d.Ref.IsZero() {
		first.ref = d.Ref
		mem, err := s.at.Arena.View(d.Ref)
		if err != nil {
			s.finish(j, compute.Status_rejected, fmt.Errorf("job %d: input: %w", d.Job, err))
			return
		}
		first.bytes = mem
	}
	if !d.Ref.IsZero() || first.last {
		j.in <- first
	}
	s.mu.Lock()
	s.jobs[j.id] = j
	s.running++
	s.mu.Unlock()
	go func() {
		defer s.ended()
		status, err := j.run()
		s.finish(j, status, err)
	}()
}

// acceptPiece hands one more piece of a stream to its job.
func (s *session) acceptPiece(d *ring.Descriptor) {
	j := s.job(d.Job)
	if j == nil {
		return // the job has ended and does not read any more
	}
	p := piece{ref: d.Ref, last: d.Has(system.DescriptorFlag_last), streamed: !d.Ref.IsZero()}
	if !d.Ref.IsZero() {
		mem, err := s.at.Arena.View(d.Ref)
		if err != nil {
			j.abort(fmt.Errorf("job %d: input: %w", d.Job, err))
			return
		}
		p.bytes = mem
	}
	select {
	case j.in <- p:
	default:
		j.abort(fmt.Errorf("job %d: more pieces than the window of %d", d.Job, wire.StreamWindow))
	}
}

func (s *session) job(id uint64) *Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[id]
}

// finish reports the outcome of a job and forgets it.
func (s *session) finish(j *Job, status compute.Status, err error) {
	s.mu.Lock()
	delete(s.jobs, j.id)
	s.mu.Unlock()
	done := ring.Descriptor{Kind: system.DescriptorKind_done, Job: j.id, Status: uint16(status)}
	if j.budget != nil {
		done.Args[0] = j.budget.Spent()
		j.end()
	}
	if err != nil {
		j.drop()
		if head, ok := s.errorHead(j.id, status, err); ok {
			done.Set(system.DescriptorFlag_hasHead)
			s.push(&head)
		}
	} else if j.written > 0 {
		done.Ref = j.out.ref
		done.Ref.Length = j.written
	} else {
		j.drop()
	}
	s.push(&done)
}

// errorHead writes the message that explains a failure into a block.
func (s *session) errorHead(id uint64, status compute.Status, err error) (ring.Descriptor, bool) {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = wire.AsError(err)
	}
	msg, encErr := wire.Result{ID: id, Status: status, Err: e}.Encode()
	if encErr != nil {
		s.log.Error("cannot describe a failure", "job", id, "failure", err, "error", encErr)
		return ring.Descriptor{}, false
	}
	ctx, stop := context.WithTimeout(s.ctx, errorLeaseWait)
	defer stop()
	b, leaseErr := s.lease(ctx, uint64(len(msg)))
	if leaseErr != nil {
		s.log.Warn("no memory to describe a failure", "job", id, "failure", err)
		return ring.Descriptor{}, false
	}
	copy(b.bytes, msg)
	d := ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: id, Ref: b.ref}
	d.Ref.Length = uint64(len(msg))
	return d, true
}

// errorLeaseWait bounds the wait for memory to describe a failure in: without
// it the caller still learns the status.
const errorLeaseWait = time.Second

// push sends one descriptor to the host. A full ring means that the host is
// behind; it waits for it, since a completion must not be lost, until the
// session ends.
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
		runtime.Gosched()
		time.Sleep(fullRingPause)
	}
}

// fullRingPause is how long a job waits for the host to catch up. The ring holds
// hundreds of completions, so this is off the path of any node that keeps pace.
const fullRingPause = 100 * time.Microsecond

// lease returns a block of at least n bytes.
func (s *session) lease(ctx context.Context, n uint64) (block, error) {
	if b, ok := s.leases.take(max(n, 1)); ok {
		return b, nil
	}
	number, c, err := s.leases.request()
	if err != nil {
		return block{}, err
	}
	s.push(&ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: number, Ref: arena.Ref{Length: max(n, 1)}})
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

func (s *session) emit(job uint64, b block, n uint64) error {
	d := ring.Descriptor{Kind: system.DescriptorKind_output, Job: job, Ref: b.ref}
	d.Ref.Length = n
	s.push(&d)
	return context.Cause(s.ctx)
}

func (s *session) consumed(job uint64) error {
	s.push(&ring.Descriptor{Kind: system.DescriptorKind_consumed, Job: job, Aux: 1})
	return context.Cause(s.ctx)
}

// progress is dropped when the ring is more than half full: a report is worth
// less than the completions that need the room.
func (s *session) progress(job, done, total uint64) {
	d := ring.Descriptor{Kind: system.DescriptorKind_progress, Job: job, Args: [2]uint64{done, total}}
	s.send.Lock()
	defer s.send.Unlock()
	if s.at.Completions.Free() > s.at.Completions.Entries()/2 {
		_ = s.at.Completions.Push(&d)
		s.at.HostBell.Ring()
	}
}

func (s *session) pieceBytes() uint64 { return s.piece }

// ended counts a job out, after its last use of the session.
func (s *session) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.running == 0 {
		for _, c := range s.onIdle {
			close(c)
		}
		s.onIdle = nil
	}
}

// load returns the number of jobs in handlers.
func (s *session) load() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// idle waits until no job runs.
func (s *session) idle(ctx context.Context) error {
	s.mu.Lock()
	if s.running == 0 {
		s.mu.Unlock()
		return nil
	}
	c := make(chan struct{})
	s.onIdle = append(s.onIdle, c)
	s.mu.Unlock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d jobs are still running: %w", s.load(), ctx.Err())
	}
}

// stop ends the loop and the jobs, and detaches from the segment once nothing
// of this process uses it any more.
func (s *session) stop(ctx context.Context) error {
	s.cancel(errCanceled)
	s.leases.close(errCanceled)
	s.at.PluginBell.Interrupt()
	<-s.loopEnd
	if err := s.idle(ctx); err != nil {
		return err // views may be in use: the mapping ends with the process
	}
	return s.at.Close()
}
