package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"inos/host/cmd/inos/internal/units"
)

// reserve is what a node and a few plugins take beside the segment.
const reserve = 256 << 20

func memory(root fs.FS, segment uint64) Finding {
	const check = "memory"
	free, found := memAvailable(root)
	switch {
	case !found:
		return warn(check, "/proc/meminfo says nothing of available memory", "make sure that a segment of "+units.Size(segment)+" fits")
	case free < segment:
		return fail(check, units.Size(free)+" available, less than a segment of "+units.Size(segment), "free memory, or start with a smaller --segment")
	case free-segment < reserve:
		return warn(check, units.Size(free)+" available, little beside a segment of "+units.Size(segment), "start with a smaller --segment")
	}
	return ok(check, units.Size(free)+" available, a segment of "+units.Size(segment)+" fits")
}

func memAvailable(root fs.FS) (uint64, bool) {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "MemAvailable:"); found {
			n, err := units.ParseSize(rest)
			return n, err == nil
		}
	}
	return 0, false
}

// controlGroup looks for a limit on memory that /proc/meminfo does not know of.
func controlGroup(root fs.FS, segment uint64) Finding {
	const check = "control group"
	version, limit := memoryLimit(root)
	switch {
	case version == "":
		return ok(check, "none")
	case limit == math.MaxUint64:
		return ok(check, version+", memory without limit")
	case limit < segment+reserve:
		return warn(check, fmt.Sprintf("%s allows %s of memory", version, units.Size(limit)), "raise the limit, or start with a smaller --segment")
	}
	return ok(check, fmt.Sprintf("%s, %s of memory", version, units.Size(limit)))
}

// memoryLimit returns the tightest limit on the memory of this process's group
// and those around it.
func memoryLimit(root fs.FS) (version string, limit uint64) {
	limit = math.MaxUint64
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return "", limit
	}
	const base = "sys/fs/cgroup"
	mount, group, file := base, "", "memory.max"
	if _, err := fs.Stat(root, base+"/cgroup.controllers"); err == nil {
		version = "v2"
	} else if _, err := fs.Stat(root, base+"/memory"); err == nil {
		version, mount, file = "v1", base+"/memory", "memory.limit_in_bytes"
	} else {
		return "", limit
	}
	for line := range strings.Lines(string(text)) { // hierarchy:controllers:group
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && (version == "v2" && parts[0] == "0" || version == "v1" && hasPart(parts[1], "memory")) {
			group = strings.TrimPrefix(path.Clean("/"+parts[2]), "/")
		}
	}
	for {
		if b, err := fs.ReadFile(root, path.Join(mount, group, file)); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && n < 1<<60 { // v1 writes "none" as a huge number
				limit = min(limit, n)
			}
		}
		if group == "" || group == "." {
			return version, limit
		}
		group = path.Dir(group)
	}
}

func hasPart(list, part string) bool {
	for p := range strings.SplitSeq(list, ",") {
		if p == part {
			return true
		}
	}
	return false
}

// limits of this process that its plugins inherit.
func limits() []Finding {
	var list []Finding
	for _, l := range []struct {
		check    string
		resource int
		enough   uint64
		advice   string
	}{
		{"processes", unix.RLIMIT_NPROC, 256, "raise it with ulimit -u; a plugin is one process of about 10 threads"},
		{"locked memory", unix.RLIMIT_MEMLOCK, 0, ""},
	} {
		var r unix.Rlimit
		if err := unix.Getrlimit(l.resource, &r); err != nil {
			list = append(list, warn(l.check, err.Error(), ""))
			continue
		}
		list = append(list, judgeLimit(l.check, r, l.enough, l.advice))
	}
	return list
}

func judgeLimit(check string, r unix.Rlimit, enough uint64, advice string) Finding {
	text := strconv.FormatUint(r.Cur, 10) + " allowed"
	if r.Cur == unix.RLIM_INFINITY {
		return ok(check, "no limit")
	}
	if check == "locked memory" {
		text = units.Size(r.Cur) + " allowed; the segment is not locked"
	}
	if r.Cur < enough {
		return warn(check, text+", "+strconv.FormatUint(enough, 10)+" are advised", advice)
	}
	return ok(check, text)
}
