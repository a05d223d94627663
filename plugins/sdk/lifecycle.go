package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/segment"
)

// lifecycle answers the host's commands. The host sends one at a time.
type lifecycle struct {
	plugin   *Plugin
	manifest *Manifest
	log      hclog.Logger
	broker   *goplugin.GRPCBroker

	mu      sync.Mutex
	phase   phase
	session *session
	kernel  io.Closer
	host    *Host
}

// phase is how far the process has come.
type phase int

const (
	described phase = iota
	configured
	started
	stopping
)

// Command implements wire.Lifecycle.
func (l *lifecycle) Command(ctx context.Context, c wire.Command) (wire.Reply, error) {
	if c.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, c.Timeout)
		defer stop()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := wire.Reply{ID: c.ID}
	var err error
	switch body := c.Body.(type) {
	case wire.Describe:
		r.Manifest = l.manifest
	case wire.Configuration:
		err = l.configure(ctx, body)
	case wire.Start:
		err = l.start(ctx)
	case wire.Health:
		h := l.health(ctx)
		r.Health = &h
	case wire.Adoption:
		err = l.adopt(ctx, body)
	case wire.Freeze, wire.Drain:
		// The host gives no more jobs; state is committed by the handlers themselves.
		if err = l.expect(started); err == nil {
			err = l.session.idle(ctx)
		}
	case wire.Stop:
		err = l.stop(ctx)
	default:
		err = wire.NewError(base.Code_notSupported, "build the plugin with a newer SDK", "there is no command %T", body)
	}
	r.Err = wire.AsError(err)
	return r, nil
}

// expect refuses a command that comes at the wrong time.
func (l *lifecycle) expect(p phase) error {
	if l.phase != p {
		return fmt.Errorf("the command came in phase %d and belongs in phase %d", l.phase, p)
	}
	return nil
}

// configure takes the memory that the host sends over the channel.
func (l *lifecycle) configure(ctx context.Context, c wire.Configuration) error {
	if err := l.expect(described); err != nil {
		return err
	}
	conn, err := channel()
	if err != nil {
		return err
	}
	defer conn.Close()
	at, err := segment.Attach(conn)
	if err != nil {
		return err
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
	l.phase = configured
	return nil
}

// adopt lets the plugin take over what its predecessor left.
func (l *lifecycle) adopt(ctx context.Context, a wire.Adoption) error {
	if err := l.expect(configured); err != nil {
		return err
	}
	if l.plugin.Adopt == nil {
		return nil
	}
	return l.plugin.Adopt(ctx, l.host, a.FromVersion)
}

func (l *lifecycle) start(ctx context.Context) error {
	if err := l.expect(configured); err != nil {
		return err
	}
	go l.session.serve() // so that leases arrive while the plugin starts
	if l.plugin.Start != nil {
		if err := l.plugin.Start(ctx, l.host); err != nil {
			return err
		}
	}
	l.phase = started
	return nil
}

// stop ends the jobs and lets go of everything. The process ends when go-plugin's
// server is told to, right after.
func (l *lifecycle) stop(ctx context.Context) error {
	if l.phase == stopping {
		return nil
	}
	was := l.phase
	l.phase = stopping
	if was == described {
		return nil
	}
	var errs []error
	if was == started {
		errs = append(errs, l.session.stop(ctx))
		if l.plugin.Stop != nil {
			errs = append(errs, l.plugin.Stop(ctx))
		}
	}
	errs = append(errs, l.kernel.Close())
	return errors.Join(errs...)
}

// health measures the process and asks the plugin.
func (l *lifecycle) health(ctx context.Context) wire.Heartbeat {
	h := wire.Heartbeat{Status: system.HealthStatus_starting, Memory: resident(), CPU: cpuTime()}
	if l.phase != started {
		return h
	}
	h.Status = system.HealthStatus_healthy
	h.Running = uint32(l.session.load())
	h.Congested = int(h.Running) >= l.plugin.concurrency()
	if l.plugin.Health != nil {
		if err := l.plugin.Health(ctx); err != nil {
			h.Status, h.Detail = system.HealthStatus_degraded, err.Error()
		}
	}
	return h
}

// channel returns the socket on which the host passes descriptors.
func channel() (*unixConn, error) {
	fd, err := strconv.Atoi(os.Getenv(system.ChannelEnv))
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, not a descriptor: the plugin must be started by a node", system.ChannelEnv, os.Getenv(system.ChannelEnv))
	}
	unix.CloseOnExec(fd)
	return fileConn(os.NewFile(uintptr(fd), "channel"))
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
