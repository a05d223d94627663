package syscalls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

func TestHostCallInOneArenaPassesReferences(t *testing.T) {
	s := open(t)
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run"))
	j := caller.serving(dispatch.Request{Capability: "test.run"})
	in := caller.Put([]byte("question"))
	copied := s.Commons().Stats().CopiedIn
	var out arena.Ref
	a, err := caller.meanwhile(j, wire.HostCall{Capability: "other.run", Input: in}, func() {
		d, head := callee.Submit()
		if d.Ref != in || head.Metadata.ModuleID != "test" || head.Metadata.ParentJob != j.ID() {
			t.Errorf("the callee was given %+v of %+v", d.Ref, head.Metadata)
		}
		out = callee.Put([]byte("answer"))
		callee.Done(d.Job, compute.Status_success, out)
	})
	if got, ok := a.(wire.Called); err != nil || !ok || got.Output != out || got.Status != compute.Status_success {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := s.Commons().Stats().CopiedIn; got != copied {
		t.Errorf("%d bytes were copied", got-copied)
	}
	if !caller.owns(out) || !caller.owns(in) || callee.owns(out) {
		t.Error("the blocks are the wrong ones'")
	}
	if got := caller.Bytes(out); string(got) != "answer" {
		t.Errorf("output %q", got)
	}
}

func TestHostCallBetweenArenasCopiesOnce(t *testing.T) {
	s := open(t)
	vault := s.Private("other", 1<<16)
	caller, callee := s.attach(manifest("test", "test.run")), s.attachIn(vault, manifest("other", "other.run"))
	in := caller.Put([]byte("question?"))
	there, here := vault.Stats().Crossed, s.Commons().Stats().Crossed
	a, err := caller.meanwhile(nil, wire.HostCall{Capability: "other.run", Input: in}, callee.answer([]byte("answer")))
	if err != nil {
		t.Fatal(err)
	}
	out := a.(wire.Called).Output
	if !caller.owns(out) || string(caller.Bytes(out)) != "answer" {
		t.Errorf("output %+v", out)
	}
	if got := vault.Stats().Crossed - there; got != 9 {
		t.Errorf("%d bytes were copied there", got)
	}
	if got := s.Commons().Stats().Crossed - here; got != 6 {
		t.Errorf("%d bytes were copied back", got)
	}
	s.hostHolds(vault, 0)
	s.hostHolds(s.Commons(), 0)
}

func TestHostCallPassesOnTheInputOfItsJob(t *testing.T) {
	s := open(t)
	first, second, third := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run")), s.attach(manifest("third", "third.run"))
	in := first.Put([]byte("passed on"))
	a, err := first.meanwhile(nil, wire.HostCall{Capability: "other.run", Input: in}, func() {
		d, _ := second.Submit()
		j := s.engine.Find(d.Job)
		a, err := second.meanwhile(j, wire.HostCall{Capability: "third.run", Input: d.Ref}, func() {
			d, _ := third.Submit()
			if d.Ref != in {
				t.Errorf("the third was given %+v", d.Ref)
			}
			third.Answer(d.Job, []byte("from far away"))
		})
		if err != nil {
			t.Error(err)
		}
		second.Done(d.Job, compute.Status_success, a.(wire.Called).Output)
	})
	if err != nil || string(first.Bytes(a.(wire.Called).Output)) != "from far away" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, p := range []*plugin{first, second, third} {
		p.blamed(0)
	}
}

func TestHostCallBringsTheFailureBack(t *testing.T) {
	s := open(t)
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run", "other.hard", "other.stream"))
	j := caller.serving(dispatch.Request{Capability: "test.run", Budget: 50})
	theirs := callee.Put([]byte("x"))
	tests := []struct {
		name     string
		job      *dispatch.Job
		call     wire.HostCall
		play     func()
		want     error
		offences int64
	}{
		{"its words", nil, wire.HostCall{Capability: "other.run"}, func() {
			d, _ := callee.Submit()
			msg, err := wire.Result{ID: d.Job, Err: wire.NewError(base.Code_dataLoss, "", "it is lost")}.Encode()
			if err != nil {
				t.Error(err)
			}
			callee.Send(ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: d.Job, Ref: callee.Put(msg)})
			callee.Done(d.Job, compute.Status_failed, arena.Ref{})
		}, wire.ErrDataLoss, 0},
		{"nobody serves it", nil, wire.HostCall{Capability: "nobody.run"}, nil, wire.ErrNotFound, 0},
		{"bad parameters", nil, wire.HostCall{Capability: "other.hard"}, nil, wire.ErrInvalidArgument, 0},
		{"passed deadline", nil, wire.HostCall{Capability: "other.run", Deadline: wire.Monotonic() - 1}, nil, wire.ErrDeadlineExceeded, 0},
		{"deadline", nil, wire.HostCall{Capability: "other.run", Deadline: wire.MonotonicAt(time.Now().Add(20 * time.Millisecond))}, func() {
			d, _ := callee.Submit()
			callee.Expect(system.DescriptorKind_cancel)
			callee.Done(d.Job, compute.Status_timeout, arena.Ref{})
		}, wire.ErrDeadlineExceeded, 0},
		{"more than the budget", j, wire.HostCall{Capability: "other.run", Budget: 1000}, func() {
			d, _ := callee.Submit()
			if d.Args[1] != 50 {
				t.Errorf("the callee may spend %d", d.Args[1])
			}
			callee.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: d.Job, Args: [2]uint64{51}})
		}, wire.ErrBudgetExceeded, 0},
		{"nothing left", j, wire.HostCall{Capability: "other.run"}, nil, wire.ErrBudgetExceeded, 0},
		{"output in several pieces", nil, wire.HostCall{Capability: "other.stream"}, func() {
			d, _ := callee.Submit()
			callee.Emit(d.Job, []byte("one"))
			callee.Emit(d.Job, []byte("two"))
			callee.Expect(system.DescriptorKind_ack)
			callee.Done(d.Job, compute.Status_canceled, arena.Ref{})
		}, wire.ErrResourceExhausted, 0},
		{"another's block", nil, wire.HostCall{Capability: "other.run", Input: theirs}, nil, wire.ErrInvalidArgument, 1},
		{"a block of no arena", nil, wire.HostCall{Capability: "other.run", Input: arena.Ref{Arena: 99}}, nil, wire.ErrInvalidArgument, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.play == nil {
				tt.play = func() {}
			}
			before := caller.inst.Offences()
			if a, err := caller.meanwhile(tt.job, tt.call, tt.play); !errors.Is(err, tt.want) || a != nil {
				t.Errorf("%+v, %v", a, err)
			}
			caller.blamed(before + tt.offences)
			for done := false; !done; { // what the callee was still told
				var d ring.Descriptor
				done, _ = callee.Submissions.Pop(&d)
				done = !done
			}
			callee.Sync()
			callee.blamed(0)
			s.hostHolds(s.Commons(), 0)
		})
	}
}

