package wire

import (
	"time"

	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
)

// Command tells a plugin what to do next. The plugin answers each with a Reply.
type Command struct {
	ID        uint64        // comes back in the reply
	Timestamp int64         // Unix time, ns
	Timeout   time.Duration // how long it may take, 0 for no bound
	Body      CommandBody
}

// CommandBody is Describe, Configuration, Start, Health, Freeze, Thaw, Adoption,
// Drain or Stop.
type CommandBody interface {
	write(w *writer, s system.LifecycleCommand)
}

type (
	// Describe asks for the manifest.
	Describe struct{}
	// Start says that jobs may come.
	Start struct{}
	// Health asks for a Heartbeat.
	Health struct{}
	// Freeze says to finish running jobs, commit all state, take no more and hold
	// still until Thaw or Stop.
	Freeze struct{}
	// Drain says to finish the jobs that were taken, then idle.
	Drain struct{}
	// Stop says to end the process.
	Stop struct{}
	// Thaw says to go on after Freeze.
	Thaw struct{}
)

// Configuration tells a plugin who it is and what it may do. Sizes are those of
// the memfds that come over the channel.
type Configuration struct {
	Instance    uint32 // unique for the life of the node
	Incarnation uint32 // how often this module has been started
	NodeID      []byte
	Grants      []system.Grant

	LinkBytes, ControlBytes, ArenaBytes uint64
	Arena                               uint16 // number of the arena

	LogLevel string
	DataDir  string            // a folder of the plugin's own
	Settings map[string]string // the operator's, from the policy
	Broker   uint32            // go-plugin broker id of the Kernel, for DialKernel
}

// Adoption says to take over the state blocks of a predecessor.
type Adoption struct {
	FromVersion  Version
	FromInstance uint32
}

// Reply answers a Command. At most one of Manifest and Health is set.
type Reply struct {
	ID       uint64
	Err      *Error    // nil when it was done
	Manifest *Manifest // after Describe
	Health   *Heartbeat
}

// Heartbeat says how a plugin is.
type Heartbeat struct {
	Status      system.HealthStatus
	Memory      uint64 // bytes resident
	CPU         time.Duration
	Running     uint32 // jobs in handlers
	Congested   bool
	NeedsMemory bool
	Detail      string
}

// Encode returns c as a LifecycleCommand.
func (c Command) Encode() ([]byte, error) {
	return encode(system.NewRootLifecycleCommand, writeCommand, c)
}

// DecodeCommand is the inverse of Command.Encode.
func DecodeCommand(b []byte) (Command, error) { return decode(b, readCommand) }

// Encode returns v as a LifecycleReply.
func (v Reply) Encode() ([]byte, error) { return encode(system.NewRootLifecycleReply, writeReply, v) }

// DecodeReply is the inverse of Reply.Encode.
func DecodeReply(b []byte) (Reply, error) { return decode(b, readReply) }

// Encode returns c as a message of its own.
func (c Configuration) Encode() ([]byte, error) {
	return encode(system.NewRootConfiguration, writeConfiguration, c)
}

// DecodeConfiguration is the inverse of Configuration.Encode.
func DecodeConfiguration(b []byte) (Configuration, error) { return decode(b, readConfiguration) }

// Encode returns a as a message of its own.
func (a Adoption) Encode() ([]byte, error) { return encode(system.NewRootAdoption, writeAdoption, a) }

// DecodeAdoption is the inverse of Adoption.Encode.
func DecodeAdoption(b []byte) (Adoption, error) { return decode(b, readAdoption) }

// Encode returns h as a HealthHeartbeat.
func (h Heartbeat) Encode() ([]byte, error) {
	return encode(system.NewRootHealthHeartbeat, writeHeartbeat, h)
}

// DecodeHeartbeat is the inverse of Heartbeat.Encode.
func DecodeHeartbeat(b []byte) (Heartbeat, error) { return decode(b, readHeartbeat) }

func (Describe) write(_ *writer, s system.LifecycleCommand) { s.Body().SetDescribe() }
func (Start) write(_ *writer, s system.LifecycleCommand)    { s.Body().SetStart() }
func (Health) write(_ *writer, s system.LifecycleCommand)   { s.Body().SetHealth() }
func (Freeze) write(_ *writer, s system.LifecycleCommand)   { s.Body().SetFreeze() }
func (Drain) write(_ *writer, s system.LifecycleCommand)    { s.Body().SetDrain() }
func (Stop) write(_ *writer, s system.LifecycleCommand)     { s.Body().SetStop() }
func (Thaw) write(_ *writer, s system.LifecycleCommand)     { s.Body().SetThaw() }

func (c Configuration) write(w *writer, s system.LifecycleCommand) {
	writeStruct(w, "configure", s.Body().NewConfigure, writeConfiguration, c)
}

func (a Adoption) write(w *writer, s system.LifecycleCommand) {
	writeStruct(w, "adopt", s.Body().NewAdopt, writeAdoption, a)
}

func writeCommand(w *writer, s system.LifecycleCommand, c Command) {
	s.SetId(c.ID)
	s.SetTimestamp(c.Timestamp)
	s.SetTimeoutNs(int64(c.Timeout))
	if c.Body == nil {
		w.fail("body", "there is none; say what to do")
		return
	}
	c.Body.write(w, s)
}

