package dispatch

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// gate is a Begin that tells when it was come to, and returns when it is told to.
type gate struct {
	calls atomic.Int32
	in    chan struct{}
	leave chan error
}

func newGate() *gate { return &gate{in: make(chan struct{}, 8), leave: make(chan error, 8)} }

func (g *gate) begin() error {
	g.calls.Add(1)
	g.in <- struct{}{}
	return <-g.leave
}

func (g *gate) job(instance uint32) Request {
	return Request{Capability: "test.echo", Input: inputOf([]byte("x")), Begin: g.begin, Instance: instance}
}

func TestJobBeginsBeforeItIsGivenAway(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	g := newGate()
	j := h.submit(g.job(0))
	<-g.in
	p.Idle()
	other := h.ask("test.echo", nil) // finds no room: the place is kept
	if i := j.Info(); i.State != "waiting" || p.inst.Load() != 0 || other.Info().State != "waiting" {
		t.Errorf("info: %+v, %d in flight", i, p.inst.Load())
	}
	g.leave <- nil
	if id := p.serve(); id != j.ID() {
		t.Error("another came first")
	}
	h.expect(j, compute.Status_success)
	p.serve()
}

func TestErrorOfTheBeginningEndsTheJob(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	g := newGate()
	j := h.submit(g.job(0))
	g.leave <- wire.NewError(base.Code_internal, "", "no room on the disk")
	o := h.outcome(j)
	if o.Status == compute.Status_success || o.Err == nil || o.Err.Message != "no room on the disk" {
		t.Errorf("outcome: %+v", o)
	}
	j.Close()
	p.Idle()
	h.hostHolds(0)
	h.ask("test.echo", nil)
	p.serve()
}

// Whatever becomes of the instance meanwhile, a job begins once and starts elsewhere.
func TestJobBeginsOnceWhateverBecomesOfItsInstance(t *testing.T) {
	for name, change := range map[string]func(*actor){
		"it dies":      (*actor).die,
		"it is moved":  func(a *actor) { a.leave(ErrMoved) },
		"it drains":    func(a *actor) { _ = a.inst.Drain(a.theatre.Context()) },
		"it is left":   func(*actor) {},
		"it is broken": func(a *actor) { a.inst.condemn(errKilled) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{})
			m := manifest("test", 1, echo)
			p := h.version("v1", m)
			g := newGate()
			j := h.submit(g.job(0))
			<-g.in
			change(p)
			next := h.audition("v2", m)
			if err := h.engine.Flip(next.inst); err != nil {
				t.Fatal(err)
			}
			next.Idle()
			g.leave <- nil
			next.Submit()
			if !p.gone {
				p.Idle()
			}
			next.die() // and it is tried again
			h.version("v2", m).serve()
			if o := h.expect(j, compute.Status_success); o.Attempts != 2 {
				t.Errorf("%d attempts", o.Attempts)
			}
			if n := g.calls.Load(); n != 1 {
				t.Errorf("begun %d times", n)
			}
		})
	}
}

// A job for one instance alone is not given to another, nor to the dead.
func TestJobThatBeginsForOneInstanceEndsWithIt(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 1, echo)
	p := h.version("v1", m)
	g := newGate()
	j := h.submit(g.job(p.inst.id))
	<-g.in
	other := h.version("v1", m)
	p.die()
	g.leave <- nil
	if o := h.expect(j, compute.Status_rejected); !errors.Is(o.Err, wire.ErrUnavailable) {
		t.Errorf("outcome: %+v", o)
	}
	other.Idle()
	h.hostHolds(0)
}

func TestJobThatEndsWhileItBeginsIsNotStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*theatre, *Job)
		want compute.Status
	}{
		"cancelled": {func(_ *theatre, j *Job) { j.Cancel() }, compute.Status_canceled},
		"too late": {func(_ *theatre, j *Job) {
			j.stop(wire.NewError(base.Code_deadlineExceeded, "", "too late"))
		}, compute.Status_timeout},
		"retired": {func(h *theatre, _ *Job) { h.engine.Retire("test", errKilled) }, compute.Status_rejected},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, echo))
			g := newGate()
			j := h.submit(g.job(0))
			<-g.in
			tt.end(h, j)
			closed := make(chan struct{})
			if tt.want != compute.Status_rejected {
				h.expect(j, tt.want)
				go func() { defer close(closed); j.Close() }()
				select {
				case <-closed:
					t.Error("closed while it begins")
				case <-time.After(5 * time.Millisecond):
				}
			} else {
				close(closed)
			}
			g.leave <- nil
			<-closed
			h.expect(j, tt.want)
			j.Close()
			p.Idle()
			h.hostHolds(0)
		})
	}
}
