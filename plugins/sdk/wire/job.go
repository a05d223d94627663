package wire

import (
	"time"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// Job is what a plugin is told of a job beyond what fits into a descriptor.
type Job struct {
	ID             uint64
	Capability     string
	Params         Params
	Budget         uint64 // micro-credits, 0 for no bound
	Priority       compute.Priority
	Deadline       int64 // on the clock of Monotonic, 0 for none
	IdempotencyKey string
	InputBytes     uint64 // of the whole input, 0 if that is not known
	Metadata       Metadata
}

// Metadata is context that follows a job from end to end.
type Metadata struct {
	UserID, DeviceID        string
	ModuleID                string // the plugin that asked, empty for an operator
	TraceParent, TraceState string // W3C trace context
	CreditLedgerID          string
	ParentJob               uint64 // the job on whose behalf, 0 for none
}

// Result is what came of a job, beyond what fits into a descriptor.
type Result struct {
	ID         uint64
	Status     compute.Status
	Cost       uint64 // micro-credits
	Err        *Error // nil on success
	Metrics    Metrics
	OutputType string // media type, informative
	Retryable  bool
}

// Metrics measures one run of a job.
type Metrics struct {
	Wall, CPU, GPU, Queue               time.Duration
	MemoryPeak, InputBytes, OutputBytes uint64 // bytes
}

// Progress says how far a job is.
type Progress struct {
	ID          uint64
	Done, Total uint64 // Total is 0 if it is not known
	Message     string
}

// Encode returns j as a JobRequest.
func (j Job) Encode() ([]byte, error) { return encode(compute.NewRootJobRequest, writeJob, j) }

// DecodeJob is the inverse of Job.Encode.
func DecodeJob(b []byte) (Job, error) { return decode(b, readJob) }

// Encode returns m as a message of its own.
func (m Metadata) Encode() ([]byte, error) { return encode(base.NewRootMetadata, writeMetadata, m) }

// DecodeMetadata is the inverse of Metadata.Encode.
func DecodeMetadata(b []byte) (Metadata, error) { return decode(b, readMetadata) }

// Encode returns v as a JobResult.
func (v Result) Encode() ([]byte, error) { return encode(compute.NewRootJobResult, writeResult, v) }

// DecodeResult is the inverse of Result.Encode.
func DecodeResult(b []byte) (Result, error) { return decode(b, readResult) }

// Encode returns m as ExecutionMetrics.
func (m Metrics) Encode() ([]byte, error) {
	return encode(compute.NewRootExecutionMetrics, writeMetrics, m)
}

// DecodeMetrics is the inverse of Metrics.Encode.
func DecodeMetrics(b []byte) (Metrics, error) { return decode(b, readMetrics) }

// Encode returns p as a message of its own.
func (p Progress) Encode() ([]byte, error) { return encode(compute.NewRootProgress, writeProgress, p) }

// DecodeProgress is the inverse of Progress.Encode.
func DecodeProgress(b []byte) (Progress, error) { return decode(b, readProgress) }

func writeJob(w *writer, s compute.JobRequest, j Job) {
	s.SetJobId(j.ID)
	w.text("capability", s.SetCapability, j.Capability, maxName)
	writeList(w, "params", s.NewParams, maxParams, writeParam, j.Params)
	s.SetBudget(j.Budget)
	writeEnum(w, "priority", s.SetPriority, j.Priority)
	s.SetDeadline(j.Deadline)
	w.text("idempotencyKey", s.SetIdempotencyKey, j.IdempotencyKey, maxName)
	s.SetInputBytes(j.InputBytes)
	writeMetadataField(w, s.NewMetadata, j.Metadata)
}

func readJob(r *reader, s compute.JobRequest) Job {
	return Job{
		ID:             s.JobId(),
		Capability:     r.text("capability", s.CapabilityBytes, maxName),
		Params:         readList(r, "params", s.Params, maxParams, readParam),
		Budget:         s.Budget(),
		Priority:       readEnum(r, "priority", s.Priority()),
		Deadline:       s.Deadline(),
		IdempotencyKey: r.text("idempotencyKey", s.IdempotencyKeyBytes, maxName),
		InputBytes:     s.InputBytes(),
		Metadata:       readStruct(r, "metadata", s.Metadata, readMetadata),
	}
}

// writeMetadataField leaves metadata out when there is none, since most jobs of
// an operator have none.
func writeMetadataField(w *writer, create func() (base.Metadata, error), m Metadata) {
	if m != (Metadata{}) {
		writeStruct(w, "metadata", create, writeMetadata, m)
	}
}

func writeMetadata(w *writer, s base.Metadata, m Metadata) {
	w.text("userId", s.SetUserId, m.UserID, maxName)
	w.text("deviceId", s.SetDeviceId, m.DeviceID, maxName)
	w.text("moduleId", s.SetModuleId, m.ModuleID, maxName)
	w.text("traceParent", s.SetTraceParent, m.TraceParent, maxName)
	w.text("traceState", s.SetTraceState, m.TraceState, maxText)
	w.text("creditLedgerId", s.SetCreditLedgerId, m.CreditLedgerID, maxName)
	s.SetParentJob(m.ParentJob)
}

func readMetadata(r *reader, s base.Metadata) Metadata {
	return Metadata{
		UserID:         r.text("userId", s.UserIdBytes, maxName),
		DeviceID:       r.text("deviceId", s.DeviceIdBytes, maxName),
		ModuleID:       r.text("moduleId", s.ModuleIdBytes, maxName),
		TraceParent:    r.text("traceParent", s.TraceParentBytes, maxName),
		TraceState:     r.text("traceState", s.TraceStateBytes, maxText),
		CreditLedgerID: r.text("creditLedgerId", s.CreditLedgerIdBytes, maxName),
		ParentJob:      s.ParentJob(),
	}
}

func writeResult(w *writer, s compute.JobResult, v Result) {
	s.SetJobId(v.ID)
	writeEnum(w, "status", s.SetStatus, v.Status)
	s.SetCost(v.Cost)
	writeFailure(w, s.NewError, v.Err)
	if v.Metrics != (Metrics{}) {
		writeStruct(w, "metrics", s.NewMetrics, writeMetrics, v.Metrics)
	}
	w.text("outputType", s.SetOutputType, v.OutputType, maxName)
	s.SetRetryable(v.Retryable)
}

func readResult(r *reader, s compute.JobResult) Result {
	return Result{
		ID:         s.JobId(),
		Status:     readEnum(r, "status", s.Status()),
		Cost:       s.Cost(),
		Err:        readStruct(r, "error", s.Error, readError),
		Metrics:    readStruct(r, "metrics", s.Metrics, readMetrics),
		OutputType: r.text("outputType", s.OutputTypeBytes, maxName),
		Retryable:  s.Retryable(),
	}
}

func writeMetrics(_ *writer, s compute.ExecutionMetrics, m Metrics) {
	s.SetWallTimeNs(nanoseconds(m.Wall))
	s.SetCpuTimeNs(nanoseconds(m.CPU))
	s.SetGpuTimeNs(nanoseconds(m.GPU))
	s.SetQueueTimeNs(nanoseconds(m.Queue))
	s.SetMemoryPeakBytes(m.MemoryPeak)
	s.SetInputBytes(m.InputBytes)
	s.SetOutputBytes(m.OutputBytes)
}

func readMetrics(_ *reader, s compute.ExecutionMetrics) Metrics {
	return Metrics{
		Wall: duration(s.WallTimeNs()), CPU: duration(s.CpuTimeNs()),
		GPU: duration(s.GpuTimeNs()), Queue: duration(s.QueueTimeNs()),
		MemoryPeak: s.MemoryPeakBytes(), InputBytes: s.InputBytes(), OutputBytes: s.OutputBytes(),
	}
}

func writeProgress(w *writer, s compute.Progress, p Progress) {
	s.SetJobId(p.ID)
	s.SetDone(p.Done)
	s.SetTotal(p.Total)
	w.prose("message", s.SetMessage_, p.Message, maxText)
}

func readProgress(r *reader, s compute.Progress) Progress {
	return Progress{ID: s.JobId(), Done: s.Done(), Total: s.Total(), Message: r.text("message", s.Message_Bytes, maxText)}
}

// nanoseconds and duration convert times that cannot be negative. What does not
// fit comes out as the nearest that does.
func nanoseconds(d time.Duration) uint64 { return uint64(max(d, 0)) }

func duration(ns uint64) time.Duration { return time.Duration(min(ns, 1<<63-1)) }
