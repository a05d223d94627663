package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"inos/plugins/sdk/wire"
)

// Process is one process of a plugin, from its launch until everything of it is
// taken back. Its methods may be called from any goroutine.
type Process struct {
	sup     *Supervisor
	spec    Spec
	log     hclog.Logger
	started time.Time

	client    *plugin.Client
	protocol  plugin.ClientProtocol
	conn      *wire.Conn
	dials     dials
	connected chan struct{} // closed when nobody uses client any more but takeBack

	fence    *fence
	channel  *net.UnixConn
	dir      string // of its sockets, and where it works
	stdout   *lines
	stderr   *lines
	tail     tail
	greeting atomic.Pointer[string] // the first line on standard output

	life    context.Context // ends when the process does
	endLife context.CancelFunc
	gone    chan struct{} // closed when everything is taken back
	calls   atomic.Uint64

	mu     sync.Mutex
	child  *child // nil until it is forked
	doomed string // why it was killed before that
}

// Bounds of what happens after a process has ended, or should have.
const (
	pipeGrace = 200 * time.Millisecond // for reading what it wrote, while something else holds its pipes
	deathLag  = 200 * time.Millisecond // between the end of a connection and that of the process
	goneWait  = 5 * time.Second        // for a killed process to be taken back
)

// Name returns the plugin's name.
func (p *Process) Name() string { return p.spec.Name }

// forked returns the child, nil while there is none.
func (p *Process) forked() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

// PID returns the number of the process. It can be another's once Dead is closed.
func (p *Process) PID() int { return p.child.pid }

// Started returns when the process was forked.
func (p *Process) Started() time.Time { return p.started }

// Limits returns the limits that are in force, with Unlimited where there is
// none.
func (p *Process) Limits() Limits { return p.child.limits }

// Enforcement says by which means they are.
func (p *Process) Enforcement() Enforcement { return p.fence.in }

// Channel returns the host's end of the socket that the plugin inherited as
// descriptor system.ChannelFd: where segment.Pass sends the memory. It keeps the bounds
// of messages (SOCK_SEQPACKET). The Process closes it.
func (p *Process) Channel() *net.UnixConn { return p.channel }

// Dead is closed when the process has ended and is reaped, which is within
// milliseconds of its end however it came.
func (p *Process) Dead() <-chan struct{} { return p.child.died }

// Gone is closed after Dead, when everything of the process is taken back.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// ExitState says how the process ended, false while it runs.
func (p *Process) ExitState() (ExitState, bool) {
	c := p.forked()
	if c == nil {
		return ExitState{}, false
	}
	select {
	case <-c.died:
	default:
		return ExitState{PID: c.pid}, false
	}
	s := c.exit()
	s.Stderr = p.tail.String()
	return s, true
}

// Wait waits until the process has ended and everything of it is taken back.
func (p *Process) Wait(ctx context.Context) (ExitState, error) {
	select {
	case <-p.gone:
		s, _ := p.ExitState()
		return s, nil
	case <-ctx.Done():
		s, _ := p.ExitState()
		return s, fmt.Errorf("plugin %q (pid %d) is not gone yet: %w", p.spec.Name, s.PID, context.Cause(ctx))
	}
}

// Kill ends the process and all that it started at once, even if it is stopped
// (SIGSTOP), and returns without waiting. The first reason is kept for ExitState.Killed.
func (p *Process) Kill(why string) {
	p.mu.Lock()
	c := p.child
	if c == nil && p.doomed == "" {
		p.doomed = why
	}
	p.mu.Unlock()
	if c != nil {
		c.kill(why)
	}
}

// Stop asks the plugin to end and waits until it is gone. A process that was
// stopped by a signal goes on before that. What has not ended when
// ctx does, or after the call timeout if it has no deadline, is killed, and Stop
// returns ErrForced; it waits at most 5 s longer then. An error that the plugin
// reports of its own end is returned, too.
func (p *Process) Stop(ctx context.Context) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	// One that stands still (SIGSTOP) cannot hear.
	p.child.wake()
	failed := atStop.Hit()
	if failed == nil {
		_, failed = p.conn.Command(ctx, p.command(wire.Stop{}))
	}
	if ctx.Err() == nil {
		// Its server goes on until go-plugin tells it to end. The call has no deadline
		// of its own, but it ends with the process.
		go func() { _ = p.protocol.Close() }()
	}
	select {
	case <-p.child.died:
	case <-ctx.Done():
		p.Kill("it did not end when it was asked to stop") // does nothing if it was its end that ended ctx
	}
	after, done := context.WithTimeout(context.WithoutCancel(ctx), goneWait)
	defer done()
	state, err := p.Wait(after)
	switch {
	case err != nil:
		return err
	case state.Killed != "":
		return fmt.Errorf("plugin %q (pid %d): %w: %s", p.spec.Name, state.PID, ErrForced, state.Killed)
	case failed != nil && status.Code(failed) == codes.Unknown:
		return fmt.Errorf("plugin %q (pid %d): it stopped and said: %w", p.spec.Name, state.PID, failed)
	}
	return nil
}

// tend takes everything back when the process has ended.
func (p *Process) tend() {
	<-p.child.died
	p.endLife()
	// A grandchild that left the group may hold the pipes open for as long as it
	// likes.
	for _, l := range []*lines{p.stdout, p.stderr} {
		_ = l.file.SetReadDeadline(time.Now().Add(pipeGrace)) // a pipe from os.Pipe has deadlines
	}
	// Now nothing can be under way that its connections would have to wait for.
	p.dials.close()
	strays, err := p.fence.open()
	if err != nil {
		p.sup.opts.Logger.Warn("something of a plugin is left", "plugin", p.spec.Name, "pid", p.child.pid, "error", err)
	}
	reapOrphans(p.child.pid)
	reapStrays(append(p.child.struck(), strays...))
	p.takeBack()
}

// takeBack closes and removes what belongs to the process, which has ended or
// was never there.
func (p *Process) takeBack() {
	<-p.connected
	_ = atTakeBack.Hit()
	if p.client != nil {
		p.client.Kill() // ends go-plugin's goroutines; the process has ended already
	}
	p.dials.close()
	if p.channel != nil {
		_ = p.channel.Close()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // go-plugin forgets it when nothing was forked
	}
	p.endLife()
	p.sup.forget(p)
	close(p.gone)
}

// dials collects the connections that go-plugin makes: when it cannot complete a
// client it forgets to close them.
type dials struct {
	mu     sync.Mutex
	conns  []*grpc.ClientConn
	closed bool // conns are, and new ones are refused
}

// intercept sees every connection at its first stream, which go-plugin opens
// before anything else.
func (d *dials) intercept(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errors.Join(ErrDied, conn.Close())
	}
	known := false
	for _, c := range d.conns {
		known = known || c == conn
	}
	if !known {
		d.conns = append(d.conns, conn)
	}
	d.mu.Unlock()
	return next(ctx, desc, conn, method, opts...)
}

func (d *dials) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.conns {
		_ = c.Close() // closed already when all went well
	}
}
