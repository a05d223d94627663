package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

func TestFlipMovesWaitingJobsAndEndsThoseOfAGoneCapability(t *testing.T) {
	h := open(t, Options{})
	gone := wire.Capability{Name: "test.gone", Idempotent: true}
	old := h.version("v1", manifest("test", 1, echo, gone))
	first := h.ask("test.echo", nil)
	waits := many(3, func(int) *Job { return h.ask("test.echo", nil) })
	lost := h.ask("test.gone", nil) // behind them
	next := h.audition("v2", manifest("test", 1, echo))
	next.Idle()
	if err := h.engine.Flip(next.inst); err != nil {
		t.Fatal(err)
	}
	if o := h.expect(lost, compute.Status_rejected); !errors.Is(o.Err, wire.ErrNotFound) || o.Attempts != 0 {
		t.Errorf("outcome: %+v", o)
	}
	for _, j := range waits {
		if id := next.serve(); id != j.ID() {
			t.Errorf("job %x came, not %x", id, j.ID())
		}
	}
	old.serve() // what it has it may end
	h.expect(first, compute.Status_success)
	old.Idle()
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.gone"}); !errors.Is(err, wire.ErrNotFound) || !strings.Contains(err.Error(), "test did") {
		t.Errorf("error: %v", err)
	}

	if err := h.engine.Flip(old.inst); err != nil { // back
		t.Fatal(err)
	}
	j := h.ask("test.gone", nil)
	old.serve()
	h.expect(j, compute.Status_success)
	next.Idle()
}

func TestFlipThatCannotBeChangesNothing(t *testing.T) {
	h := open(t, Options{})
	old := h.version("v1", manifest("test", 1, echo))
	h.attach(manifest("other", 1, wire.Capability{Name: "other.run"}))
	dead := h.audition("v2", manifest("test", 1, echo))
	dead.die()
	for name, to := range map[string][]*Instance{"nobody": nil, "the dead": {dead.inst}} {
		if err := h.engine.Flip(to...); err == nil {
			t.Errorf("a flip to %s", name)
		}
	}
	j := h.ask("test.echo", nil)
	old.serve()
	h.expect(j, compute.Status_success)
	trial := h.audition("v2", manifest("test", 1, echo))
	h.engine.Retire("test", errors.New("given up"))
	if err := h.engine.Flip(trial.inst); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("a flip of a retired module: %v", err)
	}
	if len(h.engine.Capabilities()) != 1 {
		t.Errorf("served: %+v", h.engine.Capabilities())
	}
}

// What a caller was promised of a job that waits must hold of the version that runs
// it; if it cannot, the job ends with a reason.
func TestJobsThatWaitAreCheckedForTheNewVersion(t *testing.T) {
	param := func(name, standard string) wire.ParamSpec {
		return wire.ParamSpec{Name: name, Kind: system.ParamKind_text, Default: standard}
	}
	with := func(c wire.Capability, p ...wire.ParamSpec) wire.Capability { c.Params = p; return c }
	short := stream
	short.MaxInput = 1
	tests := []struct {
		name     string
		old, new wire.Capability
		in       int
		want     compute.Status
	}{
		{"the same", with(echo, param("a", "1")), with(echo, param("a", "1")), 1, compute.Status_success},
		{"another default for what is decided", with(echo, param("a", "1")), with(echo, param("a", "2")), 1, compute.Status_success},
		{"one parameter more", with(echo, param("a", "1")), with(echo, param("a", "2"), param("b", "3")), 1, compute.Status_success},
		{"the first parameter", echo, with(echo, param("b", "3")), 1, compute.Status_success},
		{"one parameter less", with(echo, param("a", "1")), echo, 1, compute.Status_invalidParams},
		{"a stream that is none any more", stream, wire.Capability{Name: "test.stream"}, 3 * piece, compute.Status_rejected},
		{"a stream of one piece", stream, wire.Capability{Name: "test.stream"}, 1, compute.Status_success},
		{"a smaller input", stream, short, 2, compute.Status_invalidParams},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			old := h.version("v1", manifest("test", 1, tt.old))
			if err := old.inst.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			j := h.ask(tt.old.Name, bytesOf(tt.in))
			next := h.audition("v2", manifest("test", 1, tt.new))
			if err := h.engine.Flip(next.inst); err != nil {
				t.Fatal(err)
			}
			if tt.want == compute.Status_success {
				d, head := next.Submit()
				if len(head.Params) != len(tt.new.Params) {
					t.Errorf("parameters: %+v", head.Params)
				}
				next.Done(d.Job, compute.Status_success, arena.Ref{})
			}
			h.expect(j, tt.want)
			next.Sync()
			next.Idle()
			h.hostHolds(0)
		})
	}
}

// A job that was started as one that may run twice is not started by a version that
// says it must not.
func TestRetryOnAVersionThatMustNotRunTwiceEndsAsUnknown(t *testing.T) {
	h := open(t, Options{})
	old := h.version("v1", manifest("test", 1, echo))
	j := h.ask("test.echo", nil)
	old.Submit()
	next := h.audition("v2", manifest("test", 1, wire.Capability{Name: "test.echo"}))
	if err := h.engine.Flip(next.inst); err != nil {
		t.Fatal(err)
	}
	old.die()
	h.expect(j, compute.Status_outcomeUnknown)
	next.Idle()
}

