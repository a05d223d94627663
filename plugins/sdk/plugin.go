// Package sdk is what a plugin author imports, and all they need. A plugin
// describes itself in a Plugin value and calls Serve; the host does the rest:
//
//	func main() {
//		sdk.Serve(&sdk.Plugin{
//			Name:    "greet",
//			Version: "1.0.0",
//			Capabilities: []sdk.Capability{{
//				Name:   "greet.hello",
//				Params: []sdk.ParamSpec{{Name: "name", Default: "world"}},
//				Handle: func(j *sdk.Job) error {
//					_, err := fmt.Fprintf(j, "Hello, %s!\n", j.Params().Text("name"))
//					return err
//				},
//			}},
//		})
//	}
//
// The input of a job and its output lie in shared memory: Job.Input and
// Job.Output give views of them, and nothing is copied on the way. The package
// never talks to the network, never reads the host's files and never starts a
// process: what a plugin needs of the host it asks for through Job and Host.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/layout"
)

// Names of the wire package that an author writes in a manifest.
type (
	// ParamSpec says which parameter a capability takes: Name, Kind, Required,
	// Description, Default and Choices, the last two as a person would type them.
	ParamSpec = wire.ParamSpec
	// Params are the typed parameters of a job, read with Text, Bool, Int and the
	// like, by name.
	Params = wire.Params
	// Param is one of them: Name and Value.
	Param = wire.Param
	// Dependency names a module that must be served for this one to start: Module,
	// Min and Max (versions, inclusive), Optional, Alternatives.
	Dependency = wire.Dependency
	// Resources says what the plugin uses: CPUCores, Memory, Arena, GPUMemory (bytes),
	// IOIntensive, NetworkIntensive, and Exclusive, which names what one process alone
	// may hold, so that an old version ends before the new one starts.
	Resources = wire.Resources
	// CostModel is the price of a job in micro-credits: Base, PerMB, PerSecond.
	CostModel = wire.CostModel
	// StateSpec names a block of memory that outlives the process: Name, Schema (the
	// version of what is in it), MaxBytes, and Adopts, the older schemas that
	// Plugin.Adopt can take over.
	StateSpec = wire.StateSpec
	// Version is a release of a plugin: Major, Minor, Patch.
	Version = wire.Version
	// Manifest is the whole of what the plugin says of itself.
	Manifest = wire.Manifest
	// Grant is the permission to make one kind of syscall.
	Grant = system.Grant
)

// Kinds of parameters.
const (
	Text  = system.ParamKind_text
	Bool  = system.ParamKind_bool
	Int   = system.ParamKind_int
	Uint  = system.ParamKind_uint
	Float = system.ParamKind_float
	Data  = system.ParamKind_data
)

// Grants a manifest may ask for.
const (
	MayFetchChunk  = system.Grant_fetchChunk
	MayStoreChunk  = system.Grant_storeChunk
	MaySendMessage = system.Grant_sendMessage
	MayHostCall    = system.Grant_hostCall
	MaySpawn       = system.Grant_spawn
	MayLog         = system.Grant_log
	MayMetric      = system.Grant_metric
	MayKeepState   = system.Grant_state
)

// DefaultConcurrency is how many jobs a plugin handles at once unless it says
// otherwise.
const DefaultConcurrency = 16

