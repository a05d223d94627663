package supervisor

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Unlimited is the value of a limit that is not in force.
const Unlimited = math.MaxUint64

// Limits are bounds of a process and of all that it starts. Those of the first
// group are kept by a control group where the node can make one, from the first
// moment of the process, for all of the plugin's processes together; else the
// host watches (see Enforcement). Those of the second are kept by the kernel for
// each process (setrlimit(2)): they are set when the process has been forked,
// while it begins to run, so its first microseconds know only those of the host.
// A plugin cannot raise any of them again, unless it runs as root.
type Limits struct {
	// Memory bounds the bytes that it has resident; 0 sets no bound. Pages of the
	// segment count for a control group if the plugin was the first to touch them.
	// Above it the plugin is killed, and ExitState.Limit says so.
	Memory uint64
	// CPUPercent bounds its share of CPU time, 100 for one core; 0 sets no bound. It
	// is throttled then, not killed. Without control groups it has no effect.
	CPUPercent uint64
	// Processes bounds how many processes and threads it has; 0 sets no bound. A Go
	// program has one thread for each core and about ten more.
	Processes uint64

	// AddressSpace bounds the bytes of memory that it can map, its share of the
	// segment and the reserve of its runtime included; 0 sets no bound. The Go
	// runtime alone reserves above 100 MiB.
	AddressSpace uint64
	// OpenFiles bounds its descriptors; 0 sets no bound.
	OpenFiles uint64
	// CoreBytes bounds the core file of a crash. 0 means none: a core holds what
	// lay in the segment.
	CoreBytes uint64
}

// inForce says what holds by other means than setrlimit, with Unlimited where
// nothing does.
func (l Limits) inForce(e Enforcement) Limits {
	e = e.of(l)
	for _, x := range []struct {
		bound *uint64
		means Means
	}{{&l.Memory, e.Memory}, {&l.CPUPercent, e.CPU}, {&l.Processes, e.Processes}} {
		if x.means == Unbounded {
			*x.bound = Unlimited
		}
	}
	return l
}

// dataSlack is what a process may map beyond twice its bound of memory where the
// host watches it. A quick one gets far between two looks; the kernel bounds what
// it can map to write to, and that stops it.
const dataSlack = 256 << 20

// apply sets the limits of one process and returns what is in force.
func (l Limits) apply(pid int, e Enforcement) (Limits, error) {
	inForce := l.inForce(e)
	var data uint64
	for _, x := range []struct {
		name     string
		resource int
		want     uint64
		set      bool
		got      *uint64
	}{
		{"address space", unix.RLIMIT_AS, l.AddressSpace, l.AddressSpace > 0, &inForce.AddressSpace},
		{"data", unix.RLIMIT_DATA, 2*l.Memory + dataSlack, e.of(l).Memory == Watched && l.Memory < 1<<60, &data},
		{"open files", unix.RLIMIT_NOFILE, l.OpenFiles, l.OpenFiles > 0, &inForce.OpenFiles},
		{"core file", unix.RLIMIT_CORE, l.CoreBytes, true, &inForce.CoreBytes},
	} {
		if x.set {
			if err := unix.Prlimit(pid, x.resource, &unix.Rlimit{Cur: x.want, Max: x.want}, nil); err != nil {
				return inForce, fmt.Errorf("limiting the %s to %d: %w", x.name, x.want, err)
			}
		}
		var now unix.Rlimit
		if err := unix.Prlimit(pid, x.resource, nil, &now); err != nil {
			return inForce, fmt.Errorf("reading the limit of the %s: %w", x.name, err)
		}
		*x.got = now.Cur
	}
	return inForce, nil
}

// memoryLimit names the bound of memory in messages.
func (l Limits) memoryLimit() string { return "the memory limit of " + size(l.Memory) }

// size writes bytes as people do.
func size(n uint64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// processLimit names the bound of processes in messages.
func (l Limits) processLimit() string {
	return fmt.Sprintf("the limit of %d processes and threads", l.Processes)
}
