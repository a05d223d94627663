package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/golden"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// message is what all messages have.
type message interface{ Encode() ([]byte, error) }

// sample is a message in which every field has a value.
type sample struct {
	id     uint64
	value  message
	decode func([]byte) (message, error)
}

func of[V message](id uint64, decode func([]byte) (V, error), value V) sample {
	return sample{id, value, func(b []byte) (message, error) {
		v, err := decode(b)
		return v, err
	}}
}

// name is the type of the message, and that of its body.
func (s sample) name() string {
	name := reflect.TypeOf(s.value).Name()
	if r, ok := s.value.(Reply); ok && r.Health != nil {
		name += ".Heartbeat"
	}
	if body := reflect.ValueOf(s.value).FieldByName("Body"); body.IsValid() && !body.IsNil() {
		name += "." + body.Elem().Type().Name()
	}
	return name
}

var (
	sampleRef      = arena.Ref{Arena: 2, Slot: 77, Generation: 5, Offset: 1 << 33, Length: 1 << 32}
	sampleMetadata = Metadata{
		UserID: "user", DeviceID: "device", ModuleID: "module", TraceParent: "parent", TraceState: "state",
		CreditLedgerID: "ledger", ParentJob: 41,
	}
	sampleError = &Error{
		Code: base.Code_dataLoss, Message: "chunk 3 differs", Hint: "fetch it again", Temporary: true,
		Context: map[string]string{"chunk": "3", "peer": "p1"},
	}
	sampleMetrics = Metrics{Wall: 1, CPU: 2, GPU: 3, Queue: 4, MemoryPeak: 5, InputBytes: 6, OutputBytes: 7}
	sampleParams  = Params{
		{"text", "värld"}, {"bool", true}, {"int", int64(-7)}, {"uint", uint64(1 << 63)}, {"float", 0.5}, {"data", []byte{0, 255}},
	}
	sampleProgress  = Progress{ID: 9, Done: 3, Total: 12, Message: "packing"}
	sampleHeartbeat = Heartbeat{
		Status: system.HealthStatus_degraded, Memory: 1 << 20, CPU: time.Second, Running: 3, Congested: true, NeedsMemory: true, Detail: "busy",
	}
	sampleConfiguration = Configuration{
		Instance: 12, Incarnation: 3, NodeID: []byte("node"), Grants: []system.Grant{system.Grant_state, system.Grant_log},
		LinkBytes: 1, ControlBytes: 2, ArenaBytes: 3, Arena: 4, LogLevel: "debug", DataDir: "data",
		Settings: map[string]string{"a": "1", "b": "2"}, Broker: 6,
	}
	sampleAdoption = Adoption{FromVersion: Version{1, 2, 3}, FromInstance: 11}
	sampleManifest = Manifest{
		Name: "storage", Version: Version{1, 2, 3}, Description: "keeps things", License: "Apache-2.0",
		ABIMajor: 1, ABIMinor: 2, LayoutHash: 1 << 60,
		Capabilities: []Capability{{
			Name: "storage.put", Description: "keeps the input",
			Params: []ParamSpec{{
				Name: "level", Kind: system.ParamKind_int, Required: true, Description: "how hard", Default: "3", Choices: []string{"1", "3"},
			}},
			MaxInput: 1, MaxOutput: 2, Timeout: time.Minute, Idempotent: true, Streams: true, NeedsGPU: true, MinMemory: 3,
			InputType: "text/plain", OutputType: "application/json",
		}},
		Dependencies: []Dependency{{
			Module: "index", Min: Version{1, 1, 1}, Max: Version{2, 9, 9}, Optional: true, Alternatives: []string{"flat"},
		}},
		Resources: Resources{
			CPUCores: 1, Memory: 2, Arena: 3, GPUMemory: 4, IOIntensive: true, NetworkIntensive: true, Exclusive: []string{"/dev/x"},
		},
		Needs: []system.Grant{system.Grant_spawn}, Cost: CostModel{1, 2, 3}, Concurrency: 4,
		State: []StateSpec{{"index", 2, 4096, []uint32{1}}}, SelfTest: "storage.selftest",
	}
)