// Plugin describes a module. Fill it before Serve and leave it alone after.
type Plugin struct {
	// Name is unique on a node: lower-case letters, digits and dashes.
	Name string
	// Version is "major.minor.patch".
	Version string
	// Description says in a sentence what the plugin is for.
	Description string
	// License is an SPDX identifier, informative.
	License string
	// Capabilities are the operations that the plugin serves.
	Capabilities []Capability
	// Dependencies must be served before this plugin is.
	Dependencies []Dependency
	// Resources is what the plugin uses.
	Resources Resources
	// Needs lists the syscalls it wants to make. What is not listed is refused.
	Needs []Grant
	// Cost prices its jobs.
	Cost CostModel
	// Concurrency bounds the jobs handled at once, 0 means DefaultConcurrency.
	Concurrency int
	// State declares the blocks that Host.State may open.
	State []StateSpec
	// SelfTest names a capability without input or required parameters that must
	// succeed before the plugin is put into service. Empty means none.
	SelfTest string

	// Start runs once, before the first job. Nil is fine. When it fails, the plugin
	// is not served.
	Start func(ctx context.Context, h *Host) error
	// Stop runs once, after the last job, and may still use the Host and state
	// blocks. It does not run when Start failed, or when jobs ignore that they were
	// cancelled. Nil is fine.
	Stop func(ctx context.Context) error
	// Freeze runs when the plugin is about to be replaced, after its last job and
	// before the next generation reads its state: it stops whatever works beside the
	// jobs, and commits. State cannot be committed afterwards. Nil is fine.
	Freeze func(ctx context.Context) error
	// Thaw runs when the replacement failed and this process goes on. Nil is fine.
	Thaw func(ctx context.Context) error
	// Adopt runs in a new generation of the plugin before Start, while version from
	// holds still. State of the same schema is there without it. State in a schema
	// that StateSpec.Adopts names is read with Host.PriorState and written to the
	// block that Host.State gives. Should this version have to go again, the old one
	// finds its own block as it left it. Nil means that there is nothing to do.
	Adopt func(ctx context.Context, h *Host, from Version) error
	// Health adds to what the host can see by itself. It runs beside jobs and Stop.
	// Nil means healthy.
	Health func(ctx context.Context) error
}

// Capability is one operation of a plugin.
type Capability struct {
	// Name is unique on a node, by habit "module.operation".
	Name string
	// Description says in a sentence what it does.
	Description string
	// Params it takes. A job with any other is refused before it reaches Handle.
	Params []ParamSpec
	// MaxInput and MaxOutput bound a job's bytes. 0 means what one block holds,
	// and no bound when the capability streams.
	MaxInput, MaxOutput uint64
	// Timeout bounds a job when the caller gives no nearer deadline, 0 means none.
	Timeout time.Duration
	// Idempotent says that a job may be started again when the plugin died.
	Idempotent bool
	// Streams says that input and output may be larger than a block: they are
	// read with Job.Next or Job.Read and written with Job.Write or Job.Output,
	// piece by piece.
	Streams bool
	// NeedsGPU and MinMemory inform the scheduler.
	NeedsGPU  bool
	MinMemory uint64
	// InputType and OutputType are media types, informative.
	InputType, OutputType string

	// Handle does the work. It is called from many goroutines at once, each with
	// a job of its own. An error it returns reaches the caller; make it with
	// Errorf to say what to do next.
	Handle func(j *Job) error
}

// Manifest returns what the host is told, or every reason why it cannot be.
func (p *Plugin) Manifest() (*Manifest, error) {
	v, err := wire.ParseVersion(p.Version)
	errs := []error{err}
	m := &Manifest{
		Name: p.Name, Version: v, Description: p.Description, License: p.License,
		ABIMajor: system.AbiMajor, ABIMinor: system.AbiMinor, LayoutHash: layout.Hash(),
		Dependencies: p.Dependencies, Resources: p.Resources, Needs: p.Needs,
		Cost: p.Cost, Concurrency: uint32(min(uint64(p.concurrency()), math.MaxUint32)), State: p.State, SelfTest: p.SelfTest,
	}
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		if c.Handle == nil {
			errs = append(errs, fmt.Errorf("capability %q has no Handle", c.Name))
		}
		m.Capabilities = append(m.Capabilities, wire.Capability{
			Name: c.Name, Description: c.Description, Params: c.Params,
			MaxInput: c.MaxInput, MaxOutput: c.MaxOutput, Timeout: c.Timeout,
			Idempotent: c.Idempotent, Streams: c.Streams, NeedsGPU: c.NeedsGPU, MinMemory: c.MinMemory,
			InputType: c.InputType, OutputType: c.OutputType,
		})
	}
	if err := errors.Join(append(errs, m.Validate())...); err != nil {
		return nil, fmt.Errorf("plugin %q: %w", p.Name, err)
	}
	return m, nil
}

func (p *Plugin) concurrency() int {
	if p.Concurrency > 0 {
		return p.Concurrency
	}
	return DefaultConcurrency
}