// A call that nobody waits for any more is cancelled, and leaves nothing.
func TestCallEndsWithItsCaller(t *testing.T) {
	s := open(t)
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run", "chunk.put"))
	for _, body := range []wire.SyscallBody{
		wire.HostCall{Capability: "other.run"}, wire.StoreChunk{Data: caller.Put([]byte("x"))},
	} {
		t.Run(fmt.Sprintf("%T", body), func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				_, err := caller.callWith(ctx, nil, wire.Metadata{}, body)
				ended <- err
			}()
			d, _ := callee.Submit()
			leave()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("error: %v", err)
			}
			callee.Expect(system.DescriptorKind_cancel)
			callee.Answer(d.Job, []byte("for nobody"))
			callee.Sync()
			s.hostHolds(s.Commons(), 0)
		})
	}
}

// Also when the caller leaves after the output came and before the end: then
// there is an output and no outcome.
func TestChunkCallThatIsLeftHalfWayIsAnError(t *testing.T) {
	s := open(t)
	m := manifest("other", "chunk.put")
	m.Capabilities[0].Streams = true // so that output comes before the end
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(m)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := caller.callWith(ctx, nil, wire.Metadata{}, wire.StoreChunk{})
		ended <- err
	}()
	d, _ := callee.Submit()
	callee.Emit(d.Job, make([]byte, 32))
	callee.Sync()
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	callee.Done(d.Job, compute.Status_canceled, arena.Ref{})
	callee.Sync()
	s.hostHolds(s.Commons(), 0)
}

// The user of a job is the user of the jobs it causes, whatever a plugin says,
// and what it does of its own accord it does for nobody.
func TestCallsSpeakForTheUserOfTheirJob(t *testing.T) {
	s := open(t)
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run"))
	j := caller.serving(dispatch.Request{Capability: "test.run", Metadata: wire.Metadata{UserID: "ada", DeviceID: "d"}})
	forged := wire.Metadata{UserID: "root", DeviceID: "x", ModuleID: "x", CreditLedgerID: "x", TraceParent: "trace", TraceState: "state", ParentJob: 1}
	for name, tt := range map[string]struct {
		job  *dispatch.Job
		want wire.Metadata
	}{
		"of a job":          {j, wire.Metadata{UserID: "ada", DeviceID: "d", ModuleID: "test", TraceParent: "trace", TraceState: "state", ParentJob: j.ID()}},
		"of its own accord": {nil, wire.Metadata{ModuleID: "test", TraceParent: "trace", TraceState: "state"}},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error)
			go func() {
				_, err := caller.callWith(t.Context(), tt.job, forged, wire.HostCall{Capability: "other.run"})
				ended <- err
			}()
			d, head := callee.Submit()
			callee.Done(d.Job, compute.Status_success, arena.Ref{})
			if err := <-ended; err != nil || head.Metadata != tt.want {
				t.Errorf("%+v, %v", head.Metadata, err)
			}
		})
	}
}

