package segment

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// checkMemory returns ErrNoMemory when n bytes are more than what is available. A
// segment takes its memory at once and keeps it, so an answer now is better than
// the kernel's killing somebody later. root is the root of the file system.
func checkMemory(root fs.FS, n uint64) error {
	left, limit, err := available(root)
	if err != nil {
		return err
	}
	if n > left {
		return fmt.Errorf("%w: %s wanted, %s available (%s); use a smaller Options.Size (--segment)",
			ErrNoMemory, amount(n), amount(left), limit)
	}
	return nil
}

// available returns how much memory this process can still have, and which limit
// says so: the machine's, or that of a control group it is in.
func available(root fs.FS) (left uint64, limit string, err error) {
	left, ok := field(root, "proc/meminfo", "MemAvailable:")
	if !ok {
		return 0, "", errors.New("segment: no MemAvailable in /proc/meminfo: is /proc mounted?")
	}
	left, limit = left*1024, "of the machine" // it counts in kB
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return left, limit, nil // a kernel without control groups
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		v := version2
		if fields[1] != "" {
			v = version1
		}
		if fields[1] != v.controller {
			continue
		}
		// Any group on the way up may have the tightest limit.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if n, ok := v.left(root, group); ok && n < left {
				left, limit = n, "in control group "+group
			}
			if group == "/" {
				break
			}
		}
	}
	return left, limit, nil
}

// hierarchy says where a version of control groups keeps its figures.
type hierarchy struct{ controller, mount, limit, usage string }

var (
	version1 = hierarchy{"memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"}
	version2 = hierarchy{"", "sys/fs/cgroup", "memory.max", "memory.current"}
)

// left returns what a group may still use. It reports false where there is no
// limit, or no such group to be seen from here.
func (h hierarchy) left(root fs.FS, group string) (uint64, bool) {
	dir := path.Join(h.mount, group)
	limit, ok := number(root, path.Join(dir, h.limit))
	if !ok {
		return 0, false // also "max"
	}
	used, ok := number(root, path.Join(dir, h.usage))
	if !ok {
		return 0, false
	}
	// Cached files are given up before the limit bites.
	for _, name := range []string{"inactive_file", "active_file"} {
		if n, ok := field(root, path.Join(dir, "memory.stat"), name); ok {
			used -= min(used, n)
		}
	}
	return limit - min(limit, used), true
}

// number reads a file that holds one.
func number(root fs.FS, name string) (uint64, bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// field reads the number behind a key, in a file with one key on each line.
func field(root fs.FS, name, key string) (uint64, bool) {
	f, err := root.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == key {
			n, err := strconv.ParseUint(words[1], 10, 64)
			return n, err == nil && n < math.MaxUint64/1024
		}
	}
	return 0, false
}
