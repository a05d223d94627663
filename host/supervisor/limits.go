package supervisor

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Unlimited is the value of a limit that is not in force.
const Unlimited = math.MaxUint64

// Limits are bounds that the kernel keeps for a process (setrlimit(2)). They are
// set when the process has been forked, while it begins to run: a plugin cannot
// raise them again, but its first microseconds know only those of the host.
type Limits struct {
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

// apply sets the limits on a process and returns those that are in force, with
// Unlimited where there is none.
func (l Limits) apply(pid int) (Limits, error) {
	var inForce Limits
	for _, x := range []struct {
		name     string
		resource int
		want     uint64
		set      bool
		got      *uint64
	}{
		{"address space", unix.RLIMIT_AS, l.AddressSpace, l.AddressSpace > 0, &inForce.AddressSpace},
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
