package wire

import (
	"capnproto.org/go/capnp/v3"
	"math"
	"math/bits"
	"time"

	"inos/protocols/system/v1"
)

// Manifest is what a plugin says of itself. Its claims are to be checked with
// Validate before anything is done with them.
type Manifest struct {
	Name                 string // unique on a node
	Version              Version
	Description, License string
	ABIMajor, ABIMinor   uint16 // of the ABI the plugin was built for
	LayoutHash           uint64 // of the segment layout it was built with
	Capabilities         []Capability
	Dependencies         []Dependency
	Resources            Resources
	Needs                []system.Grant // syscalls it wants to make
	Cost                 CostModel
	Concurrency          uint32 // jobs it handles at once
	State                []StateSpec
	SelfTest             string // a capability that takes nothing and must succeed, or empty
}

// Capability is one operation that a module serves.
type Capability struct {
	Name, Description     string // "storage.put"
	Params                []ParamSpec
	MaxInput, MaxOutput   uint64        // bytes; 0 is what one block holds, or no bound if it streams
	Timeout               time.Duration // of a job without a nearer deadline, 0 for none
	Idempotent            bool          // may be started again after a crash
	Streams               bool          // takes and gives pieces of any total length
	NeedsGPU              bool
	MinMemory             uint64 // bytes
	InputType, OutputType string // media types, informative
}

// ParamSpec says which parameter a capability takes.
type ParamSpec struct {
	Name        string
	Kind        system.ParamKind
	Required    bool
	Description string
	Default     string   // as a person would type it, empty for none
	Choices     []string // likewise; empty means any value of the kind
}

// Dependency names a module that must be served for this one to start.
type Dependency struct {
	Module       string
	Min, Max     Version // inclusive; a zero Max is received as NewestVersion
	Optional     bool
	Alternatives []string // modules that will do in its place
}

// Resources says what a plugin uses. Sizes are in bytes.
type Resources struct {
	CPUCores                      uint16
	Memory                        uint64 // of its own
	Arena                         uint64 // of a private arena that it wants
	GPUMemory                     uint64
	IOIntensive, NetworkIntensive bool
	// Exclusive names devices, ports or files that one process alone may hold, in
	// printable characters: "port 8080", "/dev/ttyUSB0". When a plugin with any is
	// replaced, the old process lets go and ends before the new one starts.
	Exclusive []string
}

// StateSpec declares a block of memory that outlives the process.
type StateSpec struct {
	Name     string
	Schema   uint32 // version of what is in it
	MaxBytes uint64
	// Adopts are the schemas of earlier versions of the module that this one can
	// take over, besides its own.
	Adopts []uint32
}

// CostModel is the price of a job in micro-credits.
type CostModel struct{ Base, PerMB, PerSecond uint64 }

// Of returns the price of a job that moved so many bytes of input and output and
// ran so long: the base, and PerMB and PerSecond for each MiB and each second
// begun. A price too large for 64 bits is math.MaxUint64.
func (c CostModel) Of(bytes uint64, d time.Duration) uint64 {
	sum := addUp(c.Base, times(c.PerMB, begun(bytes, 1<<20)))
	return addUp(sum, times(c.PerSecond, begun(uint64(max(d, 0)), uint64(time.Second))))
}

// begun returns how many units n has begun.
func begun(n, unit uint64) uint64 {
	units := n / unit
	if n%unit > 0 {
		units++
	}
	return units
}

func times(a, b uint64) uint64 {
	if hi, lo := bits.Mul64(a, b); hi == 0 {
		return lo
	}
	return math.MaxUint64
}

func addUp(a, b uint64) uint64 {
	if sum, carry := bits.Add64(a, b, 0); carry == 0 {
		return sum
	}
	return math.MaxUint64
}

// Encode returns m as a message. It checks only that m can be carried.
func (m Manifest) Encode() ([]byte, error) {
	return encode(system.NewRootManifest, writeManifest, m)
}

