package api

import (
	"fmt"
	"time"

	"inos/host/node"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
)

// Plugins lists the plugins in service, and the other files of the plugins folder.
type Plugins struct {
	Plugins []Plugin `json:"plugins"`
}

// Plugin describes a plugin in service, or a file of the plugins folder and what
// became of it.
type Plugin struct {
	File         string     `json:"file"`
	Name         string     `json:"name"`
	Version      string     `json:"version,omitempty"`
	Description  string     `json:"description,omitempty"`
	Digest       string     `json:"digest,omitempty"` // SHA-256 of the file, hex
	Phase        string     `json:"phase"`            // refused, starting, serving, restarting, stopped, standby, held
	Reason       string     `json:"reason,omitempty"` // why it is refused or stopped
	Hint         string     `json:"hint,omitempty"`   // what to do about it
	Arena        string     `json:"arena,omitempty"`
	Grants       []string   `json:"grants"`
	Since        time.Time  `json:"since,omitzero"`    // when it came into this phase
	RetryAt      time.Time  `json:"retry_at,omitzero"` // when it will be started again
	Restarts     int        `json:"restarts"`
	StartNs      int64      `json:"start_ns"` // from fork to service
	Waiting      int        `json:"waiting"`  // jobs
	Instances    []Instance `json:"instances"`
	Capabilities []string   `json:"capabilities"`
	Manifest     *Manifest  `json:"manifest,omitempty"`   // absent when it never described itself
	Publisher    string     `json:"publisher,omitempty"`  // whose key signed it, absent for nobody's
	Note         string     `json:"note,omitempty"`       // what else an operator should know
	Pinned       bool       `json:"pinned"`               // an operator said that this version is to serve
	Held         bool       `json:"held"`                 // an operator took it out of service
	OnProbation  bool       `json:"on_probation"`         // it has replaced another and may still have to go
	Exchanging   string     `json:"exchanging,omitempty"` // the version that is being brought in
	Lingering    int        `json:"lingering"`            // replaced generations that still have jobs
	Previous     string     `json:"previous,omitempty"`   // the version that served before
}

// Instance describes one process of a plugin.
type Instance struct {
	ID          uint32    `json:"id"`
	Incarnation uint32    `json:"incarnation"`
	Version     string    `json:"version"`
	Serving     bool      `json:"serving"` // it gets jobs: it is neither on trial nor on its way out
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Running     int       `json:"running"` // jobs
	Offences    int64     `json:"offences"`
	Health      string    `json:"health"`
	Resident    uint64    `json:"resident_bytes"`
	CPUTimeNs   int64     `json:"cpu_time_ns"`
	Limits      Limits    `json:"limits"`
}

// Limits are those in force for a process and what it starts. What is absent has no
// bound.
type Limits struct {
	Memory       uint64 `json:"memory_bytes,omitempty"` // resident
	CPUPercent   uint64 `json:"cpu_percent,omitempty"`  // 100 for one core
	Processes    uint64 `json:"processes,omitempty"`    // and threads
	AddressSpace uint64 `json:"address_space_bytes,omitempty"`
	OpenFiles    uint64 `json:"open_files,omitempty"`
}

func newLimits(l supervisor.Limits) Limits {
	out := Limits{Memory: l.Memory, CPUPercent: l.CPUPercent, Processes: l.Processes, AddressSpace: l.AddressSpace, OpenFiles: l.OpenFiles}
	for _, bound := range []*uint64{&out.Memory, &out.CPUPercent, &out.Processes, &out.AddressSpace, &out.OpenFiles} {
		if *bound == supervisor.Unlimited {
			*bound = 0
		}
	}
	return out
}

