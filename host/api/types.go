package api

import (
	"time"

	"inos/host/dispatch"
	"inos/host/journal"
	"inos/host/node"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// Node describes a node. Sizes are bytes here and below.
type Node struct {
	ID       string         `json:"id"`
	Version  string         `json:"version"`
	Home     string         `json:"home"`
	Plugins  string         `json:"plugins_dir"`
	Socket   string         `json:"socket"`
	PID      int            `json:"pid"`
	Started  time.Time      `json:"started"`
	Segment  uint64         `json:"segment_bytes"`
	JobStats dispatch.Stats `json:"jobs"`
	Durable  DurableStats   `json:"durable"`
	Means    Means          `json:"enforcement"`
}

// DurableStats describes the log of durable jobs.
type DurableStats struct {
	Waiting  int    `json:"waiting"`
	Running  int    `json:"running"`
	Ended    int    `json:"ended"` // and remembered
	MaxJobs  int    `json:"max_jobs"`
	Bytes    uint64 `json:"bytes"` // of inputs and results on disk
	MaxBytes uint64 `json:"max_bytes"`
	Error    *Error `json:"error,omitempty"` // why nothing can be written any more
}

func newDurableStats(s journal.Stats) DurableStats {
	return DurableStats{
		Waiting: s.Waiting, Running: s.Running, Ended: s.Ended, MaxJobs: s.Jobs, Bytes: s.Bytes, MaxBytes: s.MaxBytes, Error: AsError(s.Err),
	}
}

// Means says how the limits of plugins are kept: "none", "watched by the host",
// "cgroup v1" or "cgroup v2".
type Means struct {
	Memory    string `json:"memory"`
	CPU       string `json:"cpu"`
	Processes string `json:"processes"`
	Children  string `json:"children"`       // how processes that a plugin started are found
	Note      string `json:"note,omitempty"` // what stands in the way of control groups
}

func newNode(i node.Info, durable journal.Stats) Node {
	e := i.Enforcement
	return Node{
		ID: i.ID, Version: i.Version, Home: i.Home, Plugins: i.Plugins, Socket: i.Socket,
		PID: i.PID, Started: i.Started, Segment: i.Segment, JobStats: i.Jobs, Durable: newDurableStats(durable),
		Means: Means{
			Memory: e.Memory.String(), CPU: e.CPU.String(), Processes: e.Processes.String(), Children: e.Children.String(), Note: e.Note,
		},
	}
}

// Capabilities lists what is served, by name.
type Capabilities struct {
	Capabilities []Capability `json:"capabilities"`
}

// Capability describes an operation.
type Capability struct {
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Module      string  `json:"module,omitempty"`
	Params      []Param `json:"params"`
	MaxInput    uint64  `json:"max_input"`  // 0: what a block holds, no bound when it streams
	MaxOutput   uint64  `json:"max_output"` // likewise
	TimeoutNs   int64   `json:"timeout_ns"` // 0: the caller's deadline alone
	Idempotent  bool    `json:"idempotent"`
	Streams     bool    `json:"streams"`
	NeedsGPU    bool    `json:"needs_gpu"`
	MinMemory   uint64  `json:"min_memory"`
	InputType   string  `json:"input_type,omitempty"`
	OutputType  string  `json:"output_type,omitempty"`
	Instances   int     `json:"instances"`
	Waiting     int     `json:"waiting"` // jobs that wait for its module
}

// Param describes a parameter of a capability.
type Param struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"` // a name of system.ParamKind
	Required    bool     `json:"required"`
	Description string   `json:"description"`
	Default     string   `json:"default,omitempty"`
	Choices     []string `json:"choices,omitempty"`
}

func newCapability(c wire.Capability) Capability {
	out := Capability{
		Name: c.Name, Description: c.Description, Params: []Param{}, MaxInput: c.MaxInput, MaxOutput: c.MaxOutput,
		TimeoutNs: int64(c.Timeout), Idempotent: c.Idempotent, Streams: c.Streams, NeedsGPU: c.NeedsGPU,
		MinMemory: c.MinMemory, InputType: c.InputType, OutputType: c.OutputType,
	}
	for _, p := range c.Params {
		out.Params = append(out.Params, Param{
			Name: p.Name, Kind: p.Kind.String(), Required: p.Required, Description: p.Description, Default: p.Default, Choices: p.Choices,
		})
	}
	return out
}

// Jobs lists jobs, the newest first.
type Jobs struct {
	Jobs  []Job `json:"jobs"`
	Known int   `json:"known"` // how many the node remembers in all
}