// DecodeManifest is the inverse of Manifest.Encode.
func DecodeManifest(b []byte) (Manifest, error) { return decode(b, readManifest) }

func writeManifest(w *writer, s system.Manifest, m Manifest) {
	w.text("name", s.SetName, m.Name, maxName)
	writeStruct(w, "version", s.NewVersion, writeVersion, m.Version)
	w.text("description", s.SetDescription, m.Description, maxText)
	w.text("license", s.SetLicense, m.License, maxName)
	s.SetAbiMajor(m.ABIMajor)
	s.SetAbiMinor(m.ABIMinor)
	s.SetLayoutHash(m.LayoutHash)
	writeList(w, "capabilities", s.NewCapabilities, maxList, writeCapability, m.Capabilities)
	writeList(w, "dependencies", s.NewDependencies, maxList, writeDependency, m.Dependencies)
	writeStruct(w, "resources", s.NewResources, writeResources, m.Resources)
	writeEnums(w, "needs", s.NewNeeds, maxList, m.Needs)
	writeStruct(w, "cost", s.NewCost, writeCost, m.Cost)
	s.SetConcurrency(m.Concurrency)
	writeList(w, "state", s.NewState, maxList, writeStateSpec, m.State)
	w.text("selfTest", s.SetSelfTest, m.SelfTest, maxName)
}

func readManifest(r *reader, s system.Manifest) Manifest {
	return Manifest{
		Name:         r.text("name", s.NameBytes, maxName),
		Version:      readStruct(r, "version", s.Version, readVersion),
		Description:  r.text("description", s.DescriptionBytes, maxText),
		License:      r.text("license", s.LicenseBytes, maxName),
		ABIMajor:     s.AbiMajor(),
		ABIMinor:     s.AbiMinor(),
		LayoutHash:   s.LayoutHash(),
		Capabilities: readList(r, "capabilities", s.Capabilities, maxList, readCapability),
		Dependencies: readList(r, "dependencies", s.Dependencies, maxList, readDependency),
		Resources:    readStruct(r, "resources", s.Resources, readResources),
		Needs:        readEnums(r, "needs", s.Needs, maxList),
		Cost:         readStruct(r, "cost", s.Cost, readCost),
		Concurrency:  s.Concurrency(),
		State:        readList(r, "state", s.State, maxList, readStateSpec),
		SelfTest:     r.text("selfTest", s.SelfTestBytes, maxName),
	}
}

func writeCapability(w *writer, s system.Capability, c Capability) {
	w.text("name", s.SetName, c.Name, maxName)
	w.text("description", s.SetDescription, c.Description, maxText)
	writeList(w, "params", s.NewParams, maxList, writeParamSpec, c.Params)
	s.SetMaxInput(c.MaxInput)
	s.SetMaxOutput(c.MaxOutput)
	s.SetTimeoutNs(int64(c.Timeout))
	s.SetIdempotent(c.Idempotent)
	s.SetStreams(c.Streams)
	s.SetNeedsGpu(c.NeedsGPU)
	s.SetMinMemory(c.MinMemory)
	w.text("inputType", s.SetInputType, c.InputType, maxName)
	w.text("outputType", s.SetOutputType, c.OutputType, maxName)
}

func readCapability(r *reader, s system.Capability) Capability {
	return Capability{
		Name:        r.text("name", s.NameBytes, maxName),
		Description: r.text("description", s.DescriptionBytes, maxText),
		Params:      readList(r, "params", s.Params, maxList, readParamSpec),
		MaxInput:    s.MaxInput(),
		MaxOutput:   s.MaxOutput(),
		Timeout:     time.Duration(s.TimeoutNs()),
		Idempotent:  s.Idempotent(),
		Streams:     s.Streams(),
		NeedsGPU:    s.NeedsGpu(),
		MinMemory:   s.MinMemory(),
		InputType:   r.text("inputType", s.InputTypeBytes, maxName),
		OutputType:  r.text("outputType", s.OutputTypeBytes, maxName),
	}
}

