package dispatch

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

var (
	once   = wire.Capability{Name: "test.once"} // not idempotent
	stream = wire.Capability{Name: "test.stream", Streams: true, Idempotent: true}
)

func TestIdempotentJobIsTriedThreeTimesThenQuarantined(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	j := h.submit(Request{Capability: "test.echo", Input: inputOf([]byte("poison")), Key: "k"})
	for attempt := range 3 {
		d, head := p.Submit()
		if in := string(p.Bytes(d.Ref)); in != "poison" || d.Job != j.ID() || head.IdempotencyKey != "k" {
			t.Fatalf("attempt %d: job %x with %q", attempt, d.Job, in)
		}
		if i := j.Info(); i.State != "running" || i.Attempts != attempt+1 {
			t.Fatalf("info: %+v", i)
		}
		p.die()
		p = h.attach(manifest("test", 1, echo))
	}
	o := h.expect(j, compute.Status_quarantined)
	if o.Attempts != 3 || !errors.Is(o.Err, wire.ErrQuarantined) || !strings.Contains(o.Err.Error(), errKilled.Error()) {
		t.Errorf("outcome: %+v", o)
	}
	p.Idle()
	h.hostHolds(0)
}

func TestDeathLeavesTheOutcomeUnknown(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3*int(wire.PieceBytes(4<<20)))
	tests := []struct {
		name string
		r    Request
		act  func(*actor, *Job)
	}{
		{"a job that is not idempotent", Request{Capability: "test.once", Input: inputOf([]byte("x"))}, nil},
		{"a stream of which a part was read", Request{Capability: "test.stream", Input: inputOf(long)}, nil},
		{"a stream of which a part was written", Request{Capability: "test.stream", Input: inputOf([]byte("x"))}, func(p *actor, j *Job) {
			p.Emit(j.ID(), []byte("partly"))
			p.Sync()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, once, stream))
			j := h.submit(tt.r)
			p.Submit()
			if tt.act != nil {
				tt.act(p, j)
			}
			p.die()
			if o := h.expect(j, compute.Status_outcomeUnknown); o.Attempts != 1 || !errors.Is(o.Err, wire.ErrOutcomeUnknown) {
				t.Errorf("outcome: %+v", o)
			}
			h.attach(manifest("test", 1, once, stream)).Idle()
		})
	}
}

func TestStreamInOnePieceIsTriedAgain(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j := h.ask("test.stream", []byte("all of it"))
	p.Submit()
	p.die()
	p = h.attach(manifest("test", 1, stream))
	d, _ := p.Submit()
	if d.Has(system.DescriptorFlag_streamIn) || string(p.Bytes(d.Ref)) != "all of it" {
		t.Errorf("the second attempt has flags %b", d.Flags)
	}
	p.Answer(j.ID(), []byte("well"))
	if o := h.expect(j, compute.Status_success); o.Attempts != 2 {
		t.Errorf("%d attempts", o.Attempts)
	}
}

// What a process finished before its death counts, though nobody looked yet.
func TestCompletionsLeftOnTheRingAreHonoured(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 4, once))
	finished, unfinished := h.ask("test.once", nil), h.ask("test.once", nil)
	done := ring.Descriptor{Kind: system.DescriptorKind_done, Job: finished.ID(), Ref: p.Put([]byte("made it"))}
	if err := p.Completions.Push(&done); err != nil { // and died before it rang
		t.Fatal(err)
	}
	p.die()
	h.expect(finished, compute.Status_success)
	if out := h.collect(finished); string(out) != "made it" {
		t.Errorf("output %q", out)
	}
	h.expect(unfinished, compute.Status_outcomeUnknown)
}

func TestCancelledJobStaysCancelledWhenItsProcessDies(t *testing.T) {
	h := open(t, Options{CancelGrace: time.Hour})
	p := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", []byte("x"))
	p.Submit()
	j.Cancel()
	h.hostHolds(1) // the plugin may still read it
	p.die()
	if o := h.expect(j, compute.Status_canceled); o.Attempts != 1 {
		t.Errorf("outcome: %+v", o)
	}
	h.hostHolds(0)
	if j.grace.Stop() {
		t.Error("the watchdog of a dead process still ran")
	}
	h.attach(manifest("test", 1, echo)).Idle()
}

// Jobs that are tried again keep their order, and go before those that have not
// been tried yet.
func TestRetriesKeepTheirOrder(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 8, echo))
	jobs := many(8, func(int) *Job { return h.ask("test.echo", nil) })
	jobs = append(jobs, h.ask("test.echo", nil))
	p.die()
	p = h.attach(manifest("test", 1, echo))
	for n, j := range jobs {
		d, _ := p.Submit()
		if d.Job != j.ID() {
			t.Fatalf("place %d is another's", n)
		}
		p.Done(d.Job, compute.Status_success, arena.Ref{})
	}
	p.Sync()
}

func TestDeathMovesJobsToAnotherInstance(t *testing.T) {
	h := open(t, Options{})
	a := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", []byte("x"))
	b := h.attach(manifest("test", 1, echo))
	a.die()
	d, _ := b.Submit()
	b.Answer(d.Job, []byte("y"))
	h.expect(j, compute.Status_success)
}

func TestDeathGivesItsBlocksBack(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	for range 5 {
		p.Lease(5000)
	}
	p.gone = true
	blocks, bytes := p.inst.Detach(errKilled)
	p.Close()
	if want := leaseClasses[0].count + leaseClasses[1].count + 5; blocks != want || bytes == 0 {
		t.Errorf("%d blocks of %d bytes, not %d blocks", blocks, bytes, want)
	}
	if s := h.Commons().Stats(); s.Blocks != 0 {
		t.Errorf("%d blocks are left", s.Blocks)
	}
}

// What one process said of a failure is not taken for the words of the next.
func TestExplanationOfAnEarlierAttemptIsForgotten(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", nil)
	p.explain(j.ID(), wire.NewError(base.Code_dataLoss, "", "the first"))
	p.die()
	p = h.attach(manifest("test", 1, echo))
	p.Submit()
	p.Done(j.ID(), compute.Status_failed, arena.Ref{})
	if o := h.expect(j, compute.Status_failed); strings.Contains(o.Err.Error(), "the first") {
		t.Errorf("error: %v", o.Err)
	}
}

// explain sends the message about a failure.
func (a *actor) explain(job uint64, e *wire.Error) {
	a.theatre.Helper()
	msg, err := wire.Result{ID: job, Status: compute.Status_failed, Err: e}.Encode()
	if err != nil {
		a.theatre.Fatal(err)
	}
	a.Send(ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: job, Ref: a.Put(msg)})
}

func TestBlocksAreNotHandedToTheDead(t *testing.T) {
	h := open(t, Options{})
	server, caller := h.attach(manifest("test", 1, echo)), h.attach(manifest("other", 1))
	j := h.ask("test.echo", nil)
	server.Submit()
	server.Answer(j.ID(), []byte("too late"))
	p, err := j.Next(within(t))
	if err != nil {
		t.Fatal(err)
	}
	caller.die()
	if ref, err := p.Hand(caller.inst, nil); !errors.Is(err, wire.ErrUnavailable) || !ref.IsZero() {
		t.Errorf("handed: %v, %v", ref, err)
	}
	if _, err := caller.inst.Lease(64); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("leased: %v", err)
	}
	h.hostHolds(0)
}