func TestStoredChunkIsNamedByItsKeeper(t *testing.T) {
	s := open(t)
	caller, keeper := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "chunk.put"))
	data := caller.Put([]byte("a chunk"))
	hash := blake3.Sum256([]byte("a chunk"))
	a, err := caller.meanwhile(nil, wire.StoreChunk{Data: data}, keeper.answer(hash[:]))
	if err != nil || a.(wire.Stored) != (wire.Stored{Hash: hash, Replicas: 1}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, wrong := range [][]byte{nil, hash[:31], append(hash[:], 0)} {
		play := keeper.answer(wrong)
		if wrong == nil {
			play = func() { d, _ := keeper.Submit(); keeper.Done(d.Job, compute.Status_success, arena.Ref{}) }
		}
		if a, err := caller.meanwhile(nil, wire.StoreChunk{Data: data}, play); !errors.Is(err, wire.ErrInternal) || !strings.Contains(err.Error(), fmt.Sprint(len(wrong))) {
			t.Errorf("%d bytes: %+v, %v", len(wrong), a, err)
		}
	}
	if _, err := caller.call(nil, wire.StoreChunk{Data: data, TTLSeconds: 1}); !errors.Is(err, wire.ErrNotSupported) {
		t.Errorf("with a time to live: %v", err)
	}
	s.hostHolds(s.Commons(), 0)
}

func TestFetchedChunkHasItsHash(t *testing.T) {
	chunk := []byte("a chunk")
	hash := blake3.Sum256(chunk)
	for name, private := range map[string]bool{"in one arena": false, "between arenas": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			a := s.Commons()
			if private {
				a = s.Private("test", 1<<17)
			}
			caller, keeper := s.attachIn(a, manifest("test", "test.run")), s.attach(manifest("other", "chunk.get"))
			got, err := caller.meanwhile(nil, wire.FetchChunk{Hash: hash}, func() {
				d, head := keeper.Submit()
				if !bytes.Equal(head.Params.Data("hash"), hash[:]) {
					t.Errorf("asked for %x", head.Params.Data("hash"))
				}
				keeper.Answer(d.Job, chunk)
			})
			if err != nil {
				t.Fatal(err)
			}
			ref := got.(wire.Granted).Ref
			if !caller.owns(ref) || string(caller.Bytes(ref)) != "a chunk" {
				t.Errorf("granted %+v", ref)
			}
			before := a.Stats().Blocks
			if got, err := caller.meanwhile(nil, wire.FetchChunk{Hash: hash}, keeper.answer([]byte("a chunK"))); !errors.Is(err, wire.ErrDataLoss) || got != nil {
				t.Errorf("a wrong one: %+v, %v", got, err)
			}
			keeper.Sync()
			if after := a.Stats().Blocks; private && after != before {
				t.Errorf("%d blocks, %d before", after, before)
			}
			nothing := func() { d, _ := keeper.Submit(); keeper.Done(d.Job, compute.Status_success, arena.Ref{}) }
			if got, err := caller.meanwhile(nil, wire.FetchChunk{Hash: hash}, nothing); !errors.Is(err, wire.ErrDataLoss) {
				t.Errorf("nothing: %+v, %v", got, err)
			}
			if got, err := caller.meanwhile(nil, wire.FetchChunk{Hash: blake3.Sum256(nil)}, nothing); err != nil || !got.(wire.Granted).Ref.IsZero() {
				t.Errorf("the chunk of no bytes: %+v, %v", got, err)
			}
			caller.blamed(0)
			s.hostHolds(a, 0)
			s.hostHolds(s.Commons(), 0)
		})
	}
}

func TestChunksNeedSomebodyWhoKeepsThem(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	for _, body := range []wire.SyscallBody{wire.FetchChunk{}, wire.StoreChunk{}} {
		if _, err := p.call(nil, body); !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "plugins folder") {
			t.Errorf("%T: %v", body, err)
		}
	}
}

// A block that is granted while its plugin dies must not outlive it.
func TestOutputIsNotHandedToTheDead(t *testing.T) {
	s := open(t)
	caller, callee := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run"))
	_, err := caller.meanwhile(nil, wire.HostCall{Capability: "other.run"}, func() {
		d, _ := callee.Submit()
		caller.die()
		callee.Answer(d.Job, []byte("too late"))
	})
	if !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	if _, err := caller.call(nil, wire.Lease{Bytes: 64}); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("lease: %v", err)
	}
	callee.Sync()
	s.hostHolds(s.Commons(), 0)
	for _, o := range s.Commons().Stats().Owners {
		if o.Owner == 1 {
			t.Errorf("the dead own %d blocks", o.Blocks)
		}
	}
}
