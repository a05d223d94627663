// Package registry keeps the module table: which modules a node has, in which
// state, with what they offer, need and cost.
//
// The host has the only Writer, and its own truth in its private heap. Plugins
// and tools have Readers of the same memory, which they can only read. A Reader
// believes nothing: over rubbish it returns errors, never panics and never waits
// without end. The package decides nothing about modules and calls none.
package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Bounds on one module.
const (
	MaxName         = 31   // bytes of a module or capability name
	MaxCapabilities = 256  // of one module
	MaxDependencies = 64   // of one module
	MaxAlternatives = 8    // of one dependency
	MaxExclusive    = 16   // resources that only one process may hold
	MaxText         = 255  // bytes of the name of such a resource
	MaxDescription  = 1024 // bytes

	// MaxMinMemory is the most that a capability can ask, in bytes: the table has
	// 24 bits for the number of MiB.
	MaxMinMemory = 1<<44 - 1<<20
)

// Module is one row of the table.
type Module struct {
	ID           string // [a-z][a-z0-9-]*
	Version      Version
	Generation   uint64 // moves with every change of the row; the registry sets it
	Incarnation  uint32 // how often the module has been started
	State        State
	Instances    uint16 // processes running
	Resources    Resources
	Cost         Cost
	Capabilities []Capability
	Dependencies []Dependency
	Description  string
}

// State says whether a module takes jobs.
type State uint8

// The states of a module. A reader may meet one that a newer host knows.
const (
	StateNone        State = iota // no module: the place is free
	StateStarting                 // its first process is not ready
	StateServing                  // takes jobs
	StateDraining                 // finishes what it has
	StateStopped                  // no process, on purpose
	StateQuarantined              // no process, since it misbehaved
)

// String returns the state's name.
func (s State) String() string {
	names := [...]string{"none", "starting", "serving", "draining", "stopped", "quarantined"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Version is a semantic version.
type Version struct{ Major, Minor, Patch uint16 }

// String returns it as 1.2.3.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Compare returns -1, 0 or 1 as v is older than, the same as or newer than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch))
}

// Resources is what one process of a module asks for. Sizes are bytes.
type Resources struct {
	CPUCores         uint16
	Memory           uint64
	Arena            uint64
	GPUMemory        uint64
	IOIntensive      bool
	NetworkIntensive bool
	Exclusive        []string // devices or ports that only one process may hold
}

// Cost is what a job costs, in micro-credits.
type Cost struct {
	Base      uint64
	PerMB     uint64 // for each MiB begun of input and output
	PerSecond uint64 // for each second begun of run time
}

// CapabilityFlags says what is special about a capability.
type CapabilityFlags uint8

// Flags of a capability.
const (
	Idempotent CapabilityFlags = 1 << iota // may be started again after a crash
	Streams                                // takes and gives pieces of any total length
	NeedsGPU
)

// Capability is one thing a module can do. No two modules of a table offer one of
// the same name.
type Capability struct {
	Name      string // [a-z][a-z0-9.-]*
	MinMemory uint64 // bytes; the table keeps whole MiB, rounded up
	Flags     CapabilityFlags
}

// Dependency is a module that another one calls.
type Dependency struct {
	Module       string
	Min, Max     Version // both inclusive; 65535 in all parts of Max means any
	Optional     bool
	Alternatives []string // modules that would do instead
}

// Accepts reports whether version v satisfies the dependency.
func (d Dependency) Accepts(v Version) bool { return d.Min.Compare(v) <= 0 && v.Compare(d.Max) <= 0 }

// ErrInvalid means that a module breaks the rules or bounds of the table.
var ErrInvalid = errors.New("invalid module")

// Validate returns all that is wrong with m at once, or nil. Each problem wraps
// ErrInvalid.
func (m *Module) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w %q: %s", ErrInvalid, m.ID, fmt.Sprintf(format, args...)))
	}
	bound := func(what string, n, most int) {
		if n > most {
			bad("%d %s, at most %d are allowed", n, what, most)
		}
	}
	if !isName(m.ID, false) {
		bad("an id is 1 to %d bytes of a-z, 0-9 and -, a letter first", MaxName)
	}
	if m.State == StateNone {
		bad("it has no state")
	}
	bound("capabilities", len(m.Capabilities), MaxCapabilities)
	seen := map[string]bool{}
	for _, c := range m.Capabilities {
		if !isName(c.Name, true) {
			bad("capability %q: a name is 1 to %d bytes of a-z, 0-9, . and -, a letter first", c.Name, MaxName)
		}
		if seen[c.Name] {
			bad("capability %q stands twice", c.Name)
		}
		if seen[c.Name] = true; c.MinMemory > MaxMinMemory {
			bad("capability %q: %d bytes of memory, at most %d can be asked", c.Name, c.MinMemory, uint64(MaxMinMemory))
		}
	}
	bound("dependencies", len(m.Dependencies), MaxDependencies)
	for _, d := range m.Dependencies {
		bound("alternatives of "+d.Module, len(d.Alternatives), MaxAlternatives)
		for _, id := range append([]string{d.Module}, d.Alternatives...) {
			if !isName(id, false) {
				bad("dependency %q is not a module id", id)
			}
		}
		if d.Min.Compare(d.Max) > 0 {
			bad("dependency %q: no version is from %s to %s", d.Module, d.Min, d.Max)
		}
	}
	bound("exclusive resources", len(m.Resources.Exclusive), MaxExclusive)
	for _, e := range m.Resources.Exclusive {
		if e == "" || len(e) > MaxText || !utf8.ValidString(e) {
			bad("exclusive resource %q: 1 to %d bytes of UTF-8", e, MaxText)
		}
	}
	bound("bytes of description", len(m.Description), MaxDescription)
	if !utf8.ValidString(m.Description) {
		bad("the description is not UTF-8")
	}
	return errors.Join(errs...)
}

// isName reports whether s is a name in which dots are allowed or not.
func isName(s string, dots bool) bool {
	if s == "" || len(s) > MaxName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && (c != '.' || !dots) {
			return false
		}
	}
	return true
}

// clone returns a copy that shares nothing with m and is as the table keeps it.
func (m Module) clone() Module {
	m.Capabilities = slices.Clone(m.Capabilities)
	for i := range m.Capabilities {
		c := &m.Capabilities[i]
		c.MinMemory = (c.MinMemory + 1<<20 - 1) &^ (1<<20 - 1)
	}
	m.Dependencies = slices.Clone(m.Dependencies)
	for i := range m.Dependencies {
		d := &m.Dependencies[i]
		d.Alternatives = slices.Clone(d.Alternatives)
	}
	m.Resources.Exclusive = slices.Clone(m.Resources.Exclusive)
	return m
}
