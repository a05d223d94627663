package wire

import (
	"time"

	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// Syscall is what a plugin asks of the host. The host answers with an Answer.
type Syscall struct {
	CallID   uint64 // chosen by the caller, comes back in the answer
	Job      uint64 // the job being served, 0 for none
	Metadata Metadata
	Body     SyscallBody
}

// SyscallBody is Noop, Lease, Free, FetchChunk, StoreChunk, SendMessage,
// HostCall, Spawn, StopInstance, LogRecord, Progress, Metric or OpenState.
type SyscallBody interface {
	writeCall(w *writer, b system.Syscall_body)
}

// Noop asks for nothing: its answer shows that the host is there.
type Noop struct{}

// Lease asks for a block of so many bytes. The answer is a Granted.
type Lease struct{ Bytes uint64 }

// Free gives a leased block back.
type Free struct{ Ref arena.Ref }

// FetchChunk asks for a stored chunk. The answer is a Granted.
type FetchChunk struct {
	Hash     [32]byte // BLAKE3 of the plaintext
	Priority uint8
}

// StoreChunk stores a block. The answer is a Stored.
type StoreChunk struct {
	Data       arena.Ref
	TTLSeconds uint32 // 0 is until deleted
}

// SendMessage sends to a peer. The answer is a Delivery.
type SendMessage struct {
	Target   string
	Payload  []byte
	Priority uint8
}

// HostCall runs a job of another module. The answer is a Called.
type HostCall struct {
	Capability string
	Params     Params
	Input      arena.Ref
	Deadline   int64  // on the clock of Monotonic, 0 for the calling job's
	Budget     uint64 // micro-credits, out of the calling job's
}

// Spawn asks for more instances of the caller. The answer is a Spawned.
type Spawn struct{ Count uint32 }

// StopInstance ends an instance of the caller's own module.
type StopInstance struct{ Instance uint32 }

// LogRecord is a line of the plugin's log.
type LogRecord struct {
	Level   system.Level
	Message string
	Fields  []KeyValue
}

// Metric is a measurement of the plugin's own.
type Metric struct {
	Name  string
	Value float64
	Kind  system.MetricKind
}

// OpenState asks for a state block. The answer is a StateGrant.
type OpenState struct {
	Name   string
	Schema uint32
	Bytes  uint64 // of one half
}

// Answer is what came of a Syscall.
type Answer struct {
	CallID uint64
	Err    *Error     // nil on success
	Body   AnswerBody // nil if there is nothing to say
}

// AnswerBody is Granted, Stored, Delivery, Called, Spawned or StateGrant.
type AnswerBody interface {
	writeAnswer(w *writer, b system.Answer_result)
}

// Granted answers Lease and FetchChunk.
type Granted struct{ Ref arena.Ref }

// Stored answers StoreChunk.
type Stored struct {
	Hash     [32]byte
	Replicas uint16
}

// Delivery answers SendMessage.
type Delivery struct {
	Delivered bool
	Latency   time.Duration
}

// Called answers HostCall.
type Called struct {
	Status compute.Status
	Output arena.Ref
	Cost   uint64 // micro-credits
}

// Spawned answers Spawn: the number of the first new instance.
type Spawned struct{ Instance uint32 }

// StateGrant answers OpenState.
type StateGrant struct {
	Block  arena.Ref // header line, then the two halves
	Schema uint32    // of what is committed in it
	Fresh  bool      // nothing was committed yet
}

// Needs returns the grant without which the host refuses the call, and false if
// it needs none.
func (c Syscall) Needs() (grant system.Grant, needed bool) {
	switch c.Body.(type) {
	case Lease, Free:
		return system.Grant_lease, true
	case FetchChunk:
		return system.Grant_fetchChunk, true
	case StoreChunk:
		return system.Grant_storeChunk, true
	case SendMessage:
		return system.Grant_sendMessage, true
	case HostCall:
		return system.Grant_hostCall, true
	case Spawn, StopInstance:
		return system.Grant_spawn, true
	case LogRecord:
		return system.Grant_log, true
	case Progress:
		return system.Grant_progress, true
	case Metric:
		return system.Grant_metric, true
	case OpenState:
		return system.Grant_state, true
	}
	return 0, false
}

// Encode returns c as a message.
func (c Syscall) Encode() ([]byte, error) { return encode(system.NewRootSyscall, writeSyscall, c) }

// DecodeSyscall is the inverse of Syscall.Encode.
func DecodeSyscall(b []byte) (Syscall, error) { return decode(b, readSyscall) }

// Encode returns a as a message.
func (a Answer) Encode() ([]byte, error) { return encode(system.NewRootAnswer, writeAnswer, a) }

// DecodeAnswer is the inverse of Answer.Encode.
func DecodeAnswer(b []byte) (Answer, error) { return decode(b, readAnswer) }

func (c Syscall) number() uint64 { return c.CallID }

func (a Answer) number() uint64  { return a.CallID }
func (a Answer) failure() *Error { return a.Err }

func (a Answer) to(number uint64, failure *Error) Answer {
	a.CallID = number
	if failure != nil {
		a.Err = failure
	}
	return a
}
