package supervisor

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"inos/plugins/sdk/wire"
)

// Command has the plugin do something and returns what it says. A failure that
// the plugin reports is a *wire.Error. When the process ends, Command returns
// ErrDied at once; when ctx ends, or the call timeout passes if it has no
// deadline, it returns without waiting for the plugin. It fills in the number and
// the time of the command.
func (p *Process) Command(ctx context.Context, c wire.Command) (wire.Reply, error) {
	if err := atCommand.Hit(); err != nil {
		return wire.Reply{}, p.explain(ctx, err)
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	sent := p.command(c.Body)
	sent.Timeout = c.Timeout
	reply, err := p.conn.Command(ctx, sent)
	return reply, p.explain(ctx, err)
}

// Describe asks for the manifest.
func (p *Process) Describe(ctx context.Context) (*wire.Manifest, error) {
	r, err := p.Command(ctx, wire.Command{Body: wire.Describe{}})
	if err == nil && r.Manifest == nil {
		err = fmt.Errorf("plugin %q: it answers describe without a manifest; build it again with the plugin SDK", p.spec.Name)
	}
	return r.Manifest, err
}

// Configure tells the plugin who it is. By then segment.Pass must have sent the
// memory over Channel, and ServeKernel must have given the broker's id.
func (p *Process) Configure(ctx context.Context, c wire.Configuration) error {
	return p.do(ctx, c)
}

// Start says that jobs may come.
func (p *Process) Start(ctx context.Context) error { return p.do(ctx, wire.Start{}) }

// Health asks how the plugin is.
func (p *Process) Health(ctx context.Context) (wire.Heartbeat, error) {
	r, err := p.Command(ctx, wire.Command{Body: wire.Health{}})
	if err != nil {
		return wire.Heartbeat{}, err
	}
	if r.Health == nil {
		return wire.Heartbeat{}, fmt.Errorf("plugin %q: it answers health without a heartbeat; build it again with the plugin SDK", p.spec.Name)
	}
	return *r.Health, nil
}

// Freeze has the plugin finish its jobs, commit its state and take no more: until
// it is thawed, or stopped because another version has taken its place.
func (p *Process) Freeze(ctx context.Context) error { return p.do(ctx, wire.Freeze{}) }

// Thaw has a frozen plugin take jobs again, with its state as it was: its place
// was not taken after all.
func (p *Process) Thaw(ctx context.Context) error { return p.do(ctx, wire.Thaw{}) }

// Adopt has the plugin take over what its predecessor left, which is frozen
// meanwhile. It comes after Configure and before Start.
func (p *Process) Adopt(ctx context.Context, a wire.Adoption) error { return p.do(ctx, a) }

// Drain has the plugin finish the jobs that it took.
func (p *Process) Drain(ctx context.Context) error { return p.do(ctx, wire.Drain{}) }

// ServeKernel offers the host's syscalls to the plugin, which finds them with
// the id. After stop no syscall runs any more. The service ends with the process
// in any case, but a syscall that runs then ends only when its context does.
func (p *Process) ServeKernel(ctx context.Context, k wire.Kernel) (id uint32, stop func(), err error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	id, stop, err = p.conn.ServeKernel(ctx, k)
	return id, stop, p.explain(ctx, err)
}

func (p *Process) do(ctx context.Context, body wire.CommandBody) error {
	_, err := p.Command(ctx, wire.Command{Body: body})
	return err
}

func (p *Process) command(body wire.CommandBody) wire.Command {
	return wire.Command{ID: p.calls.Add(1), Timestamp: time.Now().UnixNano(), Body: body}
}

// bounded returns a context that ends with the process, and in any case some
// day.
func (p *Process) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	var timeout context.CancelFunc = func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, timeout = context.WithTimeout(ctx, p.spec.CallTimeout)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { cancel(ErrDied) })
	return ctx, func() {
		stop()
		cancel(nil)
		timeout()
	}
}

// explain says of a call that had no answer because the process has ended that
// this is so.
func (p *Process) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.Unavailable {
		// The kernel closes a dying process's sockets before it tells of its end.
		lag := time.NewTimer(deathLag)
		defer lag.Stop()
		select {
		case <-p.child.died:
		case <-lag.C:
		case <-ctx.Done():
		}
	}
	if state, ended := p.ExitState(); ended {
		return fmt.Errorf("plugin %q (pid %d): %w: %s", p.spec.Name, state.PID, ErrDied, state)
	}
	return fmt.Errorf("plugin %q: %w", p.spec.Name, err)
}
