package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// group is what holds the processes of one plugin: a control group in each
// hierarchy that is needed for its limits, and one in which its processes are
// found. A process gets out only if it has the rights of root.
type group struct {
	keeper string // the folder in which its processes are found
	parts  []part
	door   *os.File // keeper, if processes can be started in it; nil in version 1
	memory string   // the folder with the memory's limit, empty without one
}

// part is the group in one hierarchy.
type part struct {
	dir, from string // it, and the group of the node
	unified   bool
}

// period is that of the share of CPU time, in microseconds: the kernel's default.
const period = 100_000

// newGroup makes the group of a plugin and sets its limits, nil if there are no
// control groups.
func (t *tree) newGroup(name string, l Limits) (g *group, err error) {
	keeper := t.keeper()
	if keeper == nil {
		return nil, nil
	}
	if err := atGroup.Hit(); err != nil {
		return nil, err
	}
	g = &group{}
	defer func() {
		if err != nil {
			_, left := g.remove()
			err = errors.Join(fmt.Errorf("control group: %w", err), left)
		}
	}()
	name = fmt.Sprintf("%s-%d", folderName(name), t.made.Add(1))
	if g.keeper, err = g.enter(keeper, name); err != nil {
		return g, err
	}
	if keeper.unified {
		if g.door, err = os.Open(g.keeper); err != nil {
			return g, err
		}
	}
	for _, limit := range []struct {
		controller string
		bound      uint64
		set        func(dir string, unified bool, bound uint64) error
	}{
		{memoryController, l.Memory, setMemory},
		{cpuController, l.CPUPercent, setCPU},
		{pidsController, l.Processes, setProcesses},
	} {
		b := t.holder(limit.controller)
		if limit.bound == 0 || b == nil {
			continue
		}
		dir, err := g.enter(b, name)
		if err != nil {
			return g, err
		}
		if err := limit.set(dir, b.unified, limit.bound); err != nil {
			return g, err
		}
		if limit.controller == memoryController {
			g.memory = dir
		}
	}
	return g, nil
}

// folderName makes a plugin's name fit for a folder.
func folderName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' {
			return '_'
		}
		return r
	}, name[:min(len(name), 64)])
}

// enter makes the group's part in a branch, once.
func (g *group) enter(b *branch, name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if slices.ContainsFunc(g.parts, func(p part) bool { return p.dir == dir }) {
		return dir, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return dir, err
	}
	g.parts = append(g.parts, part{dir: dir, from: b.own, unified: b.unified})
	return dir, nil
}

func setMemory(dir string, unified bool, bound uint64) error {
	n := strconv.FormatUint(bound, 10)
	if !unified {
		if err := put(dir, "memory.limit_in_bytes", n); err != nil {
			return err
		}
		return ifThere(dir, "memory.memsw.limit_in_bytes", n) // memory and swap together
	}
	if err := put(dir, "memory.max", n); err != nil {
		return err
	}
	// All of it ends together: half a plugin is of no use.
	return errors.Join(ifThere(dir, "memory.swap.max", "0"), ifThere(dir, "memory.oom.group", "1"))
}

func setCPU(dir string, unified bool, percent uint64) error {
	quota := percent * period / 100
	if unified {
		return put(dir, "cpu.max", fmt.Sprintf("%d %d", quota, period))
	}
	return errors.Join(put(dir, "cpu.cfs_period_us", strconv.Itoa(period)), put(dir, "cpu.cfs_quota_us", strconv.FormatUint(quota, 10)))
}

func setProcesses(dir string, _ bool, bound uint64) error {
	return put(dir, "pids.max", strconv.FormatUint(bound, 10))
}

// ifThere is put, unless the kernel was built without the file.
func ifThere(dir, file, text string) error {
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return put(dir, file, text)
}

// within runs start on the calling thread, which must be locked, with the thread
// in the group's parts of version 1: so what it forks is in them from its first
// moment. To move a thread costs microseconds, to move a process milliseconds.
func (g *group) within(start func() error) error {
	if g == nil {
		return start()
	}
	var back []string
	defer func() {
		for _, dir := range back {
			// If that fails, the thread is in the next plugin's group soon. It is never
			// killed there: see killMembers.
			_ = put(dir, "tasks", "0")
		}
	}()
	for _, p := range g.parts {
		if p.unified {
			continue
		}
		if err := put(p.dir, "tasks", "0"); err != nil {
			return fmt.Errorf("control group: %w", err)
		}
		back = append(back, p.from)
	}
	return start()
}

// entrance returns the descriptor with which a process is started in the group,
// negative if there is none.
func (g *group) entrance() int {
	if g == nil || g.door == nil {
		return -1
	}
	return int(g.door.Fd())
}

// join moves a process that could not be started in the group's part of version
// 2.
func (g *group) join(pid int) error {
	if g == nil {
		return nil
	}
	for _, p := range g.parts {
		if p.unified {
			if err := put(p.dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
				return fmt.Errorf("control group: %w", err)
			}
		}
	}
	return nil
}

// outOfMemory tells whether the kernel killed a process of the group for want of
// memory, and whether that was for the group's own limit.
func (g *group) outOfMemory(limit uint64) (killed, ownLimit bool) {
	if g == nil || g.memory == "" {
		return false, false
	}
	at := func(file, name string) uint64 { return counter(filepath.Join(g.memory, file), name) }
	if at("memory.events", "oom_kill") > 0 {
		return true, at("memory.events", "oom") > 0
	}
	// Version 1 does not tell, and its count of failures is 0 in new kernels. But a
	// group that never came near its limit did not die of it.
	return at("memory.oom_control", "oom_kill") > 0, at("memory.max_usage_in_bytes", "")+nearLimit >= limit
}

// nearLimit is more than the kernel charges at once, in bytes.
const nearLimit = 1 << 20

// counter reads one of the numbers in a file of lines "name number", or the
// number alone if there is no name. It is 0 if there is none.
func counter(path, name string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		number, found := strings.CutPrefix(strings.TrimSpace(line), name)
		if found && (name == "" || strings.HasPrefix(number, " ")) {
			n, _ := strconv.ParseUint(strings.TrimSpace(number), 10, 64) // 0 for what is no number
			return n
		}
	}
	return 0
}
