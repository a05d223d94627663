package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The controllers of control groups that are put to use.
const (
	memoryController = "memory"
	cpuController    = "cpu"
	pidsController   = "pids"
)

// wanted lists them in the order in which they are enabled: the kernel refuses
// memory when it is not the first and the node is in the same group.
var wanted = []string{memoryController, cpuController, pidsController}

// hierarchy is one tree of control groups (cgroups(7)), seen from the group that
// this process is in.
type hierarchy struct {
	dir         string   // of that group
	unified     bool     // version 2
	controllers []string // of those wanted: that it was mounted with, or in version 2 that the group has
}

// hierarchies reads which trees there are, below root instead of / for tests.
func hierarchies(root string) ([]hierarchy, error) {
	mounts, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("which control groups there are: %w", err)
	}
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, fmt.Errorf("which control groups the node is in: %w", err)
	}
	var list []hierarchy
	for line := range strings.Lines(string(mounts)) {
		m, ok := parseMount(line)
		if !ok {
			continue
		}
		for _, g := range parseGroups(string(groups)) {
			below, ok := g.below(m)
			if !ok {
				continue
			}
			h := hierarchy{dir: filepath.Join(root, m.at, below), unified: m.unified}
			if h.controllers = intersect(wanted, g.controllers); m.unified {
				h.controllers = intersect(wanted, words(filepath.Join(h.dir, "cgroup.controllers")))
			}
			// A tree may be mounted more than once.
			if h.unified || len(h.controllers) > 0 {
				if !slices.ContainsFunc(list, func(o hierarchy) bool {
					return o.unified == h.unified && slices.Equal(o.controllers, h.controllers)
				}) {
					list = append(list, h)
				}
			}
		}
	}
	return list, nil
}

// mount is where a tree of control groups is mounted.
type mount struct {
	root    string // the group that is seen at the mount point
	at      string // the mount point
	unified bool
	options []string // of version 1: its controllers among others
}

// parseMount reads a line of mountinfo (proc(5)), false if it is of something
// else than control groups.
func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
	where, what := strings.Fields(before), strings.Fields(after)
	if !ok || len(where) < 6 || len(what) < 3 {
		return mount{}, false
	}
	m := mount{root: unescape(where[3]), at: unescape(where[4])}
	switch what[0] {
	case "cgroup2":
		m.unified = true
	case "cgroup":
		m.options = strings.Split(what[2], ",")
	default:
		return mount{}, false
	}
	return m, true
}

// unescape undoes what mountinfo does to blanks: \040 and the like.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if len(after) >= 3 {
			if n, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				b.WriteByte(byte(n))
				s = after[3:]
				continue
			}
		}
		b.WriteByte('\\')
		s = after
	}
}

// membership is the group of this process in one tree.
type membership struct {
	controllers []string // none in version 2
	path        string
	unified     bool
}

// parseGroups reads /proc/self/cgroup: number:controllers:path in each line.
func parseGroups(text string) []membership {
	var list []membership
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(part) != 3 || !strings.HasPrefix(part[2], "/") {
			continue
		}
		g := membership{path: part[2], unified: part[0] == "0" && part[1] == ""}
		if !g.unified {
			g.controllers = strings.Split(part[1], ",")
		}
		list = append(list, g)
	}
	return list
}

// below returns the group's path under the mount point, false if the group is of
// another tree or is not visible there.
func (g membership) below(m mount) (string, bool) {
	if g.unified != m.unified || !g.unified && len(intersect(g.controllers, m.options)) == 0 {
		return "", false
	}
	// A process outside the root of its cgroup namespace sees /.. in the path.
	if slices.Contains(strings.Split(g.path, "/"), "..") {
		return "", false
	}
	if m.root == "/" {
		return g.path, true
	}
	rest, ok := strings.CutPrefix(g.path, m.root)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// intersect returns what of a is also in b.
func intersect(a, b []string) []string {
	var list []string
	for _, x := range a {
		if slices.Contains(b, x) {
			list = append(list, x)
		}
	}
	return list
}

// words returns the words in a file, none if it cannot be read.
func words(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}