// samples has one value of each message, and of those with a body one for each
// body.
func samples() []sample {
	list := []sample{
		of(compute.JobRequest_TypeID, DecodeJob, Job{
			ID: 1, Capability: "storage.put", Params: sampleParams, Budget: 2, Priority: compute.Priority_critical, Deadline: 3,
			IdempotencyKey: "key", InputBytes: 4, Metadata: sampleMetadata,
		}),
		of(compute.JobResult_TypeID, DecodeResult, Result{
			ID: 1, Status: compute.Status_rejected, Cost: 2, Err: sampleError, Metrics: sampleMetrics, OutputType: "text/plain", Retryable: true,
		}),
		of(compute.ExecutionMetrics_TypeID, DecodeMetrics, sampleMetrics),
		of(compute.Progress_TypeID, DecodeProgress, sampleProgress),
		of(base.Metadata_TypeID, DecodeMetadata, sampleMetadata),
		of(base.Error_TypeID, DecodeError, *sampleError),
		of(system.Manifest_TypeID, DecodeManifest, sampleManifest),
		of(system.Configuration_TypeID, DecodeConfiguration, sampleConfiguration),
		of(system.Adoption_TypeID, DecodeAdoption, sampleAdoption),
		of(system.HealthHeartbeat_TypeID, DecodeHeartbeat, sampleHeartbeat),
		of(system.LifecycleReply_TypeID, DecodeReply, Reply{ID: 1, Err: sampleError, Manifest: &sampleManifest}),
		of(system.LifecycleReply_TypeID, DecodeReply, Reply{ID: 1, Err: sampleError, Health: &sampleHeartbeat}),
	}
	for _, b := range []CommandBody{
		Describe{}, sampleConfiguration, Start{}, Health{}, Freeze{}, sampleAdoption, Drain{}, Stop{},
	} {
		list = append(list, of(system.LifecycleCommand_TypeID, DecodeCommand, Command{ID: 1, Timestamp: 2, Timeout: 3, Body: b}))
	}
	for _, b := range []SyscallBody{
		Noop{}, Lease{1 << 40}, Free{sampleRef}, FetchChunk{[32]byte{1, 31: 2}, 3}, StoreChunk{sampleRef, 60},
		SendMessage{"peer", []byte("hello"), 2}, HostCall{"a.b", sampleParams, sampleRef, 5, 6}, Spawn{2}, StopInstance{7},
		LogRecord{system.Level_warn, "careful", []KeyValue{{"k", "v"}}}, sampleProgress,
		Metric{"queue", 1.5, system.MetricKind_gauge}, OpenState{"index", 2, 4096},
	} {
		list = append(list, of(system.Syscall_TypeID, DecodeSyscall, Syscall{CallID: 1, Job: 2, Metadata: sampleMetadata, Body: b}))
	}
	for _, b := range []AnswerBody{
		nil, Granted{sampleRef}, Stored{[32]byte{1, 31: 2}, 3}, Delivery{true, time.Millisecond},
		Called{compute.Status_timeout, sampleRef, 8}, Spawned{9}, StateGrant{sampleRef, 2, true},
	} {
		list = append(list, of(system.Answer_TypeID, DecodeAnswer, Answer{CallID: 1, Err: sampleError, Body: b}))
	}
	return list
}

// blank lists the fields in v that have no value. What may be absent, behind a
// pointer or an interface, does not count.
func blank(v reflect.Value, path string) (list []string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return blank(v.Elem(), path)
		}
		return nil
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				list = append(list, blank(v.Field(i), path+"."+v.Type().Field(i).Name)...)
			}
		}
		return list
	case reflect.Slice:
		for i := range v.Len() {
			if v.Index(i).Kind() != reflect.Uint8 {
				list = append(list, blank(v.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	if v.IsZero() {
		list = append(list, path)
	}
	return list
}

func TestMessagesAreThoseOnFile(t *testing.T) {
	schemas := golden.Load(t, system.Manifest_TypeID, system.RegisterSchema, base.RegisterSchema, compute.RegisterSchema)
	for _, s := range samples() {
		t.Run(s.name(), func(t *testing.T) {
			if b := blank(reflect.ValueOf(s.value), ""); len(b) > 0 {
				t.Errorf("the sample has no %s", strings.Join(b, ", "))
			}
			got, err := s.value.Encode()
			if err != nil {
				t.Fatal(err)
			}
			kept := golden.Compare(t, schemas, s.name(), s.id, got)
			v, err := s.decode(kept)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(v, s.value) {
				t.Errorf("decoded\n%+v\nand not\n%+v", v, s.value)
			}
		})
	}
}

func TestEveryCallButNoopNeedsAGrant(t *testing.T) {
	needed := map[system.Grant]bool{}
	for _, s := range samples() {
		c, ok := s.value.(Syscall)
		if !ok {
			continue
		}
		g, needs := c.Needs()
		if _, noop := c.Body.(Noop); needs == noop {
			t.Errorf("%T: needs a grant: %v", c.Body, needs)
		}
		if needs {
			needed[g] = true
		}
	}
	for g := system.Grant(0); g.String() != ""; g++ {
		if !needed[g] {
			t.Errorf("no call needs %s", g)
		}
	}
}
