package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/ring"
	"inos/shm/segment"
)

// heartbeat is how often an idle service loop shows that it is alive.
const heartbeat = 500 * time.Millisecond

// session is one attachment to the node's segment: the service loop that takes
// descriptors off the rings, and the jobs that run because of them.
//
// The service loop alone reads the submission and credit rings, and never waits
// for anything but its bell. Any goroutine may write the completion ring under
// send.
type session struct {
	plugin *Plugin
	at     *segment.Attached
	host   *Host
	log    hclog.Logger
	leases *leases
	piece  uint64

	frozen atomic.Bool // state must not change any more

	send sync.Mutex // guards at.Completions

	head *wire.Job // of the submit that comes next; the service loop's own

	mu      sync.Mutex
	jobs    map[uint64]*Job
	running int             // jobs, from their submit until nothing of them uses the rings
	halting bool            // no job is taken any more
	onIdle  []chan struct{} // closed when running falls to 0
	onPass  []chan struct{} // closed when the loop has taken what was on the rings

	serving   atomic.Bool // the loop was started
	loopEnd   chan struct{}
	ctx       context.Context // ends with the session
	cancel    context.CancelCauseFunc
	jobCtx    context.Context // ends when the jobs should
	cancelAll context.CancelCauseFunc
}

func newSession(p *Plugin, at *segment.Attached, h *Host, log hclog.Logger) *session {
	s := &session{
		plugin: p, at: at, host: h, log: log, leases: newLeases(),
		piece: wire.PieceBytes(at.Arena.Size()), jobs: make(map[uint64]*Job), loopEnd: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.jobCtx, s.cancelAll = context.WithCancelCause(s.ctx)
	return s
}

// start begins to serve.
func (s *session) start() {
	s.serving.Store(true)
	go s.serve()
}

// serve runs the service loop until the session is closed.
func (s *session) serve() {
	defer close(s.loopEnd)
	defer func() { s.leases.close(context.Cause(s.ctx)) }()
	pending := func() bool { return s.at.Submissions.Ready() || s.at.Credits.Ready() || s.ctx.Err() != nil }
	for s.ctx.Err() == nil {
		s.at.Heartbeat()
		s.at.PluginBell.Wait(pending, time.Now().Add(heartbeat))
		s.mu.Lock()
		passed := s.onPass
		s.onPass = nil
		s.mu.Unlock()
		if err := s.take(); err != nil {
			// Only the host writes these rings. If they are broken, so is the node's
			// promise, and no answer of ours can be trusted to arrive.
			s.log.Error("the rings are damaged, no job is served any more; the node will end this process", "error", err)
			s.cancel(err)
		}
		for _, c := range passed {
			close(c)
		}
	}
}

// take takes what is on both rings, and no more than one lap of each, so that
// neither keeps the other or the heartbeat waiting.
func (s *session) take() error {
	if err := lap(s.at.Credits, s.credit); err != nil {
		return fmt.Errorf("credit ring: %w", err)
	}
	if err := lap(s.at.Submissions, s.accept); err != nil {
		return fmt.Errorf("submission ring: %w", err)
	}
	return nil
}

// lap takes up to a whole ring of descriptors.
func lap(r *ring.Consumer, each func(*ring.Descriptor)) error {
	var d ring.Descriptor
	for range r.Entries() {
		if ok, err := r.Pop(&d); !ok {
			return err
		}
		each(&d)
	}
	return nil
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
			s.errand(func() { s.giveUp(b) })
		}
	case system.DescriptorKind_leaseDenied:
		s.leases.answer(d.Aux, grant{err: errArenaFull})
	default:
		s.log.Warn("ignored a descriptor of an unknown kind on the credit ring", "kind", d.Kind)
	}
}

// begin counts in a job, which has a number of its own, or an errand, which is no
// job. It reports whether the session takes it.
func (s *session) begin(j *Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j != nil && s.halting {
		return false
	}
	s.running++
	if j != nil {
		s.jobs[j.id] = j
	}
	return true
}

// ended counts a job or an errand out, after its last use of the session.
func (s *session) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running > 0 {
		return
	}
	for _, c := range s.onIdle {
		close(c)
	}
	s.onIdle = nil
}

// errand does what the service loop has to and may not wait for.
func (s *session) errand(f func()) {
	s.begin(nil)
	go func() {
		defer s.ended()
		f()
	}()
}

func (s *session) job(id uint64) *Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[id]
}

// load returns the number of jobs in handlers.
func (s *session) load() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// idle waits until every job is done that the host had sent before the call.
func (s *session) idle(ctx context.Context) error {
	passed := make(chan struct{})
	s.mu.Lock()
	s.onPass = append(s.onPass, passed)
	s.mu.Unlock()
	s.at.PluginBell.Interrupt() // the loop may have looked at the rings before that
	select {
	case <-passed:
	case <-s.loopEnd:
	case <-ctx.Done():
		return fmt.Errorf("the service loop did not answer: %w", context.Cause(ctx))
	}
	idle := make(chan struct{})
	s.mu.Lock()
	if s.running == 0 {
		close(idle)
	} else {
		s.onIdle = append(s.onIdle, idle)
	}
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d jobs are still running: %w", s.load(), context.Cause(ctx))
	}
}

// halt cancels the jobs, takes no more, and waits until none is left. What they
// have to say still reaches the host.
func (s *session) halt(ctx context.Context) error {
	s.mu.Lock()
	s.halting = true
	s.mu.Unlock()
	s.cancelAll(errStopping)
	return s.idle(ctx)
}

// errClosed is why whoever still wants something of a closed session gets nothing.
var errClosed = errors.New("the plugin has left service")

// close ends the service loop. The mapping is left to the end of the process,
// which is near: a goroutine that an author forgot may still look at it.
func (s *session) close() {
	s.cancel(errClosed)
	if s.serving.Load() {
		s.at.PluginBell.Interrupt()
		<-s.loopEnd
	}
}
