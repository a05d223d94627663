package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tree is where the groups of a Supervisor's plugins are: a folder of its own in
// each hierarchy that lets it make one.
type tree struct {
	pid      int // of the node
	branches []*branch
	notes    []string // what could not be had, and why
	made     atomic.Uint64
	put      putter
}

// putter writes to one of the kernel's files in a group; put, but for tests.
type putter func(dir, file, text string) error

// branch is the folder in one hierarchy.
type branch struct {
	own     string   // the node's group
	dir     string   // the folder, a group in own
	unified bool     // version 2
	holds   []string // the controllers whose limits can be set below dir
	enabled []string // of those, the ones that own did not hand on before
	moved   bool     // the node is in dir/node now
}

// nodeGroup is where the node goes if it stands in the way: in version 2 a group
// either has processes or hands on controllers.
const nodeGroup = "node"

// trees counts those of this process, for their names.
var trees atomic.Uint64

// openTree makes the folders, below root instead of / for tests. What cannot be
// had is noted.
func openTree(root string, put putter) *tree {
	t := &tree{pid: os.Getpid(), put: put}
	list, err := hierarchies(root)
	if err != nil {
		t.notes = append(t.notes, err.Error())
	}
	// The namespace is in the name because another one's numbers mean nothing here.
	ns, _ := os.Readlink(filepath.Join(root, "proc/self/ns/pid"))
	suffix := "-" + strings.Trim(strings.TrimPrefix(ns, "pid:"), "[]")
	name := fmt.Sprintf("inos-%d-%d%s", t.pid, trees.Add(1), suffix)
	for _, h := range list {
		sweep(root, h.dir, suffix)
		if err := enterable(h); err != nil {
			t.notes = append(t.notes, fmt.Sprintf("%s: %v", h.version(), err))
			continue
		}
		b := &branch{own: h.dir, dir: filepath.Join(h.dir, name), unified: h.unified, holds: h.controllers}
		if err := os.Mkdir(b.dir, 0o700); err != nil {
			t.notes = append(t.notes, fmt.Sprintf("%s: %v", h.version(), err))
			continue
		}
		t.branches = append(t.branches, b)
		if !b.unified {
			continue
		}
		if err := b.handOn(t.pid, h.controllers, put); err != nil {
			t.notes = append(t.notes, fmt.Sprintf("%s: %v", h.version(), err))
		}
	}
	return t
}

// enterable checks that processes of the node may be moved to groups below its
// own: the kernel wants its group to be writable for that.
func enterable(h hierarchy) error {
	file := filepath.Join(h.dir, "tasks")
	if h.unified {
		file = filepath.Join(h.dir, "cgroup.procs")
	}
	if err := unix.Access(file, unix.W_OK); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (h hierarchy) version() string {
	if h.unified {
		return GroupV2.String()
	}
	return GroupV1.String()
}

// handOn makes controllers usable below dir, as many as it can.
func (b *branch) handOn(pid int, controllers []string, put putter) error {
	const file = "cgroup.subtree_control"
	b.holds = nil
	before := words(filepath.Join(b.own, file))
	var errs []error
	for _, c := range controllers {
		if !slices.Contains(before, c) {
			err := put(b.own, file, "+"+c)
			if errors.Is(err, unix.EBUSY) && b.stepAside(pid, put) {
				err = put(b.own, file, "+"+c)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			b.enabled = append(b.enabled, c)
		}
		if err := put(b.dir, file, "+"+c); err != nil {
			errs = append(errs, err)
			continue
		}
		b.holds = append(b.holds, c)
	}
	return errors.Join(errs...)
}

// stepAside moves the node out of its group, if nobody else is in it.
func (b *branch) stepAside(pid int, put putter) bool {
	self := strconv.Itoa(pid)
	if b.moved || !slices.Equal(words(filepath.Join(b.own, "cgroup.procs")), []string{self}) {
		return false
	}
	node := filepath.Join(b.dir, nodeGroup)
	if err := os.Mkdir(node, 0o700); err != nil {
		return false
	}
	b.moved = put(node, "cgroup.procs", self) == nil
	return b.moved
}

// holder returns the branch in which a controller's limits can be set, nil if
// there is none. Version 2 comes first.
func (t *tree) holder(controller string) *branch {
	var found *branch
	for _, b := range t.branches {
		if slices.Contains(b.holds, controller) && (found == nil || b.unified) {
			found = b
		}
	}
	return found
}

// keeper returns the branch in which every process of a plugin is found, nil if
// there is none.
func (t *tree) keeper() *branch {
	for _, b := range t.branches {
		if b.unified {
			return b
		}
	}
	// With this one a group can be kept from growing while it is killed.
	if b := t.holder(pidsController); b != nil {
		return b
	}
	if len(t.branches) > 0 {
		return t.branches[0]
	}
	return nil
}

// close removes what openTree made. The plugins' groups must be gone.
func (t *tree) close() error {
	var errs []error
	put := t.put
	for _, b := range t.branches {
		if b.moved {
			for _, c := range b.enabled {
				_ = put(b.dir, "cgroup.subtree_control", "-"+c) // rmdir tells
				_ = put(b.own, "cgroup.subtree_control", "-"+c)
			}
			_ = put(b.own, "cgroup.procs", strconv.Itoa(t.pid))
		}
		errs = append(errs, removeGroups(b.dir))
	}
	t.branches = nil
	return errors.Join(errs...)
}

// sweep removes what nodes left that were killed, with the processes in it: they
// had hidden from the death of their plugin.
func sweep(root, dir, suffix string) {
	left, _ := filepath.Glob(filepath.Join(dir, "inos-*"+suffix)) // the pattern is good
	for _, d := range left {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(d), "inos-"), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "proc", number)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		_ = filepath.WalkDir(d, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				_ = killMembers(path) // the next node tries again
			}
			return nil
		})
		_ = removeGroups(d)
	}
}

// removeWait bounds how long killed processes may take to leave their group.
const removeWait = 2 * time.Second

// removeGroups removes a group and those in it. They must have no processes but
// such as are about to end.
func removeGroups(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what is not there needs no removal
	})
	if err != nil {
		return err
	}
	end := time.Now().Add(removeWait)
	for _, d := range slices.Backward(dirs) {
		for pause := time.Millisecond / 4; ; pause = min(2*pause, 20*time.Millisecond) {
			// Not os.RemoveAll: the files in it are the kernel's.
			err := unix.Rmdir(d)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
				return fmt.Errorf("removing the control group %s: %w", d, err)
			}
			time.Sleep(pause)
		}
	}
	return nil
}

// put writes to the file.
func put(dir, file, text string) error {
	// The kernel has made the file long ago; it is O_CREATE for tests, which give it
	// an ordinary folder.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", text, err)
	}
	return nil
}