// Job describes a job.
type Job struct {
	ID         string    `json:"id"`
	Capability string    `json:"capability"`
	Module     string    `json:"module"`
	State      string    `json:"state"` // waiting, running, or how it ended
	Priority   string    `json:"priority"`
	Submitted  time.Time `json:"submitted"`
	TookNs     int64     `json:"took_ns"` // until now, or until it ended
	Attempts   int       `json:"attempts"`
	Instance   uint32    `json:"instance"`
	Done       uint64    `json:"done"`  // of Total, as its handler reports
	Total      uint64    `json:"total"` // 0: not known
	Cost       uint64    `json:"cost"`  // micro-credits
	InBytes    uint64    `json:"input_bytes"`
	OutBytes   uint64    `json:"output_bytes"`
	Error      *Error    `json:"error,omitempty"`
	Parent     string    `json:"parent,omitempty"` // the job on whose behalf it runs

	// What follows is of durable jobs alone, but for Ended.
	Durable  bool      `json:"durable"`
	Key      string    `json:"key,omitempty"`
	Deadline time.Time `json:"deadline,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`   // absent until then
	Expires  time.Time `json:"expires,omitzero"` // when its result is forgotten, absent until it has ended
}

// Over reports whether the job has ended.
func (j Job) Over() bool { return !j.Ended.IsZero() }

// Err returns why the job failed, a *wire.Error, and nil when it has succeeded or not
// ended.
func (j Job) Err() error {
	switch {
	case !j.Over() || j.State == compute.Status_success.String():
		return nil
	case j.Error == nil:
		return wire.NewError(base.Code_unknown, "", "job %s ended as %s", j.ID, j.State)
	}
	return j.Error.wire()
}

func newJob(i dispatch.Info) Job {
	j := Job{
		ID: jobID(i.ID), Capability: i.Capability, Module: i.Module, State: i.State, Priority: i.Priority.String(),
		Submitted: i.Submitted, TookNs: int64(i.Took), Attempts: i.Attempts, Instance: i.Instance, Done: i.Done, Total: i.Total,
		Cost: i.Cost, InBytes: i.InBytes, OutBytes: i.OutBytes, Error: newError(i.Err),
	}
	if i.Parent != 0 {
		j.Parent = jobID(i.Parent)
	}
	if i.State != stateWaiting && i.State != stateRunning {
		j.Ended = i.Submitted.Add(i.Took)
	}
	return j
}

// States of a job that has not ended, as engine and journal call them.
const (
	stateWaiting = "waiting"
	stateRunning = "running"
)

// newDurable describes a durable job as the journal knows it. The error of one that
// waits is why it could not be started.
func newDurable(i journal.Job) Job {
	j := Job{
		ID: jobID(i.ID), Capability: i.Capability, State: i.State, Priority: i.Priority.String(), Submitted: i.Accepted,
		Attempts: max(i.Runs, i.Outcome.Attempts), Cost: i.Outcome.Cost, InBytes: i.InBytes, OutBytes: i.OutBytes, Error: newError(i.Outcome.Err),
		Durable: true, Key: i.Key, Deadline: i.Deadline, Ended: i.Ended, Expires: i.Expires, TookNs: int64(time.Since(i.Accepted)),
	}
	if i.Over() {
		j.TookNs = int64(i.Ended.Sub(i.Accepted))
	}
	return j
}

// running fills in what the engine knows of a durable job that it has.
func (j *Job) running(i dispatch.Info) {
	j.Module, j.Instance, j.Done, j.Total = i.Module, i.Instance, i.Done, i.Total
	j.OutBytes = i.OutBytes
}

// Metrics says what a job used.
type Metrics struct {
	WallTimeNs      int64  `json:"wall_time_ns"`
	CPUTimeNs       int64  `json:"cpu_time_ns"`
	GPUTimeNs       int64  `json:"gpu_time_ns"`
	QueueTimeNs     int64  `json:"queue_time_ns"`
	MemoryPeakBytes uint64 `json:"memory_peak_bytes"`
	InputBytes      uint64 `json:"input_bytes"`
	OutputBytes     uint64 `json:"output_bytes"`
}

func newMetrics(m wire.Metrics) Metrics {
	return Metrics{
		WallTimeNs: int64(m.Wall), CPUTimeNs: int64(m.CPU), GPUTimeNs: int64(m.GPU), QueueTimeNs: int64(m.Queue),
		MemoryPeakBytes: m.MemoryPeak, InputBytes: m.InputBytes, OutputBytes: m.OutputBytes,
	}
}
