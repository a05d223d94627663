package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is a file system that looks as if it had control groups.
type machine string

func newMachine(t *testing.T, files map[string]string) machine {
	t.Helper()
	m := machine(t.TempDir())
	for path, text := range files {
		m.write(t, path, text)
	}
	if err := os.MkdirAll(filepath.Join(string(m), "proc/self/ns"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pid:[4026531836]", filepath.Join(string(m), "proc/self/ns/pid")); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m machine) write(t *testing.T, path, text string) {
	t.Helper()
	full := filepath.Join(string(m), path)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read returns the text of the one file that a pattern fits.
func (m machine) read(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(string(m), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// putAs is put as the kernel does it: a file with the lists of controllers takes
// one word at a time, and says EBUSY while the node is in the group.
func (m machine) putAs(self string, busy bool) putter {
	return func(dir, file, text string) error {
		procs := filepath.Join(dir, "cgroup.procs")
		switch {
		case file == "cgroup.subtree_control" && busy && slices.Contains(words(procs), self):
			return unix.EBUSY
		case file == "cgroup.subtree_control":
			text = strings.Join(append(words(filepath.Join(dir, file)), strings.TrimPrefix(text, "+")), " ")
		case file == "cgroup.procs":
			// It leaves the group where it was.
			err := filepath.WalkDir(string(m), func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.Name() == file && slices.Contains(words(path), text) {
					return os.WriteFile(path, nil, 0o600)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return put(dir, file, text)
	}
}

const (
	v2Mounts = "30 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mounts = "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
		"31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"34 30 0:31 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"39 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
)

func TestChoiceOfControlGroups(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	v2 := func(controllers, enabled, procs string) map[string]string {
		return map[string]string{
			"proc/self/mountinfo":                                    v2Mounts,
			"proc/self/cgroup":                                       "0::/user/inos.service\n",
			"sys/fs/cgroup/user/inos.service/cgroup.procs":           procs,
			"sys/fs/cgroup/user/inos.service/cgroup.controllers":     controllers,
			"sys/fs/cgroup/user/inos.service/cgroup.subtree_control": enabled,
		}
	}
	v1 := map[string]string{
		"proc/self/mountinfo":             v1Mounts,
		"proc/self/cgroup":                "4:memory:/docker/x/y\n3:cpu,cpuacct:/\n2:name=systemd:/\n1:freezer:/\n",
		"sys/fs/cgroup/memory/y/tasks":    "",
		"sys/fs/cgroup/cpu,cpuacct/tasks": "",
	}
	hybrid := map[string]string{
		"proc/self/mountinfo":                      v1Mounts + "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		"proc/self/cgroup":                         v1["proc/self/cgroup"] + "0::/\n",
		"sys/fs/cgroup/memory/y/tasks":             "",
		"sys/fs/cgroup/cpu,cpuacct/tasks":          "",
		"sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n",
	}
	all := Enforcement{GroupV2, GroupV2, GroupV2, GroupV2, ""}
	nothing := Enforcement{Watched, Unbounded, Watched, Watched, ""}
	for _, tt := range []struct {
		name  string
		files map[string]string
		busy  bool // the kernel refuses while the node is in its own group
		want  Enforcement
		note  string
	}{
		{"v2, handed on already", v2("cpu io memory pids\n", "cpu memory pids\n", self+"\n"), true, all, ""},
		{"v2, the node alone", v2("cpu memory pids\n", "", self+"\n"), true, all, ""},
		{"v2, the node not alone", v2("cpu memory pids\n", "", self+"\n1\n"), true, Enforcement{Watched, Unbounded, Watched, GroupV2, ""}, "busy"},
		{"v2, the root group", v2("cpu memory pids\n", "", self+"\n1\n"), false, all, ""},
		{"v2, no CPU delegated", v2("memory pids\n", "", self+"\n"), true, Enforcement{GroupV2, Unbounded, GroupV2, GroupV2, ""}, "no control groups with these controllers"},
		{"v1", v1, false, Enforcement{GroupV1, GroupV1, Watched, GroupV1, ""}, "no control groups"},
		{"both", hybrid, false, Enforcement{GroupV1, GroupV1, Watched, GroupV2, ""}, "no control groups"},
		{"folder that is not there", map[string]string{"proc/self/mountinfo": v2Mounts, "proc/self/cgroup": "0::/gone\n"}, false, nothing, "no such file"},
		{"outside of what is mounted", map[string]string{"proc/self/mountinfo": v1Mounts, "proc/self/cgroup": "4:memory:/elsewhere\n"}, false, nothing, "no control groups"},
		{"outside of the namespace", map[string]string{"proc/self/mountinfo": v2Mounts, "proc/self/cgroup": "0::/../x\n"}, false, nothing, "no control groups"},
		{"no /proc", nil, false, nothing, "mountinfo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.files)
			tree := openTree(string(m), m.putAs(self, tt.busy))
			got := tree.enforcement()
			note := got.Note
			if got.Note = ""; got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !strings.Contains(note, tt.note) || (note == "") != (tt.note == "") {
				t.Errorf("the note is %q, want %q", note, tt.note)
			}
			if moved := tt.name == "v2, the node alone" || tt.name == "v2, no CPU delegated"; moved {
				if at := m.read(t, "sys/fs/cgroup/user/inos.service/inos-*/node/cgroup.procs"); at != self {
					t.Errorf("in the group for the node is %q", at)
				}
			}
		})
	}
}

func TestGroupsHaveTheLimitsThatWereAskedFor(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	limits := Limits{Memory: 64 << 20, CPUPercent: 150, Processes: 32}
	t.Run("v2", func(t *testing.T) {
		m := newMachine(t, map[string]string{
			"proc/self/mountinfo": v2Mounts, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
		})
		tree := openTree(string(m), m.putAs(self, false))
		if got := m.read(t, "sys/fs/cgroup/inos-*/cgroup.subtree_control"); got != "memory cpu pids" {
			t.Errorf("handed on is %q", got)
		}
		g, err := tree.newGroup("a/b", limits)
		if err != nil || len(g.parts) != 1 || g.door == nil || g.memory != g.keeper {
			t.Fatalf("got %+v, %v", g, err)
		}
		t.Cleanup(func() { _ = g.door.Close() })
		for file, want := range map[string]string{"memory.max": "67108864", "cpu.max": "150000 100000", "pids.max": "32"} {
			if got := m.read(t, "sys/fs/cgroup/inos-*/a_b-1/"+file); got != want {
				t.Errorf("%s is %q, want %q", file, got, want)
			}
		}
		for text, want := range map[string][2]bool{
			"oom 0\noom_kill 0\n": {}, "oom 1\noom_kill 0\n": {},
			"low 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n": {true, true},
			"oom 0\noom_kill 1\n": {true, false}, "rubbish": {},
		} {
			if err := os.WriteFile(filepath.Join(g.memory, "memory.events"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if killed, own := g.outOfMemory(limits.Memory); killed != want[0] || own != want[1] {
				t.Errorf("%q: %v, %v", text, killed, own)
			}
		}
	})
	t.Run("v1", func(t *testing.T) {
		m := newMachine(t, map[string]string{
			"proc/self/mountinfo": strings.ReplaceAll(v1Mounts, "/docker/x", "/"), "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/\n",
			"sys/fs/cgroup/memory/x": "", "sys/fs/cgroup/cpu,cpuacct/x": "",
		})
		tree := openTree(string(m), put)
		g, err := tree.newGroup("p", limits)
		if err != nil || len(g.parts) != 2 || g.door != nil {
			t.Fatalf("got %+v, %v", g, err)
		}
		for file, want := range map[string]string{
			"memory/inos-*/p-1/memory.limit_in_bytes": "67108864",
			"cpu,cpuacct/inos-*/p-1/cpu.cfs_quota_us": "150000", "cpu,cpuacct/inos-*/p-1/cpu.cfs_period_us": "100000",
		} {
			if got := m.read(t, "sys/fs/cgroup/"+file); got != want {
				t.Errorf("%s is %q, want %q", file, got, want)
			}
		}
		// The forking thread is in the plugin's groups meanwhile, and then back.
		err = g.within(func() error {
			if m.read(t, "sys/fs/cgroup/memory/inos-*/p-1/tasks") != "0" {
				t.Error("the thread has not been moved")
			}
			return exec.ErrDot
		})
		if !errors.Is(err, exec.ErrDot) || m.read(t, "sys/fs/cgroup/memory/tasks") != "0" || m.read(t, "sys/fs/cgroup/cpu,cpuacct/tasks") != "0" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatDeadNodesLeftIsSweptAway(t *testing.T) {
	m := newMachine(t, map[string]string{
		"proc/self/mountinfo": v2Mounts, "proc/self/cgroup": "0::/\n",
		"sys/fs/cgroup/cgroup.controllers": "", "proc/77/stat": "",
	})
	for _, dir := range []string{"inos-66-1-4026531836/probe-1", "inos-77-1-4026531836/probe-1", "inos-66-1-99/probe-1", "inos-x-1-4026531836", "other"} {
		if err := os.MkdirAll(filepath.Join(string(m), "sys/fs/cgroup", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	openTree(string(m), m.putAs("0", false))
	for dir, want := range map[string]bool{
		"inos-66-1-4026531836": false, "inos-77-1-4026531836/probe-1": true, // its node lives
		"inos-66-1-99/probe-1": true, // its number means nothing here
		"inos-x-1-4026531836":  true, "other": true,
	} {
		_, err := os.Stat(filepath.Join(string(m), "sys/fs/cgroup", dir))
		if (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	e, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if left := ownGroups(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	s := tidy(t)
	if got := s.Enforcement(); got != e {
		t.Errorf("a supervisor has %v, the probe said %v", got, e)
	}
	t.Log(e, e.Note)
}

func FuzzMountsAndGroups(f *testing.F) {
	f.Add(v1Mounts+v2Mounts, "4:memory:/docker/x/y\n0::/a b\n")
	f.Add(`1 1 0:1 / /a\040b\134 rw - cgroup2 x rw`, "0::/\n::\n")
	f.Fuzz(func(t *testing.T, mounts, groups string) {
		m := machine(t.TempDir())
		m.write(t, "proc/self/mountinfo", mounts)
		m.write(t, "proc/self/cgroup", groups)
		list, err := hierarchies(string(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range list {
			if !strings.HasPrefix(h.dir, string(m)) {
				t.Fatalf("%q is outside of the machine", h.dir)
			}
		}
	})
}
