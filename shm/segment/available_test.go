package segment

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheTightestLimitCounts(t *testing.T) {
	const gib = 1 << 30
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	meminfo := file("MemTotal:       99 kB\nMemAvailable:    8388608 kB\n")
	for name, c := range map[string]struct {
		root fstest.MapFS
		want uint64
		says string
	}{
		"no groups": {fstest.MapFS{"proc/meminfo": meminfo}, 8 * gib, "machine"},
		"no limit": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.current": file("5\n"),
		}, 8 * gib, "machine"},
		"own limit": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("3221225472\n"), "sys/fs/cgroup/a/b/memory.current": file("1073741824\n"),
		}, 2 * gib, "group /a/b"},
		"limit of a parent": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/memory.max": file("1073741824"), "sys/fs/cgroup/a/memory.current": file("0"),
			"sys/fs/cgroup/a/b/memory.max": file("3221225472\n"), "sys/fs/cgroup/a/b/memory.current": file("0\n"),
		}, gib, "group /a"},
		"own root": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("1073741824"), "sys/fs/cgroup/memory.current": file("0"),
		}, gib, "group /"},
		"caches can be given up": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("1073741824"), "sys/fs/cgroup/a/memory.current": file("1073741824"),
			"sys/fs/cgroup/a/memory.stat": file("anon 7\ninactive_file 4096\nactive_file 4096\n"),
		}, 8192, "group /a"},
		"over its limit": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("1"), "sys/fs/cgroup/a/memory.current": file("2"),
		}, 0, "group /a"},
		"first version": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("7:cpu:/x\n4:memory:/docker/1\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("1073741824"), "sys/fs/cgroup/memory/memory.usage_in_bytes": file("0"),
		}, gib, "group /"},
		"rubbish": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("::::\n\n0:\n0::../../..\n"),
		}, 8 * gib, "machine"},
	} {
		left, limit, err := available(c.root)
		if err != nil || left != c.want || !strings.Contains(limit, c.says) {
			t.Errorf("%s: %d %q, %v; want %d %q", name, left, limit, err, c.want, c.says)
		}
		if err := checkMemory(c.root, c.want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := checkMemory(c.root, c.want+1); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "--segment") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "MemAvailable: x kB\n", "MemAvailable:\n", "MemAvailable: 18446744073709551615 kB\n"} {
		if _, _, err := available(fstest.MapFS{"proc/meminfo": file(text)}); err == nil {
			t.Errorf("memory found in %q", text)
		}
	}
}

func TestThisMachineHasMemory(t *testing.T) {
	if left, limit, err := available(os.DirFS("/")); err != nil || left == 0 {
		t.Errorf("%d %s, %v", left, limit, err)
	}
}
