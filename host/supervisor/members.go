package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// kill sends all its processes a signal that they cannot keep off, and returns
// without waiting for their end. It does nothing without a group.
func (g *group) kill() {
	if g == nil {
		return
	}
	_ = killMembers(g.keeper) // remove tries again, and tells
}

// killMembers kills the processes in a group: by the kernel at one stroke where
// it can (Linux 5.14), else one by one.
func killMembers(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err == nil {
		return put(dir, "cgroup.kill", "1")
	}
	_ = ifThere(dir, "pids.max", "0") // so that it does not grow meanwhile
	before := words(filepath.Join(dir, "cgroup.procs"))
	fds := make(map[string]int, len(before))
	for _, p := range before {
		pid, err := strconv.Atoi(p)
		if err != nil || pid == 0 || pid == os.Getpid() {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds[p] = fd
		}
	}
	// Who is still in it now is who the descriptor means, and not one that got the
	// number of a dead one.
	after := words(filepath.Join(dir, "cgroup.procs"))
	var errs []error
	for p, fd := range fds {
		if slices.Contains(after, p) {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("killing %s: %w", p, err))
			}
		}
		_ = unix.Close(fd)
	}
	return errors.Join(errs...)
}

// members lists its processes. There are none without a group.
func (g *group) members() []stat {
	if g == nil {
		return nil
	}
	var list []stat
	for _, p := range words(filepath.Join(g.keeper, "cgroup.procs")) {
		pid, err := strconv.Atoi(p)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if s, ok := readStat("/proc", pid); ok {
			list = append(list, s)
		}
	}
	return list
}

// remove kills what is left in the group and removes it. It returns what it
// killed, and does nothing without a group.
func (g *group) remove() (killed []stat, err error) {
	if g == nil {
		return nil, nil
	}
	if g.door != nil {
		_ = g.door.Close()
	}
	if err := atUngroup.Hit(); err != nil {
		return nil, err
	}
	for range killRounds {
		left := g.members()
		if len(left) == 0 {
			break
		}
		killed = append(killed, left...)
		if err := killMembers(g.keeper); err != nil {
			return killed, err
		}
	}
	var errs []error
	for _, p := range slices.Backward(g.parts) {
		errs = append(errs, removeGroups(p.dir))
	}
	return killed, errors.Join(errs...)
}

// killRounds bounds how often it is tried to kill processes that go on forking
// where the kernel does not kill a group at one stroke.
const killRounds = 100
