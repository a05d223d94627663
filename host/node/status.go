package node

import (
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
	"inos/shm/segment"
	"inos/shm/state"
)

// Phase of a plugin, as an operator sees it.
type Phase string

// The phases.
const (
	Refused    Phase = "refused"    // never started: Reason says why
	Starting   Phase = "starting"   // process up, not in service yet
	Serving    Phase = "serving"    // takes jobs
	BackingOff Phase = "restarting" // died, will be started again at RetryAt
	Stopped    Phase = "stopped"    // will not be started again: Reason says why
	Standby    Phase = "standby"    // a version that could serve, while another of the module does
	Held       Phase = "held"       // an operator took it out of service; jobs wait
)

// PluginStatus describes one file of the plugins folder and what became of it.
type PluginStatus struct {
	File         string // as it stands in the folder
	Name         string // from the manifest, else from the file name
	Version      string
	Description  string
	Digest       string // SHA-256 of the binary, hex
	Phase        Phase
	Reason       string // why it is refused, stopped or started again
	Hint         string // what to do about it
	Arena        string // "private" or "commons"
	Grants       []string
	Since        time.Time // when it came into this phase
	RetryAt      time.Time // when it will be started again
	Restarts     int
	StartTook    time.Duration // from fork to service
	Waiting      int           // jobs that wait for it
	Instances    []InstanceStatus
	Manifest     *wire.Manifest // nil when it never described itself
	Capabilities []string
	Publisher    string // whose key signed it, "" for nobody's
	Note         string // what else an operator should know
	Pinned       bool   // an operator said that this version is to serve
	Held         bool   // an operator took it out of service
	OnProbation  bool   // it has replaced another and may still have to go
	Exchanging   string // the version that is being brought in, "" for none
	Lingering    int    // generations that were replaced and still have jobs
	Previous     string // the version that served before, "" for none
}

// InstanceStatus describes one process of a plugin.
type InstanceStatus struct {
	ID          uint32
	Incarnation uint32
	Limits      supervisor.Limits // in force, with supervisor.Unlimited where there is none
	Version     string
	Serving     bool // it gets jobs: it is neither on trial nor on its way out
	PID         int
	Started     time.Time
	Running     int // jobs
	Offences    int64
	Health      string
	Resident    uint64 // bytes, from the plugin's own heartbeat
	CPUTime     time.Duration
}

// SegmentStatus describes the shared memory.
type SegmentStatus struct {
	segment.Usage
	States []state.Entry
}

// Info describes the node.
type Info struct {
	ID      string
	Version string
	Home    string
	Plugins string // the folder
	Socket  string
	PID     int
	Started time.Time
	Segment uint64 // bytes in all
	// Enforcement says by what means the limits of plugins are kept.
	Enforcement supervisor.Enforcement
	Jobs        dispatch.Stats
}

// rank orders what is said of one module: what serves comes first.
func (p Phase) rank() int {
	switch p {
	case Refused:
		return 0
	case Stopped:
		return 1
	case Standby:
		return 2
	default:
		return 3
	}
}

// describe says what became of a file that does not serve. serving is the module
// that does instead, nil for none; past is what the history says of the version.
func (r *row) describe(serving *module, past catalog.Version) PluginStatus {
	s := PluginStatus{
		File: r.file.Name, Name: r.name(), Digest: r.entry.Digest, Publisher: r.entry.Publisher,
		Phase: Standby, Since: r.since, Manifest: r.manifest,
	}
	if m := r.manifest; m != nil {
		s.Version, s.Description = m.Version.String(), m.Description
		for _, c := range m.Capabilities {
			s.Capabilities = append(s.Capabilities, c.Name)
		}
	}
	switch {
	case r.busy:
		s.Phase = Starting
	case r.err != nil:
		s.Phase = Refused
		if r.stopped {
			s.Phase = Stopped
		}
		s.Reason, s.Hint = explain(r.err)
	case past.Outcome == catalog.RolledBack:
		s.Phase, s.Reason = Refused, "it was rolled back: "+past.Reason
		s.Hint = "drop a mended one, or try it again with inos plugin swap " + s.Name + " " + s.Version
	case serving != nil && serving.brings(s.Version):
		s.Phase, s.Reason = Starting, "it is being brought into service"
	case serving != nil:
		if g := serving.serves(); g != nil {
			s.Reason = "version " + g.manifest.Version.String() + " serves"
			s.Hint = "inos plugin swap " + s.Name + " " + s.Version + " puts this one into service"
		}
	}
	return s
}
