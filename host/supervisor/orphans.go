package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var list []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// number (name) state parent group ...; the name can hold anything.
		at := strings.LastIndex(string(b), ")")
		f := strings.Fields(string(b[at+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(f) > 2 && pid != group && f[1] == strconv.Itoa(os.Getpid()) && f[2] == strconv.Itoa(group) {
			list = append(list, pid)
		}
	}
	return list
}
