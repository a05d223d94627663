package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often a census looks.
const lookEvery = 100 * time.Millisecond

// markerEnv is the variable by which a plugin's processes are known where there
// are no control groups.
const markerEnv = "INOS_PROCESS"

// census finds what plugins have started, and what it uses, where control groups
// do not do it. A subreaper (prctl(2)) would find orphans more surely, but it is
// a property of the whole process: orphans of everything that the host's program
// starts would come to it, and nobody would reap them.
type census struct {
	proc string // /proc, another folder in tests

	mu    sync.Mutex
	seen  map[int]uint64 // the processes of the last look, with their start
	herds map[*herd]struct{}
}

// herd is one plugin's processes.
type herd struct {
	leader int
	marker string // NAME=value in the environment of each, unless it took care
	limits Limits // those to be watched, 0 for the others
	over   func(limit, why string)

	members map[int]uint64 // by number, with their start; of census.mu
}

func newCensus(proc string) *census {
	return &census{proc: proc, seen: make(map[int]uint64), herds: make(map[*herd]struct{})}
}

// run looks until stop is closed.
func (c *census) run(stop <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look()
		case <-stop:
			return
		}
	}
}

// join adds a plugin that has just been forked.
func (c *census) join(h *herd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// All are looked at once more: it may have started another one between its fork
	// and this.
	clear(c.seen)
	h.members = make(map[int]uint64)
	if s, ok := readStat(c.proc, h.leader); ok {
		h.members[h.leader] = s.start
	}
	c.herds[h] = struct{}{}
}

// look notes who has come and gone, and tells of those who are above a limit.
func (c *census) look() {
	c.mu.Lock()
	var over []func()
	if len(c.herds) > 0 {
		c.count()
		for h := range c.herds {
			if limit, why := c.judge(h); why != "" {
				over = append(over, func() { h.over(limit, why) })
			}
		}
	}
	c.mu.Unlock()
	for _, f := range over {
		f()
	}
}

// count reads the table of processes. Of one that it knows it reads nothing
// again: once a plugin's, a process stays so.
func (c *census) count() {
	dir, err := os.Open(c.proc)
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1) // what was read before an error counts
	_ = dir.Close()
	now := make(map[int]uint64, len(names))
	var fresh []stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if start, known := c.seen[pid]; known {
			now[pid] = start
			continue
		}
		if s, ok := readStat(c.proc, pid); ok {
			now[pid] = s.start
			fresh = append(fresh, s)
		}
	}
	c.seen = now
	for h := range c.herds {
		for pid, start := range h.members {
			if now[pid] != start {
				delete(h.members, pid)
			}
		}
	}
	// A parent can have the higher number, so once is not enough.
	for found := true; found; {
		found = false
		rest := fresh[:0]
		for _, s := range fresh {
			if h := c.owner(s); h != nil {
				h.members[s.pid] = s.start
				found = true
			} else {
				rest = append(rest, s)
			}
		}
		fresh = rest
	}
	for _, s := range fresh {
		c.recognize(s)
	}
}

// owner returns the plugin that a process belongs to by its parent or its group.
func (c *census) owner(s stat) *herd {
	for h := range c.herds {
		if _, ok := h.members[s.parent]; ok || s.group == h.leader || s.pid == h.leader {
			return h
		}
	}
	return nil
}

// recognize adds a process that bears a plugin's mark.
func (c *census) recognize(s stat) {
	env, err := os.ReadFile(filepath.Join(c.proc, strconv.Itoa(s.pid), "environ"))
	if err != nil || !bytes.Contains(env, []byte(markerEnv+"=")) {
		return
	}
	for _, e := range bytes.Split(env, []byte{0}) {
		for h := range c.herds {
			if string(e) == h.marker {
				h.members[s.pid] = s.start
			}
		}
	}
}

// judge says which limit a plugin is above.
func (c *census) judge(h *herd) (limit, why string) {
	if h.limits.Memory == 0 && h.limits.Processes == 0 {
		return "", ""
	}
	var memory, tasks uint64
	for pid := range h.members {
		if s, ok := readStat(c.proc, pid); ok {
			tasks += s.threads
			memory += c.resident(pid)
		}
	}
	switch {
	case h.limits.Memory > 0 && memory > h.limits.Memory:
		limit = h.limits.memoryLimit()
		return limit, fmt.Sprintf("it had %s resident, above %s", size(memory), limit)
	case h.limits.Processes > 0 && tasks > h.limits.Processes:
		limit = h.limits.processLimit()
		return limit, fmt.Sprintf("it had %d processes and threads, above %s", tasks, limit)
	}
	return "", ""
}

// resident returns the bytes of memory that a process has to itself.
func (c *census) resident(pid int) uint64 {
	f := words(filepath.Join(c.proc, strconv.Itoa(pid), "statm"))
	if len(f) < 3 {
		return 0
	}
	all, err1 := strconv.ParseUint(f[1], 10, 64)
	shared, err2 := strconv.ParseUint(f[2], 10, 64)
	if err1 != nil || err2 != nil || shared > all {
		return 0
	}
	return (all - shared) * uint64(os.Getpagesize())
}

// kill sends all of a plugin's processes a signal that they cannot keep off, and
// returns those that there were beside the leader.
func (c *census) kill(h *herd) (others []stat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid, start := range h.members {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Now that it is held fast: is it still the one?
		if s, ok := readStat(c.proc, pid); ok && s.start == start && s.state != 'Z' && s.state != 'X' {
			if pid != h.leader {
				others = append(others, s)
			}
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
		}
		_ = unix.Close(fd)
	}
	return others
}

// leave kills what is left of a plugin whose leader has ended and forgets it. It
// returns the processes that it found.
func (c *census) leave(h *herd) (found []stat, err error) {
	end := time.Now().Add(orphanWait)
	for {
		c.mu.Lock()
		c.count()
		c.mu.Unlock()
		left := c.kill(h)
		found = append(found, left...)
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			err = fmt.Errorf("%d processes that it started do not end, the first is %d", len(left), left[0].pid)
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.herds, h)
	return found, err
}