func readCommand(r *reader, s system.LifecycleCommand) Command {
	c := Command{ID: s.Id(), Timestamp: s.Timestamp(), Timeout: time.Duration(s.TimeoutNs())}
	switch b := s.Body(); b.Which() {
	case system.LifecycleCommand_body_Which_describe:
		c.Body = Describe{}
	case system.LifecycleCommand_body_Which_configure:
		c.Body = readStruct(r, "configure", b.Configure, readConfiguration)
	case system.LifecycleCommand_body_Which_start:
		c.Body = Start{}
	case system.LifecycleCommand_body_Which_health:
		c.Body = Health{}
	case system.LifecycleCommand_body_Which_freeze:
		c.Body = Freeze{}
	case system.LifecycleCommand_body_Which_adopt:
		c.Body = readStruct(r, "adopt", b.Adopt, readAdoption)
	case system.LifecycleCommand_body_Which_drain:
		c.Body = Drain{}
	case system.LifecycleCommand_body_Which_stop:
		c.Body = Stop{}
	case system.LifecycleCommand_body_Which_thaw:
		c.Body = Thaw{}
	default:
		r.fail("body", "%d is no command that this build knows", b.Which())
	}
	return c
}

func writeConfiguration(w *writer, s system.Configuration, c Configuration) {
	s.SetInstance(c.Instance)
	s.SetIncarnation(c.Incarnation)
	w.data("nodeId", s.SetNodeId, c.NodeID, maxName)
	writeEnums(w, "grants", s.NewGrants, maxList, c.Grants)
	s.SetLinkBytes(c.LinkBytes)
	s.SetControlBytes(c.ControlBytes)
	s.SetArenaBytes(c.ArenaBytes)
	s.SetArena(c.Arena)
	w.text("logLevel", s.SetLogLevel, c.LogLevel, maxName)
	w.text("dataDir", s.SetDataDir, c.DataDir, maxText)
	writeList(w, "settings", s.NewSettings, maxList, writeSetting, pairs(c.Settings))
	s.SetBroker(c.Broker)
}

func readConfiguration(r *reader, s system.Configuration) Configuration {
	return Configuration{
		Instance:     s.Instance(),
		Incarnation:  s.Incarnation(),
		NodeID:       r.data("nodeId", s.NodeId, maxName),
		Grants:       readEnums(r, "grants", s.Grants, maxList),
		LinkBytes:    s.LinkBytes(),
		ControlBytes: s.ControlBytes(),
		ArenaBytes:   s.ArenaBytes(),
		Arena:        s.Arena(),
		LogLevel:     r.text("logLevel", s.LogLevelBytes, maxName),
		DataDir:      r.text("dataDir", s.DataDirBytes, maxText),
		Settings:     unpair(readList(r, "settings", s.Settings, maxList, readPair)),
		Broker:       s.Broker(),
	}
}

func writeAdoption(w *writer, s system.Adoption, a Adoption) {
	writeStruct(w, "fromVersion", s.NewFromVersion, writeVersion, a.FromVersion)
	s.SetFromInstance(a.FromInstance)
}

func readAdoption(r *reader, s system.Adoption) Adoption {
	return Adoption{FromVersion: readStruct(r, "fromVersion", s.FromVersion, readVersion), FromInstance: s.FromInstance()}
}

func writeReply(w *writer, s system.LifecycleReply, v Reply) {
	s.SetId(v.ID)
	writeFailure(w, s.NewError, v.Err)
	switch {
	case v.Manifest != nil && v.Health != nil:
		w.fail("body", "both a manifest and a heartbeat")
	case v.Manifest != nil:
		writeStruct(w, "manifest", s.Body().NewManifest, writeManifest, *v.Manifest)
	case v.Health != nil:
		writeStruct(w, "health", s.Body().NewHealth, writeHeartbeat, *v.Health)
	}
}

func readReply(r *reader, s system.LifecycleReply) Reply {
	v := Reply{ID: s.Id(), Err: readStruct(r, "error", s.Error, readError)}
	switch b := s.Body(); b.Which() {
	case system.LifecycleReply_body_Which_none:
	case system.LifecycleReply_body_Which_manifest:
		m := readStruct(r, "manifest", b.Manifest, readManifest)
		v.Manifest = &m
	case system.LifecycleReply_body_Which_health:
		h := readStruct(r, "health", b.Health, readHeartbeat)
		v.Health = &h
	default:
		r.fail("body", "%d is no reply that this build knows", b.Which())
	}
	return v
}

// writeFailure writes an error if there is one: that there is none is how a
// message says that all went well.
func writeFailure(w *writer, create func() (base.Error, error), e *Error) {
	if e != nil {
		writeStruct(w, "error", create, writeError, e)
	}
}

func writeHeartbeat(w *writer, s system.HealthHeartbeat, h Heartbeat) {
	writeEnum(w, "status", s.SetStatus, h.Status)
	s.SetMemoryUsage(h.Memory)
	s.SetCpuTimeNs(int64(h.CPU))
	s.SetRunning(h.Running)
	s.SetIsCongested(h.Congested)
	s.SetNeedsMoreMemory(h.NeedsMemory)
	w.prose("detail", s.SetDetail, h.Detail, maxText)
}

func readHeartbeat(r *reader, s system.HealthHeartbeat) Heartbeat {
	return Heartbeat{
		Status:      readEnum(r, "status", s.Status()),
		Memory:      s.MemoryUsage(),
		CPU:         time.Duration(s.CpuTimeNs()),
		Running:     s.Running(),
		Congested:   s.IsCongested(),
		NeedsMemory: s.NeedsMoreMemory(),
		Detail:      r.text("detail", s.DetailBytes, maxText),
	}
}

func (c Command) number() uint64 { return c.ID }

func (v Reply) number() uint64  { return v.ID }
func (v Reply) failure() *Error { return v.Err }

func (v Reply) to(number uint64, failure *Error) Reply {
	v.ID = number
	if failure != nil {
		v.Err = failure
	}
	return v
}
