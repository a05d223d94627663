package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"inos/plugins/sdk/wire"
)

// Launch starts a plugin and returns when it can be commanded. The error is a
// *LaunchError, or ErrClosed; nothing of the process is left then. Starting gets
// no further than Describe: the node passes the memory and configures when it
// knows the manifest.
func (s *Supervisor) Launch(ctx context.Context, spec Spec) (*Process, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.starts.Done()
	failed := spec.complete(s.opts)
	if failed == nil {
		failed = spec.checkDigest(ctx)
	}
	if failed != nil {
		failed.Name = spec.Name
		return nil, failed
	}
	fence, err := s.newFence(spec.Name, spec.Limits)
	if err != nil {
		failed = failure(CannotExecute, err, "%v", err).but("see what inos doctor says of control groups")
		failed.Name = spec.Name
		return nil, failed
	}
	p := &Process{
		sup: s, spec: spec, log: cleaned{spec.Logger}, fence: fence,
		connected: make(chan struct{}), gone: make(chan struct{}),
	}
	p.life, p.endLife = context.WithCancel(context.Background())
	s.keep(p)
	result := make(chan error, 1)
	go func() {
		err := p.connect()
		close(p.connected)
		result <- err
		if p.forked() == nil {
			if _, err := fence.open(); err != nil {
				s.opts.Logger.Warn("a control group is left", "plugin", spec.Name, "error", err)
			}
			p.takeBack()
		}
	}()
	timer := time.NewTimer(spec.StartTimeout)
	defer timer.Stop()
	select {
	case err = <-result:
		if err == nil {
			return p, nil
		}
		// What crashed is left the moment it takes to end by itself, so that its exit
		// status can be told.
		p.await(deathLag)
	case <-ctx.Done():
		err = gaveUp(ctx, p.progress())
	case <-timer.C:
		err = failure(Hung, context.DeadlineExceeded, "%s within %s", p.progress(), spec.StartTimeout)
	}
	return nil, p.giveUp(err)
}

// gaveUp says why a launch ended whose context did.
func gaveUp(ctx context.Context, progress string) *LaunchError {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return failure(Hung, context.DeadlineExceeded, "%s within the time that the caller gave it", progress)
	}
	return failure(Canceled, context.Cause(ctx), "the start was given up %s: %v", progress, context.Cause(ctx))
}

// didNotStart is why a process is killed whose launch failed.
const didNotStart = "it did not start"

// connect starts the process and everything that speaks with it. It blocks until
// the plugin answers or ends, or is killed.
func (p *Process) connect() error {
	limit := limiter()
	sinkTo := func(log func(string, ...any), stream string, keep bool) *sink {
		return &sink{limit: limit, emit: func(line string) {
			if keep {
				p.tail.add([]byte(line + "\n"))
			}
			log(line, "stream", stream)
		}}
	}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		Plugins:          plugin.PluginSet{wire.PluginName: wire.HostPlugin{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.spec.Dir},
		// Launch has the shorter one, and says more.
		StartTimeout:    2 * p.spec.StartTimeout,
		Logger:          chatter{Logger: p.spec.Logger, plugin: p.spec.Logger},
		SyncStdout:      sinkTo(p.log.Info, "stdout", false),
		SyncStderr:      sinkTo(p.log.Info, "stderr", true),
		GRPCDialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(p.dials.intercept)},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			p.dir = dir
			return &pluginRunner{p: p, env: p.spec.environment(cmd.Env, p.fence.marker), limit: limit}, nil
		},
	})
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return err
	}
	conn, ok := raw.(*wire.Conn)
	if !ok {
		return fmt.Errorf("go-plugin dispensed a %T", raw)
	}
	if err := atDial.Hit(); err != nil {
		return err
	}
	// A connection is made when it is first used. A plugin that shook hands and
	// then hangs or ends must be found out here and not by the first command.
	if err := protocol.Ping(); err != nil {
		return err
	}
	p.protocol, p.conn = protocol, conn
	return atReady.Hit()
}

// await waits at most d for the process to end.
func (p *Process) await(d time.Duration) {
	c := p.forked()
	if c == nil {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.died:
	case <-t.C:
	}
}

// giveUp ends a launch that failed: it kills the process, waits until it is gone
// and says what was wrong.
func (p *Process) giveUp(err error) *LaunchError {
	p.Kill(didNotStart)
	t := time.NewTimer(goneWait)
	defer t.Stop()
	select {
	case <-p.gone:
	case <-t.C:
	}
	e := p.diagnose(err)
	e.Name, e.Stderr = p.spec.Name, p.tail.String()
	return e
}

// diagnose turns what go-plugin says, and what we saw ourselves, into a reason.
func (p *Process) diagnose(err error) *LaunchError {
	var e *LaunchError
	if errors.As(err, &e) {
		return e
	}
	if p.forked() == nil {
		return failure(CannotExecute, err, "%s: %v", p.spec.Path, err)
	}
	if line := p.greeting.Load(); line != nil {
		if e := judge(*line); e != nil {
			return e
		}
	}
	state, ended := p.ExitState()
	switch {
	case ended && state.Killed == "" && strings.Contains(state.Stderr, foreignCookie):
		return failure(NotOurs, ErrDied, "it is a plugin of another program: it did not accept this node's handshake")
	case ended && state.Killed != "" && state.Killed != didNotStart:
		return failure(Canceled, err, "%s", state.Killed)
	case ended && state.Killed == "":
		return failure(Crashed, ErrDied, "it ended %s: %s", p.progress(), state)
	case p.greeting.Load() == nil:
		return failure(Noise, nil, "it closed its standard output without a handshake")
	}
	return failure(Unreachable, err, "%v", err)
}

// foreignCookie is what go-plugin prints when the host's cookie is not the one
// the plugin was built with.
const foreignCookie = "This binary is a plugin"

// judge says what is wrong with the first line of a plugin, nil if it is a good
// handshake: core version | protocol version | network | address | protocol | ...
func judge(line string) *LaunchError {
	part := strings.Split(strings.TrimSpace(line), "|")
	if len(part) < 4 {
		return failure(Noise, nil, "it printed %q before the handshake", cut(line))
	}
	core, err1 := strconv.Atoi(part[0])
	version, err2 := strconv.Atoi(part[1])
	switch {
	case err1 != nil || err2 != nil:
		return failure(Noise, nil, "it printed %q before the handshake", cut(line))
	case core != plugin.CoreProtocolVersion:
		return failure(WrongProtocol, nil, "it speaks version %d of go-plugin's core protocol, the node %d", core, plugin.CoreProtocolVersion)
	case version != int(wire.Handshake.ProtocolVersion):
		return failure(WrongProtocol, nil, "it speaks version %d of the plugin protocol, the node %d", version, wire.Handshake.ProtocolVersion)
	case len(part) < 5 || part[4] != string(plugin.ProtocolGRPC):
		return failure(NotOurs, nil, "it does not speak gRPC")
	}
	return nil
}

// progress says how far the start got.
func (p *Process) progress() string {
	if p.greeting.Load() == nil {
		return "before its handshake"
	}
	return "after its handshake, before it answered"
}
