package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stat is what /proc/PID/stat says of a process.
type stat struct {
	pid, parent, group int
	state              byte
	threads            uint64
	start              uint64 // in ticks since boot: with the number it is unique
}

// readStat reads it below proc, which is /proc but for tests. It returns false
// when there is no such process.
func readStat(proc string, pid int) (stat, bool) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, false
	}
	s, err := parseStat(string(b))
	return s, err == nil
}

var errStat = errors.New("no line of /proc/PID/stat")

// parseStat reads: number (name) state parent group session tty ..., where the
// name can hold anything.
func parseStat(line string) (stat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return stat{}, errStat
	}
	f := strings.Fields(line[end+1:])
	const threads, start = 17, 19
	if len(f) <= start || len(f[0]) != 1 {
		return stat{}, errStat
	}
	s := stat{state: f[0][0]}
	var errs [5]error
	s.pid, errs[0] = strconv.Atoi(strings.TrimSpace(line[:open]))
	s.parent, errs[1] = strconv.Atoi(f[1])
	s.group, errs[2] = strconv.Atoi(f[2])
	s.threads, errs[3] = strconv.ParseUint(f[threads], 10, 64)
	s.start, errs[4] = strconv.ParseUint(f[start], 10, 64)
	return s, errors.Join(errs[:]...)
}