func TestTrialGetsItsOwnJobsAlone(t *testing.T) {
	h := open(t, Options{})
	old := h.version("v1", manifest("test", 1, echo))
	extra := wire.Capability{Name: "test.extra"}
	trial := h.audition("v2", manifest("test", 1, echo, extra))
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.extra"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("served before the flip: %v", err)
	}
	many(2, func(int) *Job { return h.ask("test.echo", nil) }) // one waits
	trial.Idle()
	for _, c := range []string{"test.echo", "test.extra"} {
		j := h.submit(Request{Capability: c, Instance: trial.inst.id})
		trial.serve()
		h.expect(j, compute.Status_success)
	}
	trial.Idle()
	if got := trial.inst.Tally(); got != (Tally{Succeeded: 2}) {
		t.Errorf("tally: %+v", got)
	}
	if err := trial.inst.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	trial.inst.Resume() // to its trial
	old.serve()
	old.serve()
	trial.Idle()
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Instance: 99}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("for nobody: %v", err)
	}
	j := h.submit(Request{Capability: "test.echo", Instance: trial.inst.id})
	waits := h.submit(Request{Capability: "test.echo", Instance: trial.inst.id})
	trial.Submit()
	trial.die()
	h.expect(j, compute.Status_outcomeUnknown)
	h.expect(waits, compute.Status_rejected)
	old.Idle()
}

// Of n jobs that it can serve a canary gets floor(n percent / 100) while it has room,
// and none of others.
func TestCanaryGetsItsShareByCounting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(t, Options{})
		changed := wire.Capability{Name: "test.changed"}
		old := h.version("v1", manifest("test", 2, echo, changed))
		changed.MaxInput = 1 // described otherwise
		trial := h.audition("v2", manifest("test", 2, echo, changed))
		percent := rapid.IntRange(0, 100).Draw(rt, "percent")
		trial.inst.Canary(percent)
		n, share := 0, 0
		for _, other := range rapid.SliceOfN(rapid.Bool(), 1, 60).Draw(rt, "others") {
			name := "test.echo"
			if other {
				name = "test.changed"
			} else {
				n++
			}
			j := h.ask(name, nil)
			defer j.Close()
			inst := j.Info().Instance
			for _, a := range []*actor{old, trial} {
				if a.inst.id == inst {
					a.serve()
				}
			}
			if inst == trial.inst.id {
				share++
				if other {
					rt.Fatal("a job of a capability that differs")
				}
			}
			if share != n*percent/100 {
				rt.Fatalf("%d of %d at %d percent", share, n, percent)
			}
		}
		old.die()
		trial.die()
	})
}

// A job that waits is counted once, however often the queue is looked through.
func TestWaitingJobsDoNotAddToTheCanarysShare(t *testing.T) {
	h := open(t, Options{})
	old := h.version("v1", manifest("test", 1, echo))
	trial := h.audition("v2", manifest("test", 1, echo))
	trial.inst.Canary(10)
	many(9, func(int) *Job { return h.ask("test.echo", nil) })
	for range 8 {
		old.serve()
	}
	trial.Idle()
	tenth := h.ask("test.echo", nil)
	trial.serve()
	h.expect(tenth, compute.Status_success)
	trial.inst.Canary(100)
	h.ask("test.echo", nil)
	trial.Submit()
	trial.inst.Canary(0)
	old.serve()
	h.ask("test.echo", nil)
	old.serve()
}

func TestDrainThenResume(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 2, echo))
	runs := h.ask("test.echo", nil)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := p.inst.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drained with a job in flight: %v", err)
	}
	waits := h.ask("test.echo", nil)
	own := h.submit(Request{Capability: "test.echo", Instance: p.inst.id})
	p.serve()
	h.expect(runs, compute.Status_success)
	if err := p.inst.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Idle()
	p.inst.Resume()
	p.serve()
	p.serve()
	h.expect(waits, compute.Status_success)
	h.expect(own, compute.Status_success)
}

// Jobs of a process that was ended although it was well go elsewhere, and nothing is
// held against them; those that must not run twice end as unknown.
func TestMovedJobsAreNotBlamed(t *testing.T) {
	h := open(t, Options{})
	caps := []wire.Capability{echo, once}
	p := h.version("v1", manifest("test", 2, caps...))
	j := h.ask("test.echo", nil)
	fixed := h.ask("test.once", nil)
	if movable, other := p.inst.Movable(); movable != 1 || other != 1 {
		t.Errorf("%d movable, %d not", movable, other)
	}
	p.leave(fmt.Errorf("%w: replaced", ErrMoved))
	h.expect(fixed, compute.Status_outcomeUnknown)
	for range 5 {
		p = h.version("v1", manifest("test", 1, echo))
		p.Submit()
		p.leave(ErrMoved)
	}
	p = h.version("v1", manifest("test", 1, echo))
	p.serve()
	if o := h.expect(j, compute.Status_success); o.Attempts != 1 {
		t.Errorf("%d attempts", o.Attempts)
	}
	if q := h.engine.Quarantined(); len(q) != 0 {
		t.Errorf("blamed: %+v", q)
	}
}

func TestCapabilityOfARetiredModuleSaysWhy(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	p.die()
	h.engine.Retire("test", errors.New("it dies too often"))
	_, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo"})
	if !errors.Is(err, wire.ErrNotFound) || !strings.Contains(err.Error(), "it dies too often") {
		t.Errorf("error: %v", err)
	}
	p = h.attach(manifest("test", 1, echo))
	h.ask("test.echo", nil)
	p.serve()
}
