package doctor

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"inos/host/supervisor"
)

func expect(t *testing.T, f Finding, level Level, detail string) {
	t.Helper()
	if f.Level != level || !strings.Contains(f.Detail, detail) {
		t.Errorf("%s: %s, %q; want %s and %q in it", f.Check, f.Level, f.Detail, level, detail)
	}
	if f.Level != OK && f.Advice == "" {
		t.Errorf("%s: %s without advice", f.Check, f.Level)
	}
}

func TestKernelsAreJudgedByTheirRelease(t *testing.T) {
	expect(t, judgeKernel("6.1.0-18-amd64"), OK, "6.1.0")
	expect(t, judgeKernel("5.14"), OK, "5.14")
	expect(t, judgeKernel("5.10.0-28-cloud"), Warn, "POPULATE")
	expect(t, judgeKernel("5.2.1"), Fail, "pidfd")
	expect(t, judgeKernel("4.19.0"), Fail, "FUTURE_WRITE")
	expect(t, judgeKernel("plan9"), Warn, "not understood")
}

func TestMemoryIsComparedWithTheSegment(t *testing.T) {
	machine := func(kb string) fstest.MapFS {
		return fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 9 kB\nMemAvailable:   " + kb + " kB\n")}}
	}
	expect(t, memory(machine("8000000"), 256<<20), OK, "fits")
	expect(t, memory(machine("300000"), 256<<20), Warn, "little")
	expect(t, memory(machine("100000"), 256<<20), Fail, "less than")
	expect(t, memory(fstest.MapFS{}, 256<<20), Warn, "nothing")
}

func TestControlGroupLimitIsFoundAtEveryLevel(t *testing.T) {
	v2 := fstest.MapFS{
		"proc/self/cgroup":                 {Data: []byte("0::/a/b\n")},
		"sys/fs/cgroup/cgroup.controllers": {},
		"sys/fs/cgroup/a/memory.max":       {Data: []byte("1073741824\n")},
		"sys/fs/cgroup/a/b/memory.max":     {Data: []byte("max\n")},
	}
	v1 := fstest.MapFS{
		"proc/self/cgroup":                                  {Data: []byte("4:cpu,cpuacct:/x\n3:memory:/docker\n")},
		"sys/fs/cgroup/memory/memory.limit_in_bytes":        {Data: []byte("9223372036854771712\n")},
		"sys/fs/cgroup/memory/docker/memory.limit_in_bytes": {Data: []byte("536870912\n")},
	}
	for _, c := range []struct {
		root    fstest.MapFS
		version string
		limit   uint64
	}{{v2, "v2", 1 << 30}, {v1, "v1", 512 << 20}, {fstest.MapFS{}, "", math.MaxUint64}} {
		if version, limit := memoryLimit(c.root); version != c.version || limit != c.limit {
			t.Errorf("%q %d, want %q %d", version, limit, c.version, c.limit)
		}
	}
	expect(t, controlGroup(v2, 256<<20), OK, "1 GiB")
	expect(t, controlGroup(v1, 400<<20), Warn, "512 MiB")
	expect(t, controlGroup(fstest.MapFS{}, 256<<20), OK, "none")
}

func TestLimitsAreJudged(t *testing.T) {
	expect(t, judgeLimit("processes", unix.Rlimit{Cur: 64}, 256, "raise it"), Warn, "64 allowed")
	expect(t, judgeLimit("processes", unix.Rlimit{Cur: 4096}, 256, "raise it"), OK, "4096")
	expect(t, judgeLimit("processes", unix.Rlimit{Cur: unix.RLIM_INFINITY}, 256, "raise it"), OK, "no limit")
	expect(t, judgeLimit("locked memory", unix.Rlimit{Cur: 8 << 20}, 0, ""), OK, "8 MiB")
}

func TestOpenFilesMustSufficeForANode(t *testing.T) {
	expect(t, judgeOpenFiles(64, errors.New("the limit of open files is 64")), Fail, "is 64")
	expect(t, judgeOpenFiles(512, nil), Warn, "512 allowed")
	expect(t, judgeOpenFiles(4096, nil), OK, "4096 allowed")
	expect(t, judgeOpenFiles(supervisor.Unlimited, nil), OK, "no limit")
}

