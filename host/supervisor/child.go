package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is one process from its fork until it is reaped.
type child struct {
	pid    int
	pidfd  *os.File // readable when the process has ended; in the runtime's poller
	proc   *os.Process
	limits Limits
	died   chan struct{} // closed when it is reaped

	mu     sync.Mutex // held while signals are sent, so that none reaches a stranger
	reaped bool
	why    string // of the first kill
	state  *os.ProcessState
}

// busyTries bounds how often a binary that is "busy" is tried again. Another
// thread that forks while a binary is written holds the writing end for the blink
// between its fork and its exec.
const busyTries = 20

// startChild forks. It must be called on the forking thread. The files of cmd
// stay the caller's.
func startChild(command func() *exec.Cmd, limits Limits) (*child, error) {
	var cmd *exec.Cmd
	pidfd := -1
	for try := 0; ; try++ {
		cmd = command()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd}
		err := cmd.Start()
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ETXTBSY) || try == busyTries {
			return nil, err
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
	c := &child{pid: cmd.Process.Pid, proc: cmd.Process, died: make(chan struct{})}
	if pidfd < 0 {
		c.abandon()
		return nil, errNoPidfd
	}
	// Only what is non-blocking gets into the poller.
	err := unix.SetNonblock(pidfd, true)
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	if err == nil {
		c.limits, err = limits.apply(c.pid)
	}
	if err != nil {
		c.abandon()
		return nil, errors.Join(err, c.pidfd.Close())
	}
	return c, nil
}

// errNoPidfd is returned on a kernel that is too old for the node.
var errNoPidfd = fmt.Errorf("the kernel gives no pidfd: %w; the node needs Linux 5.4 or newer", unix.ENOSYS)

// abandon ends a process that nobody will ever hear of.
func (c *child) abandon() {
	c.kill("it could not be supervised")
	_, _ = c.proc.Wait() // it was killed: there is nothing to say about how it ended
}

// watch waits for the end of the process and reaps it. It blocks a goroutine and
// no thread.
func (c *child) watch() {
	defer close(c.died)
	conn, err := c.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(func(fd uintptr) bool { return ended(int(fd), 0) })
	}
	if err != nil {
		// The poller is full (fs.epoll.max_user_watches). A thread it is, then.
		for !ended(int(c.pidfd.Fd()), -1) {
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// As long as its leader is not reaped no other group can have this number.
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	c.state, _ = c.proc.Wait() // returns at once: it has ended, and nobody else waits for it
	c.reaped = true
	_ = c.pidfd.Close()
}

// ended waits up to timeout ms, or without end if that is negative, for the
// process behind a pidfd to end.
func ended(pidfd int, timeout int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, timeout)
		if errors.Is(err, unix.EINTR) { // Go's own preemption signal, for one
			continue
		}
		return err == nil && n > 0
	}
}

// kill ends the process and its group. The first reason given is kept.
func (c *child) kill(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.why = cmp.Or(c.why, why)
	_ = c.proc.Kill() // fails only for a process that has ended, and then watch knows
	_ = unix.Kill(-c.pid, unix.SIGKILL)
}

// exit says how the process ended. It must be called after died.
func (c *child) exit() ExitState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ExitState{PID: c.pid, Code: -1, Killed: c.why}
	if c.state == nil {
		return s
	}
	s.Code = c.state.ExitCode()
	s.CPU = c.state.UserTime() + c.state.SystemTime()
	if w, ok := c.state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		s.Signal = w.Signal()
	}
	if u, ok := c.state.SysUsage().(*syscall.Rusage); ok {
		s.PeakMemory = uint64(u.Maxrss) << 10
	}
	if s.Signal != syscall.SIGKILL {
		s.Killed = "" // it was quicker
	}
	return s
}
