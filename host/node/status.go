package node

import (
	"time"

	"inos/host/dispatch"
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
}

// InstanceStatus describes one process of a plugin.
type InstanceStatus struct {
	ID          uint32
	Incarnation uint32
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
	Jobs    dispatch.Stats
}
