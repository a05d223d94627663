package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// orphanWait bounds how long the killed members of a group may take to end.
const orphanWait = time.Second

// reapOrphans reaps what a dead plugin's group left to this process. Where the
// host is the first process of a container, or a subreaper, it becomes the parent
// of a plugin's children when the plugin dies, and nobody else will ever reap
// them. Elsewhere it finds nothing and costs one call.
func reapOrphans(group int) {
	end := time.Now().Add(orphanWait)
	for {
		err := unix.Waitid(unix.P_PGID, group, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		left := orphans(group)
		for _, pid := range left {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // it may not have ended yet
		}
		if len(left) == 0 || time.Now().After(end) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// orphans lists the children of this process that are in a group without leading
// it: by now the group's number can be a new plugin's, and that is not to be
// reaped here.
func orphans(group int) []int {
	numbers, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	var list []int
	for _, path := range numbers {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if s, ok := readStat("/proc", pid); ok && pid != group && s.parent == os.Getpid() && s.group == group {
			list = append(list, pid)
		}
	}
	return list
}

// reapStrays does the same for processes that had left the group and were killed.
func reapStrays(list []stat) {
	end := time.Now().Add(orphanWait)
	for len(list) > 0 && time.Now().Before(end) {
		var left []stat
		for _, was := range list {
			now, ok := readStat("/proc", was.pid)
			if !ok || now.start != was.start {
				continue
			}
			switch {
			case now.parent == os.Getpid():
				// Nobody gets its number before this reaps it; it may not have ended yet.
				_, _ = unix.Wait4(was.pid, nil, unix.WNOHANG, nil)
			case !slices.ContainsFunc(list, func(s stat) bool { return s.pid == now.parent }):
				continue // it is another's to reap
			}
			left = append(left, was)
		}
		if list = left; len(list) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
