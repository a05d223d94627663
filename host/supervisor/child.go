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
	fence  *fence
	died   chan struct{} // closed when it is reaped

	mu     sync.Mutex // held while signals are sent, so that none reaches a stranger
	reaped bool
	why    string // of the first kill
	limit  string // that ended it
	others []stat // processes of the plugin that were killed with it
	state  *os.ProcessState
}

// busyTries bounds how often a binary that is "busy" is tried again. Another
// thread that forks while a binary is written holds the writing end for the blink
// between its fork and its exec.
const busyTries = 20

// startChild forks. It must be called on the forking thread. The files of cmd
// stay the caller's, and so does the fence if it fails.
func startChild(command func() *exec.Cmd, f *fence) (*child, error) {
	if err := atFork.Hit(); err != nil {
		return nil, err
	}
	var cmd *exec.Cmd
	pidfd := -1
	door := f.group.entrance()
	for try := 0; ; try++ {
		cmd = command()
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd,
			UseCgroupFD: door >= 0, CgroupFD: door,
		}
		err := f.group.within(cmd.Start)
		if err == nil {
			break
		}
		if door >= 0 && noEntrance(err) {
			door = -1
			continue
		}
		if !errors.Is(err, unix.ETXTBSY) || try == busyTries {
			return nil, err
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
	c := &child{pid: cmd.Process.Pid, proc: cmd.Process, fence: f, died: make(chan struct{})}
	if pidfd < 0 {
		c.abandon()
		return nil, errNoPidfd
	}
	// Only what is non-blocking gets into the poller.
	err := unix.SetNonblock(pidfd, true)
	c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	if err == nil && door < 0 {
		err = f.group.join(c.pid)
	}
	if err == nil {
		c.limits, err = f.limits.apply(c.pid, f.in)
	}
	if err == nil {
		err = atForked.Hit()
	}
	if err != nil {
		c.abandon()
		return nil, errors.Join(err, c.pidfd.Close())
	}
	return c, nil
}

// noEntrance says whether a start failed because a process cannot be started in
// a control group: the kernel is older than 5.7, or a container's seccomp profile
// forbids clone3.
func noEntrance(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM)
}

// errNoPidfd is returned on a kernel that is too old for the node.
var errNoPidfd = fmt.Errorf("the kernel gives no pidfd: %w; the node needs Linux 5.4 or newer", unix.ENOSYS)

// abandon ends a process that nobody will ever hear of.
func (c *child) abandon() {
	c.kill("it could not be supervised")
	// Through a descriptor that is non-blocking Wait does not wait.
	for c.pidfd != nil && !ended(int(c.pidfd.Fd()), -1) {
	}
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
	_ = atReap.Hit()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killRest()
	c.state, _ = c.proc.Wait() // returns at once: it has ended, and nobody else waits for it
	c.reaped = true
	_ = c.pidfd.Close()
	c.limit = cmp.Or(c.limit, c.limitReached())
}

// killRest kills what belongs to the plugin beside its process. The caller holds
// mu, and the process is not reaped: until then no other group can have its
// number.
func (c *child) killRest() {
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	c.others = append(c.others, c.fence.kill()...)
}

// limitReached names the limit that ended the process, empty if none did. The
// caller holds mu.
func (c *child) limitReached() string {
	if c.state == nil || c.why != "" || c.state.Success() {
		return ""
	}
	if w, ok := c.state.Sys().(syscall.WaitStatus); ok && w.Signaled() && w.Signal() == syscall.SIGKILL {
		return c.fence.outOfMemory()
	}
	// A program that is refused memory ends itself.
	if u, ok := c.state.SysUsage().(*syscall.Rusage); ok && c.fence.in.Memory == Watched && uint64(u.Maxrss)<<10 > c.fence.limits.Memory {
		return c.fence.limits.memoryLimit()
	}
	return ""
}

// struck returns the processes of the plugin that were killed with it.
func (c *child) struck() []stat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.others
}

// overLimit kills a process that is above a limit.
func (c *child) overLimit(limit, why string) {
	c.mu.Lock()
	if !c.reaped && c.why == "" {
		c.limit = limit
	}
	c.mu.Unlock()
	c.kill(why)
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

// kill ends the process and all that it started. The first reason given is kept.
func (c *child) kill(why string) {
	_ = atKill.Hit()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.why = cmp.Or(c.why, why)
	_ = c.proc.Kill() // fails only for a process that has ended, and then watch knows
	c.killRest()
}

// wake lets a process go on that was stopped (SIGSTOP), and its group.
func (c *child) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Kill(-c.pid, unix.SIGCONT) // fails only for a process that has ended
	}
}

// exit says how the process ended. It must be called after died.
func (c *child) exit() ExitState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ExitState{PID: c.pid, Code: -1, Killed: c.why, Limit: c.limit}
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
		if c.why != "" {
			s.Limit = ""
		}
	}
	return s
}
