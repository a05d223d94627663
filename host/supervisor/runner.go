package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// pluginRunner lets go-plugin use our process. It implements go-plugin's
// runner.Runner.
type pluginRunner struct {
	p     *Process
	env   []string
	limit *rate.Limiter
}

// Start forks the process.
func (r *pluginRunner) Start(context.Context) (err error) {
	p := r.p
	var files []*os.File // the child's ends
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	pipe := func() (*os.File, error) {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, failure(CannotExecute, err, "%v", err).but("raise the limit of open files")
		}
		files = append(files, write)
		return read, nil
	}
	stdout, err := pipe()
	if err != nil {
		return err
	}
	p.stdout = newLines(stdout, r.onStdout)
	stderr, err := pipe()
	if err != nil {
		return errors.Join(err, stdout.Close())
	}
	p.stderr = newLines(stderr, r.onStderr)
	defer func() {
		if err != nil {
			err = errors.Join(err, stdout.Close(), stderr.Close())
		}
	}()
	channel, theirs, err := socketPair()
	if err != nil {
		return failure(CannotExecute, err, "%v", err).but("raise the limit of open files")
	}
	p.channel = channel
	files = append(files, theirs)

	return p.fork(func() *exec.Cmd {
		return &exec.Cmd{
			Path: p.spec.Path, Args: []string{p.spec.Path}, Env: r.env, Dir: p.dir,
			Stdout: files[0], Stderr: files[1], ExtraFiles: files[2:], // the first of them becomes system.ChannelFd
		}
	})
}

// fork starts the process, unless it was killed before that.
func (p *Process) fork(command func() *exec.Cmd) error {
	if why := p.doom(); why != "" {
		return failure(Canceled, nil, "%s", why)
	}
	var c *child
	err := p.sup.onForkThread(func() (err error) {
		c, err = startChild(command, p.fence)
		return err
	})
	if err != nil {
		return cannotExecute(p.spec.Path, err)
	}
	p.fence.hold(c.pid, c.overLimit)
	p.mu.Lock()
	p.child, p.started = c, time.Now()
	p.mu.Unlock()
	if why := p.doom(); why != "" {
		c.kill(why)
	}
	go c.watch()
	go p.tend()
	return nil
}

// doom says why the process is not to live, empty if it may.
func (p *Process) doom() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doomed
}

// cannotExecute says why the kernel did not start a binary.
func cannotExecute(path string, err error) *LaunchError {
	e := failure(CannotExecute, err, "%s: %v", path, err)
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return e.but("it is no program for this machine; build it for linux and this architecture")
	case errors.Is(err, unix.ENOENT):
		return e.but("the file, or the loader or interpreter it names, is not there; build it with CGO_ENABLED=0")
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		return e.but("the system has no room for another process; stop some, or raise the limits")
	case errors.Is(err, unix.EPERM):
		return e.but("the limits may be higher than the node's own; lower them")
	}
	return e
}

// but replaces the usual hint.
func (e *LaunchError) but(hint string) *LaunchError {
	e.Hint = hint
	return e
}

// onStdout keeps the first line, which should be the handshake. Later ones come
// from code that knows nothing of go-plugin, for the plugin's own standard output
// goes over its connection by then.
func (r *pluginRunner) onStdout(line []byte) bool {
	text := strings.TrimSuffix(string(line), "\n")
	if r.p.greeting.Load() == nil && atHandshake.Hit() != nil {
		return false // as if it had not been printed
	}
	if !r.p.greeting.CompareAndSwap(nil, &text) && r.limit.AllowN(time.Now(), len(line)) {
		r.p.log.Info(text, "stream", "stdout")
	}
	return true
}

func (r *pluginRunner) onStderr(line []byte) bool {
	r.p.tail.add(line)
	return r.limit.AllowN(time.Now(), len(line))
}

// Wait waits for the end of the process.
func (r *pluginRunner) Wait(context.Context) error {
	<-r.p.child.died
	return errors.Join(r.p.stdout.Close(), r.p.stderr.Close())
}

// Kill does nothing: go-plugin calls it when a start failed, and Launch then
// leaves the process a moment to end by itself.
func (r *pluginRunner) Kill(context.Context) error { return nil }

// Stdout is where go-plugin reads the handshake.
func (r *pluginRunner) Stdout() io.ReadCloser { return r.p.stdout }

// Stderr is where go-plugin reads the plugin's log.
func (r *pluginRunner) Stderr() io.ReadCloser { return r.p.stderr }

// Name is what go-plugin calls the logger of Stderr.
func (r *pluginRunner) Name() string { return outputName }

// ID is empty until the process is forked.
func (r *pluginRunner) ID() string {
	c := r.p.forked()
	if c == nil {
		return ""
	}
	return strconv.Itoa(c.pid)
}

// Diagnose has nothing to add: Launch says what was wrong.
func (r *pluginRunner) Diagnose(context.Context) string { return "" }

// PluginToHost checks an address that the plugin gave: it may only be a socket
// in the folder that was made for it.
func (r *pluginRunner) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != r.p.dir {
		return "", "", failure(NotOurs, nil, "it wants to be reached at %s %q, not in the folder of its sockets", network, cut(address))
	}
	return network, address, nil
}

// HostToPlugin leaves an address as it is: both sides see the same files.
func (r *pluginRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// socketPair returns two ends of a socket that keeps the bounds of messages.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "channel")
	f := os.NewFile(uintptr(fds[0]), "channel")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socketpair: %w", err), theirs.Close())
	}
	ours, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("socketpair: it became a %T", conn), conn.Close(), theirs.Close())
	}
	return ours, theirs, nil
}
