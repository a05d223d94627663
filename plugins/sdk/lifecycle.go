package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/segment"
)

// lifecycle answers the host's commands.
type lifecycle struct {
	plugin   *Plugin
	manifest *Manifest
	log      hclog.Logger
	broker   *goplugin.GRPCBroker

	// turn holds one token while a command changes what is below. Health comes in
	// between and only looks, so it reads nothing before phase says that it is there.
	turn    chan struct{}
	phase   atomic.Int32
	session *session
	kernel  io.Closer
	host    *Host
}

func newLifecycle(p *Plugin, m *Manifest, log hclog.Logger, b *goplugin.GRPCBroker) *lifecycle {
	return &lifecycle{plugin: p, manifest: m, log: log, broker: b, turn: make(chan struct{}, 1)}
}

// How far the process has come.
const (
	described int32 = iota
	configured
	started
	stopped
)

var phases = [...]string{"described", "configured", "started", "stopped"}

// Command implements wire.Lifecycle.
func (l *lifecycle) Command(ctx context.Context, c wire.Command) (wire.Reply, error) {
	if c.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, c.Timeout)
		defer stop()
	}
	r := wire.Reply{ID: c.ID}
	var err error
	switch c.Body.(type) {
	case wire.Describe:
		r.Manifest = l.manifest
	case wire.Health:
		h := l.health(ctx)
		r.Health = &h
	default:
		err = l.step(ctx, c.Body)
	}
	r.Err = wire.AsError(err)
	return r, nil
}

// step obeys a command that takes the process further, one at a time.
func (l *lifecycle) step(ctx context.Context, c wire.CommandBody) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return fmt.Errorf("an earlier command is still being obeyed: %w", context.Cause(ctx))
	}
	switch body := c.(type) {
	case wire.Configuration:
		return around(beforeConfigure, afterConfigure, func() error { return l.configure(body) })
	case wire.Adoption:
		return around(beforeAdopt, afterAdopt, func() error { return l.adopt(ctx, body) })
	case wire.Start:
		return around(beforeStart, afterStart, func() error { return l.start(ctx) })
	case wire.Freeze:
		return around(beforeFreeze, afterFreeze, func() error { return l.freeze(ctx) })
	case wire.Thaw:
		return around(beforeThaw, afterThaw, func() error { return l.thaw(ctx) })
	case wire.Drain:
		return around(beforeDrain, afterDrain, func() error { return l.drain(ctx) })
	case wire.Stop:
		return around(beforeStop, afterStop, func() error { return l.stop(ctx) })
	default:
		return wire.NewError(base.Code_notSupported, "build the plugin with a newer SDK", "there is no command %T", body)
	}
}

// Around each command, and where memory and jobs come and go.
var (
	beforeConfigure = failpoint.New("sdk/configure/before")
	afterConfigure  = failpoint.New("sdk/configure/after")
	beforeAdopt     = failpoint.New("sdk/adopt/before")
	afterAdopt      = failpoint.New("sdk/adopt/after")
	beforeStart     = failpoint.New("sdk/start/before")
	afterStart      = failpoint.New("sdk/start/after")
	beforeFreeze    = failpoint.New("sdk/freeze/before")
	afterFreeze     = failpoint.New("sdk/freeze/after")
	beforeThaw      = failpoint.New("sdk/thaw/before")
	afterThaw       = failpoint.New("sdk/thaw/after")
	beforeDrain     = failpoint.New("sdk/drain/before")
	afterDrain      = failpoint.New("sdk/drain/after")
	beforeStop      = failpoint.New("sdk/stop/before")
	afterStop       = failpoint.New("sdk/stop/after")
	atAttach        = failpoint.New("sdk/attach")
	atIntake        = failpoint.New("sdk/intake")
	atReport        = failpoint.New("sdk/report")
)

// around obeys a command between two points.
func around(before, after *failpoint.Point, obey func() error) error {
	if err := before.Hit(); err != nil {
		return err
	}
	if err := obey(); err != nil {
		return err
	}
	return after.Hit()
}

// expect refuses a command that comes at the wrong time.
func (l *lifecycle) expect(p int32) error {
	if is := l.phase.Load(); is != p {
		return fmt.Errorf("the plugin is %s and has to be %s for this command", phases[is], phases[p])
	}
	return nil
}

// hook calls a function of the author's.
func (l *lifecycle) hook(name string, f func() error) error {
	_, err := guard(l.log, name, f)
	return err
}