func writeParamSpec(w *writer, s system.ParamSpec, p ParamSpec) {
	w.text("name", s.SetName, p.Name, maxName)
	writeEnum(w, "kind", s.SetKind, p.Kind)
	s.SetRequired(p.Required)
	w.text("description", s.SetDescription, p.Description, maxText)
	w.text("default", s.SetDefault, p.Default, maxText)
	writeTexts(w, "choices", s.NewChoices, maxList, maxName, p.Choices)
}

func readParamSpec(r *reader, s system.ParamSpec) ParamSpec {
	return ParamSpec{
		Name:        r.text("name", s.NameBytes, maxName),
		Kind:        readEnum(r, "kind", s.Kind()),
		Required:    s.Required(),
		Description: r.text("description", s.DescriptionBytes, maxText),
		Default:     r.text("default", s.DefaultBytes, maxText),
		Choices:     readTexts(r, "choices", s.Choices, maxList, maxName),
	}
}

func writeDependency(w *writer, s system.Dependency, d Dependency) {
	w.text("module", s.SetModule, d.Module, maxName)
	writeStruct(w, "min", s.NewMin, writeVersion, d.Min)
	writeStruct(w, "max", s.NewMax, writeVersion, d.newest())
	s.SetOptional(d.Optional)
	writeTexts(w, "alternatives", s.NewAlternatives, maxList, maxName, d.Alternatives)
}

func readDependency(r *reader, s system.Dependency) Dependency {
	d := Dependency{
		Module:       r.text("module", s.ModuleBytes, maxName),
		Min:          readStruct(r, "min", s.Min, readVersion),
		Max:          readStruct(r, "max", s.Max, readVersion),
		Optional:     s.Optional(),
		Alternatives: readTexts(r, "alternatives", s.Alternatives, maxList, maxName),
	}
	d.Max = d.newest()
	return d
}

// newest is the newest version that will do.
func (d Dependency) newest() Version {
	if d.Max == (Version{}) {
		return NewestVersion
	}
	return d.Max
}

func writeResources(w *writer, s system.Resources, v Resources) {
	s.SetCpuCores(v.CPUCores)
	s.SetMemory(v.Memory)
	s.SetArena(v.Arena)
	s.SetGpuMemory(v.GPUMemory)
	s.SetIoIntensive(v.IOIntensive)
	s.SetNetworkIntensive(v.NetworkIntensive)
	writeTexts(w, "exclusive", s.NewExclusive, maxList, maxName, v.Exclusive)
}

func readResources(r *reader, s system.Resources) Resources {
	return Resources{
		CPUCores: s.CpuCores(), Memory: s.Memory(), Arena: s.Arena(), GPUMemory: s.GpuMemory(),
		IOIntensive: s.IoIntensive(), NetworkIntensive: s.NetworkIntensive(),
		Exclusive: readTexts(r, "exclusive", s.Exclusive, maxList, maxName),
	}
}

func writeCost(_ *writer, s system.CostModel, c CostModel) {
	s.SetBase(c.Base)
	s.SetPerMb(c.PerMB)
	s.SetPerSecond(c.PerSecond)
}

func readCost(_ *reader, s system.CostModel) CostModel {
	return CostModel{Base: s.Base(), PerMB: s.PerMb(), PerSecond: s.PerSecond()}
}

func writeStateSpec(w *writer, s system.StateSpec, v StateSpec) {
	w.text("name", s.SetName, v.Name, maxName)
	s.SetSchema(v.Schema)
	s.SetMaxBytes(v.MaxBytes)
	writeEach(w, "adopts", s.NewAdopts, maxList, capnp.UInt32List.Set, v.Adopts)
}

func readStateSpec(r *reader, s system.StateSpec) StateSpec {
	return StateSpec{
		Name: r.text("name", s.NameBytes, maxName), Schema: s.Schema(), MaxBytes: s.MaxBytes(),
		Adopts: readEach(r, "adopts", s.Adopts, maxList, capnp.UInt32List.At),
	}
}