func TestLimitsThatTheKernelDoesNotKeepAreTold(t *testing.T) {
	e := supervisor.Enforcement{
		Memory: supervisor.GroupV2, CPU: supervisor.GroupV2, Processes: supervisor.GroupV1, Children: supervisor.GroupV2,
	}
	expect(t, judgeEnforcement(e, nil), OK, "memory: cgroup v2, CPU: cgroup v2, processes: cgroup v1")
	e.CPU, e.Note = supervisor.Unbounded, "permission denied"
	expect(t, judgeEnforcement(e, nil), Warn, "CPU: none")
	expect(t, judgeEnforcement(e, nil), Warn, "permission denied")
	expect(t, judgeEnforcement(e, errors.New("it stays")), Warn, "it stays")
}

func TestHomeMustBelongToTheUserAlone(t *testing.T) {
	dir := t.TempDir()
	sub := func(name string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, home(sub("good", 0o700)), OK, "good")
	expect(t, home(sub("open", 0o755)), Fail, "0755")
	expect(t, home(filepath.Join(dir, "new", "deep")), OK, "first inos run")
	expect(t, home(file), Fail, "not a folder")
	expect(t, home(filepath.Join(file, "x")), Fail, "not a directory")
}

func TestPluginsFolderMustNotBeWritableByOthers(t *testing.T) {
	dir := t.TempDir()
	expect(t, plugins(dir), Warn, "empty")
	expect(t, plugins(filepath.Join(dir, "none")), Warn, "does not exist")
	file := filepath.Join(dir, "a")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, plugins(dir), OK, "1 file")
	expect(t, plugins(file), Fail, "not a folder")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	expect(t, plugins(dir), Warn, "by others")
}

func TestPolicyMustParse(t *testing.T) {
	dir := t.TempDir()
	expect(t, policyFile(dir), OK, "default")
	for text, level := range map[string]Level{`{"default": {"arena": "commons"}}`: OK, `{"standard": {}}`: Fail, "": Fail} {
		if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, policyFile(dir), level, "policy.json")
	}
}

func TestGPUNeedsDeviceAndDriver(t *testing.T) {
	device, driver := &fstest.MapFile{}, &fstest.MapFile{}
	expect(t, gpu(fstest.MapFS{}), Warn, "no device and no")
	expect(t, gpu(fstest.MapFS{"dev/dri/renderD128": device}), Warn, "no Vulkan driver")
	expect(t, gpu(fstest.MapFS{"usr/share/vulkan/icd.d/lvp.json": driver}), Warn, "no device")
	expect(t, gpu(fstest.MapFS{"dev/nvidia0": device, "etc/vulkan/icd.d/nv.json": driver}), OK, "1 devices, 1 Vulkan")
}

func TestTemporaryFolderMustBeWritable(t *testing.T) {
	dir := t.TempDir()
	if f := temporary(dir); f.Level == Fail {
		t.Errorf("%+v", f)
	}
	expect(t, temporary(filepath.Join(dir, "none")), Fail, "no such file")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExaminationOfThisMachineIsComplete(t *testing.T) {
	dir := t.TempDir()
	list := Examine(Options{Home: dir, Plugins: dir, Segment: 4 << 20})
	seen := map[string]bool{}
	for _, f := range list {
		if f.Check == "" || f.Detail == "" || seen[f.Check] {
			t.Errorf("unclear or repeated: %+v", f)
		}
		seen[f.Check] = true
	}
	for _, check := range []string{"kernel", "shared memory", "pidfd", "eventfd", "limits of plugins", "open files"} {
		if !seen[check] {
			t.Errorf("%s was not looked at", check)
		}
	}
}

func TestWorstFindingCounts(t *testing.T) {
	for _, c := range []struct {
		levels []Level
		want   Level
	}{{nil, OK}, {[]Level{OK, OK}, OK}, {[]Level{OK, Warn, OK}, Warn}, {[]Level{Warn, Fail, OK}, Fail}} {
		var list []Finding
		for _, l := range c.levels {
			list = append(list, Finding{Level: l})
		}
		if got := Worst(list); got != c.want {
			t.Errorf("%v: %s, want %s", c.levels, got, c.want)
		}
	}
}
