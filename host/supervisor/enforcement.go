package supervisor

import (
	"fmt"
	"slices"
	"strings"
)

// Means says how a bound is kept.
type Means uint8

// The means, the weakest first.
const (
	Unbounded Means = iota // not at all
	Watched                // the host looks, ten times a second, and kills what is above it
	GroupV1                // by the kernel, with a control group of version 1
	GroupV2                // by the kernel, with a control group of version 2
)

var meansText = [...]string{Unbounded: "none", Watched: "watched by the host", GroupV1: "cgroup v1", GroupV2: "cgroup v2"}

// String returns the means in a few words.
func (m Means) String() string {
	if int(m) < len(meansText) {
		return meansText[m]
	}
	return fmt.Sprintf("means-%d", uint8(m))
}

// MarshalText is String, for JSON.
func (m Means) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Enforcement says by which means the limits are kept: those that a Supervisor
// has, or those in force for a process, where a limit that is not set is
// Unbounded.
type Enforcement struct {
	Memory    Means
	CPU       Means // never Watched: a plugin is not killed for working hard
	Processes Means
	// Children says how the processes that a plugin started are found and ended with
	// it. A watch misses one that leaves its parent within a tenth of a second and
	// has wiped its environment.
	Children Means
	// Note says what stands in the way of control groups, empty if nothing does.
	Note string
}

// String lists the means; plugin info and the log show it.
func (e Enforcement) String() string {
	return fmt.Sprintf("memory: %s, CPU: %s, processes: %s, children: %s", e.Memory, e.CPU, e.Processes, e.Children)
}

// Weakest returns the weakest of the means.
func (e Enforcement) Weakest() Means { return min(e.Memory, e.CPU, e.Processes, e.Children) }

// Probe finds out what a Supervisor would have on this machine. It makes control
// groups and removes them again.
func Probe() (Enforcement, error) {
	t := openTree("/", put)
	e := t.enforcement()
	return e, t.close()
}

// enforcement says what the tree can do; what it cannot is watched.
func (t *tree) enforcement() Enforcement {
	by := func(b *branch, without Means) Means {
		switch {
		case b == nil:
			return without
		case b.unified:
			return GroupV2
		}
		return GroupV1
	}
	e := Enforcement{
		Memory: by(t.holder(memoryController), Watched), CPU: by(t.holder(cpuController), Unbounded),
		Processes: by(t.holder(pidsController), Watched), Children: by(t.keeper(), Watched),
	}
	if e.Weakest() < GroupV1 {
		if len(t.notes) == 0 {
			t.notes = []string{"the kernel, or the container around the node, shows no control groups with these controllers"}
		}
		e.Note = strings.Join(slices.Compact(t.notes), "; ")
	}
	return e
}

// of says what is in force for a process with these limits.
func (e Enforcement) of(l Limits) Enforcement {
	if l.Memory == 0 {
		e.Memory = Unbounded
	}
	if l.CPUPercent == 0 {
		e.CPU = Unbounded
	}
	if l.Processes == 0 {
		e.Processes = Unbounded
	}
	return e
}

// watches says whether the host must look at a process with these limits.
func (e Enforcement) watches(l Limits) bool {
	e = e.of(l)
	return e.Children == Watched || e.Memory == Watched || e.Processes == Watched
}