// configure takes the memory that the host sends over the channel.
func (l *lifecycle) configure(c wire.Configuration) error {
	if err := l.expect(described); err != nil {
		return err
	}
	conn, err := channel()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := atAttach.Hit(); err != nil {
		return err
	}
	at, err := segment.Attach(conn)
	if err != nil {
		return err
	}
	if at.Instance != c.Instance {
		return errors.Join(fmt.Errorf("the memory is for instance %d and the configuration for %d", at.Instance, c.Instance), at.Close())
	}
	kernel, closer, err := wire.DialKernel(l.broker, c.Broker)
	if err != nil {
		return errors.Join(err, at.Close())
	}
	if level := hclog.LevelFromString(c.LogLevel); level != hclog.NoLevel {
		l.log.SetLevel(level)
	}
	l.kernel = closer
	l.host = &Host{conf: c, kernel: kernel, log: l.log, calls: new(atomic.Uint64)}
	l.session = newSession(l.plugin, at, l.host, l.log)
	l.host.session = l.session
	l.phase.Store(configured)
	return nil
}

// adopt lets the plugin take over what its predecessor left.
func (l *lifecycle) adopt(ctx context.Context, a wire.Adoption) error {
	if err := l.expect(configured); err != nil || l.plugin.Adopt == nil {
		return err
	}
	return l.hook("Adopt", func() error { return l.plugin.Adopt(ctx, l.host, a.FromVersion) })
}

// start runs the author's Start and begins to serve. After a failure there is
// nothing left but to stop.
func (l *lifecycle) start(ctx context.Context) error {
	if err := l.expect(configured); err != nil {
		return err
	}
	if l.plugin.Start != nil {
		if err := l.hook("Start", func() error { return l.plugin.Start(ctx, l.host) }); err != nil {
			return errors.Join(err, l.leave())
		}
	}
	l.session.start()
	l.phase.Store(started)
	return nil
}

// drain waits for the jobs that were given. The host gives no more; what they
// keep in state blocks they commit themselves.
func (l *lifecycle) drain(ctx context.Context) error {
	if err := l.expect(started); err != nil {
		return err
	}
	return l.session.idle(ctx)
}

// freeze waits for the jobs that were given, has the author stop whatever works
// beside them, and holds the state still from then on: the next generation reads it.
func (l *lifecycle) freeze(ctx context.Context) error {
	if err := l.drain(ctx); err != nil {
		return err
	}
	if l.plugin.Freeze != nil {
		if err := l.hook("Freeze", func() error { return l.plugin.Freeze(ctx) }); err != nil {
			return err
		}
	}
	l.session.frozen.Store(true)
	return nil
}

// thaw lets the plugin go on. One that was not frozen does already.
func (l *lifecycle) thaw(ctx context.Context) error {
	if err := l.expect(started); err != nil {
		return err
	}
	if !l.session.frozen.Swap(false) || l.plugin.Thaw == nil {
		return nil
	}
	return l.hook("Thaw", func() error { return l.plugin.Thaw(ctx) })
}

// stop ends the jobs, then runs the author's Stop, which may still use state
// blocks and the host. The process ends when go-plugin's server is told to, right
// after. Jobs that ignore that they are cancelled leave no time for Stop, which
// must not find them running.
func (l *lifecycle) stop(ctx context.Context) error {
	switch l.phase.Load() {
	case described, stopped:
		l.phase.Store(stopped)
		return nil
	case configured:
		return l.leave()
	}
	err := l.session.halt(ctx)
	if err == nil && l.plugin.Stop != nil {
		err = l.hook("Stop", func() error { return l.plugin.Stop(ctx) })
	}
	return errors.Join(err, l.leave())
}

// leave ends the session with the host.
func (l *lifecycle) leave() error {
	l.phase.Store(stopped)
	l.session.close()
	return l.kernel.Close()
}

// health measures the process and asks the plugin.
func (l *lifecycle) health(ctx context.Context) wire.Heartbeat {
	h := wire.Heartbeat{Status: system.HealthStatus_starting, Memory: resident(), CPU: cpuTime()}
	switch l.phase.Load() {
	case described, configured:
		return h
	case stopped:
		h.Status = system.HealthStatus_draining
		return h
	}
	h.Status = system.HealthStatus_healthy
	h.Running = uint32(l.session.load())
	h.Congested = int(h.Running) >= l.plugin.concurrency()
	if l.session.ctx.Err() != nil {
		h.Status, h.Detail = system.HealthStatus_zombie, context.Cause(l.session.ctx).Error()
	} else if l.plugin.Health != nil {
		if err := l.hook("Health", func() error { return l.plugin.Health(ctx) }); err != nil {
			h.Status, h.Detail = system.HealthStatus_degraded, err.Error()
		}
	}
	return h
}

// cpuTime returns the processor time that the process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the bytes of memory that the Go runtime holds, the segment
// apart, since that is not the plugin's own.
func resident() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
