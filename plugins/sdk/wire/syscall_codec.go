package wire

import (
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// maxFields bounds the fields of one log record.
const maxFields = 64

func writeSyscall(w *writer, s system.Syscall, c Syscall) {
	s.SetCallId(c.CallID)
	s.SetJob(c.Job)
	writeMetadataField(w, s.NewMetadata, c.Metadata)
	if c.Body == nil {
		w.fail("body", "there is none; ask for something, if only a Noop")
		return
	}
	c.Body.writeCall(w, s.Body())
}

func readSyscall(r *reader, s system.Syscall) Syscall {
	return Syscall{
		CallID:   s.CallId(),
		Job:      s.Job(),
		Metadata: readStruct(r, "metadata", s.Metadata, readMetadata),
		Body:     readSyscallBody(r, s.Body()),
	}
}

func readSyscallBody(r *reader, b system.Syscall_body) SyscallBody {
	switch b.Which() {
	case system.Syscall_body_Which_noop:
		return Noop{}
	case system.Syscall_body_Which_lease:
		return Lease{b.Lease()}
	case system.Syscall_body_Which_free:
		return Free{readStruct(r, "free", b.Free, readRef)}
	case system.Syscall_body_Which_fetchChunk:
		return readStruct(r, "fetchChunk", b.FetchChunk, func(r *reader, s system.FetchChunk) FetchChunk {
			return FetchChunk{Hash: r.digest("hash", s.Hash), Priority: s.Priority()}
		})
	case system.Syscall_body_Which_storeChunk:
		return readStruct(r, "storeChunk", b.StoreChunk, func(r *reader, s system.StoreChunk) StoreChunk {
			return StoreChunk{Data: readStruct(r, "data", s.Data, readRef), TTLSeconds: s.TtlSeconds()}
		})
	case system.Syscall_body_Which_sendMessage:
		return readStruct(r, "sendMessage", b.SendMessage, func(r *reader, s system.SendMessage) SendMessage {
			return SendMessage{
				Target:   r.text("targetId", s.TargetIdBytes, maxName),
				Payload:  r.data("payload", s.Payload, MaxMessage),
				Priority: s.Priority(),
			}
		})
	case system.Syscall_body_Which_hostCall:
		return readStruct(r, "hostCall", b.HostCall, func(r *reader, s system.HostCall) HostCall {
			return HostCall{
				Capability: r.text("capability", s.CapabilityBytes, maxName),
				Params:     readList(r, "params", s.Params, maxParams, readParam),
				Input:      readStruct(r, "input", s.Input, readRef),
				Deadline:   s.Deadline(),
				Budget:     s.Budget(),
			}
		})
	case system.Syscall_body_Which_spawn:
		return Spawn{b.Spawn()}
	case system.Syscall_body_Which_stop:
		return StopInstance{b.Stop()}
	case system.Syscall_body_Which_log:
		return readStruct(r, "log", b.Log, func(r *reader, s system.LogRecord) LogRecord {
			return LogRecord{
				Level:   readEnum(r, "level", s.Level()),
				Message: r.text("message", s.Message_Bytes, maxLong),
				Fields:  readList(r, "fields", s.Fields, maxFields, readPair),
			}
		})
	case system.Syscall_body_Which_progress:
		return readStruct(r, "progress", b.Progress, readProgress)
	case system.Syscall_body_Which_metric:
		return readStruct(r, "metric", b.Metric, func(r *reader, s system.Metric) Metric {
			return Metric{Name: r.text("name", s.NameBytes, maxName), Value: s.Value(), Kind: readEnum(r, "kind", s.Kind())}
		})
	case system.Syscall_body_Which_state:
		return readStruct(r, "state", b.State, func(r *reader, s system.OpenState) OpenState {
			return OpenState{Name: r.text("name", s.NameBytes, maxName), Schema: s.Schema(), Bytes: s.Bytes()}
		})
	}
	r.fail("body", "%d is no call that this build knows", b.Which())
	return nil
}

func (Noop) writeCall(_ *writer, b system.Syscall_body) { b.SetNoop() }

func (c Lease) writeCall(_ *writer, b system.Syscall_body) { b.SetLease(c.Bytes) }

func (c Free) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "free", b.NewFree, writeRef, c.Ref)
}

func (c FetchChunk) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "fetchChunk", b.NewFetchChunk, func(w *writer, s system.FetchChunk, c FetchChunk) {
		w.data("hash", s.SetHash, c.Hash[:], len(c.Hash))
		s.SetPriority(c.Priority)
	}, c)
}

func (c StoreChunk) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "storeChunk", b.NewStoreChunk, func(w *writer, s system.StoreChunk, c StoreChunk) {
		writeStruct(w, "data", s.NewData, writeRef, c.Data)
		s.SetTtlSeconds(c.TTLSeconds)
	}, c)
}

func (c SendMessage) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "sendMessage", b.NewSendMessage, func(w *writer, s system.SendMessage, c SendMessage) {
		w.text("targetId", s.SetTargetId, c.Target, maxName)
		w.data("payload", s.SetPayload, c.Payload, MaxMessage)
		s.SetPriority(c.Priority)
	}, c)
}

func (c HostCall) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "hostCall", b.NewHostCall, func(w *writer, s system.HostCall, c HostCall) {
		w.text("capability", s.SetCapability, c.Capability, maxName)
		writeList(w, "params", s.NewParams, maxParams, writeParam, c.Params)
		writeStruct(w, "input", s.NewInput, writeRef, c.Input)
		s.SetDeadline(c.Deadline)
		s.SetBudget(c.Budget)
	}, c)
}

func (c Spawn) writeCall(_ *writer, b system.Syscall_body) { b.SetSpawn(c.Count) }

func (c StopInstance) writeCall(_ *writer, b system.Syscall_body) { b.SetStop(c.Instance) }

func (c LogRecord) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "log", b.NewLog, func(w *writer, s system.LogRecord, c LogRecord) {
		writeEnum(w, "level", s.SetLevel, c.Level)
		w.prose("message", s.SetMessage_, c.Message, maxLong)
		writeList(w, "fields", s.NewFields, maxFields, writeFact, c.Fields[:min(len(c.Fields), maxFields)])
	}, c)
}

func (p Progress) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "progress", b.NewProgress, writeProgress, p)
}

func (c Metric) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "metric", b.NewMetric, func(w *writer, s system.Metric, c Metric) {
		w.text("name", s.SetName, c.Name, maxName)
		s.SetValue(c.Value)
		writeEnum(w, "kind", s.SetKind, c.Kind)
	}, c)
}

func (c OpenState) writeCall(w *writer, b system.Syscall_body) {
	writeStruct(w, "state", b.NewState, func(w *writer, s system.OpenState, c OpenState) {
		w.text("name", s.SetName, c.Name, maxName)
		s.SetSchema(c.Schema)
		s.SetBytes(c.Bytes)
	}, c)
}

func writeRef(_ *writer, s system.Ref, ref arena.Ref) {
	s.SetArena(ref.Arena)
	s.SetSlot(ref.Slot)
	s.SetGeneration(ref.Generation)
	s.SetOffset(ref.Offset)
	s.SetLength(ref.Length)
}

func readRef(_ *reader, s system.Ref) arena.Ref {
	return arena.Ref{Arena: s.Arena(), Slot: s.Slot(), Generation: s.Generation(), Offset: s.Offset(), Length: s.Length()}
}