func newPlugin(s node.PluginStatus) Plugin {
	p := Plugin{
		File: s.File, Name: s.Name, Version: s.Version, Description: s.Description, Digest: s.Digest,
		Phase: string(s.Phase), Reason: s.Reason, Hint: s.Hint, Arena: s.Arena, Grants: list(s.Grants), Since: s.Since, RetryAt: s.RetryAt,
		Restarts: s.Restarts, StartNs: int64(s.StartTook), Waiting: s.Waiting, Instances: []Instance{},
		Capabilities: list(s.Capabilities), Manifest: newManifest(s.Manifest),
		Publisher: s.Publisher, Note: s.Note, Pinned: s.Pinned, Held: s.Held, OnProbation: s.OnProbation,
		Exchanging: s.Exchanging, Lingering: s.Lingering, Previous: s.Previous,
	}
	for _, i := range s.Instances {
		p.Instances = append(p.Instances, Instance{
			ID: i.ID, Incarnation: i.Incarnation, Version: i.Version, Serving: i.Serving, PID: i.PID, Started: i.Started, Running: i.Running,
			Offences: i.Offences, Health: i.Health, Resident: i.Resident, CPUTimeNs: int64(i.CPUTime), Limits: newLimits(i.Limits),
		})
	}
	return p
}

// list is s as JSON's [], never null.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Manifest is what a plugin says of itself.
type Manifest struct {
	License      string       `json:"license,omitempty"`
	ABI          string       `json:"abi"`
	LayoutHash   string       `json:"layout_hash"`
	Capabilities []Capability `json:"capabilities"`
	Dependencies []Dependency `json:"dependencies"`
	Resources    Resources    `json:"resources"`
	Needs        []string     `json:"needs"` // grants it asks for
	Cost         Cost         `json:"cost"`
	Concurrency  uint32       `json:"concurrency"` // jobs at once
	State        []State      `json:"state"`
	SelfTest     string       `json:"self_test,omitempty"` // a capability that needs nothing
}

// Dependency names a module that another needs.
type Dependency struct {
	Module       string   `json:"module"`
	Min          string   `json:"min"`
	Max          string   `json:"max"`
	Optional     bool     `json:"optional"`
	Alternatives []string `json:"alternatives,omitempty"`
}

// Resources says what a plugin uses.
type Resources struct {
	CPUCores         uint16   `json:"cpu_cores"`
	Memory           uint64   `json:"memory_bytes"`
	Arena            uint64   `json:"arena_bytes"`
	GPUMemory        uint64   `json:"gpu_memory_bytes"`
	IOIntensive      bool     `json:"io_intensive"`
	NetworkIntensive bool     `json:"network_intensive"`
	Exclusive        []string `json:"exclusive,omitempty"`
}

// Cost is the price of a job in micro-credits.
type Cost struct {
	Base      uint64 `json:"base"`
	PerMB     uint64 `json:"per_mb"`     // for each MiB begun of input and output
	PerSecond uint64 `json:"per_second"` // for each second begun
}

// State declares a block that outlives its process.
type State struct {
	Name     string `json:"name"`
	Schema   uint32 `json:"schema"`
	MaxBytes uint64 `json:"max_bytes"`
}

func newManifest(m *wire.Manifest) *Manifest {
	if m == nil {
		return nil
	}
	r := m.Resources
	out := &Manifest{
		License: m.License, ABI: fmt.Sprintf("%d.%d", m.ABIMajor, m.ABIMinor), LayoutHash: fmt.Sprintf("%016x", m.LayoutHash),
		Capabilities: []Capability{}, Dependencies: []Dependency{}, Needs: []string{}, State: []State{},
		Resources: Resources{
			CPUCores: r.CPUCores, Memory: r.Memory, Arena: r.Arena, GPUMemory: r.GPUMemory,
			IOIntensive: r.IOIntensive, NetworkIntensive: r.NetworkIntensive, Exclusive: r.Exclusive,
		},
		Cost:        Cost{Base: m.Cost.Base, PerMB: m.Cost.PerMB, PerSecond: m.Cost.PerSecond},
		Concurrency: m.Concurrency, SelfTest: m.SelfTest,
	}
	for _, c := range m.Capabilities {
		out.Capabilities = append(out.Capabilities, newCapability(c))
	}
	for _, d := range m.Dependencies {
		out.Dependencies = append(out.Dependencies, Dependency{
			Module: d.Module, Min: d.Min.String(), Max: d.Max.String(), Optional: d.Optional, Alternatives: d.Alternatives,
		})
	}
	for _, g := range m.Needs {
		out.Needs = append(out.Needs, g.String())
	}
	for _, s := range m.State {
		out.State = append(out.State, State{Name: s.Name, Schema: s.Schema, MaxBytes: s.MaxBytes})
	}
	return out
}
