package dispatch

import (
	"context"
	"errors"
	"runtime"
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

func TestDeadlineEndsAJobThatRuns(t *testing.T) {
	short := wire.Capability{Name: "test.short", Timeout: 10 * time.Millisecond}
	for _, tt := range []struct {
		name, capability string
		in               time.Duration
	}{
		{"of the request", "test.echo", 10 * time.Millisecond},
		{"of the capability", "test.short", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, echo, short))
			j := h.submit(Request{Capability: tt.capability, Deadline: time.Now().Add(tt.in), Input: inputOf([]byte("x"))})
			d, _ := p.Submit()
			if left := int64(d.Args[0]) - wire.Monotonic(); left > int64(10*time.Millisecond) {
				t.Errorf("the plugin has %v", time.Duration(left))
			}
			if o := h.expect(j, compute.Status_timeout); !errors.Is(o.Err, wire.ErrDeadlineExceeded) || o.Attempts != 1 {
				t.Errorf("outcome: %+v", o)
			}
			if c := p.Expect(system.DescriptorKind_cancel); c.Job != j.ID() || compute.Status(c.Status) != compute.Status_timeout {
				t.Errorf("cancel: %+v", c)
			}
			p.Answer(j.ID(), []byte("too late"))
			p.Sync()
			h.hostHolds(0)
		})
	}
}

func TestDeadlineEndsAJobThatWaits(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	h.ask("test.echo", nil)
	j := h.submit(Request{Capability: "test.echo", Input: inputOf([]byte("x")), Deadline: time.Now().Add(5 * time.Millisecond)})
	if o := h.expect(j, compute.Status_timeout); o.Attempts != 0 {
		t.Errorf("outcome: %+v", o)
	}
	j.Close()
	// The outcome is told first; the queue lets go of the job a moment later.
	for waiting := 1; waiting > 0; _, waiting, _ = j.unit.load() {
		runtime.Gosched()
	}
	p.Submit()
	p.Sync()
	p.Idle()
}

func TestPassedDeadlineRefusesTheJob(t *testing.T) {
	h := open(t, Options{})
	h.attach(manifest("test", 1, echo))
	_, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Deadline: time.Now().Add(-1), Input: Input{Reader: untouched{t}, Size: 1}})
	if !errors.Is(err, wire.ErrDeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}

// A job that gets its outcome while it is on its way into a queue must not stand
// there with its blocks until everyone before it is done.
func TestOutcomeBeforeTheQueueLeavesNothingInIt(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	many(2, func(int) *Job { return h.ask("test.echo", nil) }) // one runs, and one waits before it
	j, err := h.engine.admit(t.Context(), Request{Capability: "test.echo", Input: inputOf([]byte("x")), Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	h.hostHolds(2)
	h.engine.Find(j.ID()).Cancel()
	if err := j.unit.enqueue(j); err != nil {
		t.Fatal(err)
	}
	h.hostHolds(0)
	if _, waiting, _ := j.unit.load(); waiting != 1 {
		t.Errorf("%d jobs wait", waiting)
	}
	h.expect(j, compute.Status_canceled)
	p.Submit()
}

func TestCancelOfAWaitingJobFreesItAtOnce(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	blocker := h.ask("test.echo", nil)
	j := h.submit(Request{Capability: "test.echo", Input: inputOf([]byte("x")), Key: "k"})
	h.hostHolds(2)
	j.Cancel()
	j.Cancel()
	h.hostHolds(0)
	if o := h.expect(j, compute.Status_canceled); !errors.Is(o.Err, wire.ErrCanceled) || o.Attempts != 0 {
		t.Errorf("outcome: %+v", o)
	}
	p.Submit()
	p.Done(blocker.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	p.Idle()
}

func TestCancelOfARunningJobTellsThePlugin(t *testing.T) {
	h := open(t, Options{CancelGrace: time.Hour})
	p := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", []byte("x"))
	p.Submit()
	j.Cancel()
	h.expect(j, compute.Status_canceled)
	if c := p.Expect(system.DescriptorKind_cancel); c.Job != j.ID() || compute.Status(c.Status) != compute.Status_canceled {
		t.Errorf("cancel: %+v", c)
	}
	h.hostHolds(1) // the plugin may read until it is done
	p.Answer(j.ID(), []byte("dropped"))
	p.Sync()
	h.hostHolds(0)
	if _, err := j.Next(t.Context()); !errors.Is(err, wire.ErrCanceled) {
		t.Errorf("next: %v", err)
	}
	if j.grace.Stop() {
		t.Error("the watchdog of a job that has ended still ran")
	}
	if p.inst.Offences() != 0 {
		t.Error("that was an offence")
	}
}

func TestIgnoredCancellationCondemnsTheInstance(t *testing.T) {
	h := open(t, Options{CancelGrace: time.Millisecond})
	p := h.attach(manifest("test", 2, once))
	j := h.ask("test.once", nil)
	p.Submit()
	j.Cancel()
	if err := <-p.condemned; !strings.Contains(err.Error(), "did not stop within") {
		t.Errorf("condemned: %v", err)
	}
	if next := h.ask("test.once", nil); next.Info().State != "waiting" {
		t.Error("a job was given to it still")
	}
}

func TestProgressIsWhatThePluginLastSaid(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", nil)
	p.offends(0, func() {
		p.Send(ring.Descriptor{Kind: system.DescriptorKind_progress, Job: j.ID(), Args: [2]uint64{1, 10}})
		p.Send(ring.Descriptor{Kind: system.DescriptorKind_progress, Job: j.ID(), Args: [2]uint64{7, 10}})
		p.Send(ring.Descriptor{Kind: system.DescriptorKind_progress, Job: j.ID() + 1, Args: [2]uint64{9, 9}}) // of one that ended
	})
	if i := j.Info(); i.Done != 7 || i.Total != 10 {
		t.Errorf("info: %+v", i)
	}
}

func TestKeyIsTakenWhileItsJobIsUnderWay(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	r := Request{Capability: "test.echo", Key: "the key", Input: inputOf([]byte("x"))}
	j := h.submit(r)
	before := h.held(arena.Host)
	r.Input = inputOf([]byte("x"))
	if _, err := h.engine.Submit(t.Context(), r); !errors.Is(err, wire.ErrAlreadyExists) || !strings.Contains(err.Error(), "the key") {
		t.Errorf("error: %v", err)
	}
	h.hostHolds(before)
	p.Submit()
	p.Answer(j.ID(), nil)
	h.expect(j, compute.Status_success)
	r.Input = inputOf([]byte("x"))
	h.submit(r)
}

func TestHistoryForgetsTheOldest(t *testing.T) {
	h := open(t, Options{History: 3})
	p := h.attach(manifest("test", 1, echo))
	jobs := many(5, func(int) *Job {
		j := h.ask("test.echo", nil)
		p.Submit()
		p.Answer(j.ID(), []byte("out"))
		h.outcome(j)
		return j
	})
	live := h.ask("test.echo", nil)
	list := h.engine.Jobs()
	if len(list) != 4 || list[0].ID != live.ID() || list[0].State != "running" || list[3].ID != jobs[2].ID() || list[3].OutBytes != 3 {
		t.Errorf("jobs: %+v", list)
	}
	if _, ok := h.engine.Lookup(jobs[1].ID()); ok || h.engine.Find(jobs[4].ID()) != nil || h.engine.Find(live.ID()) != live {
		t.Error("the wrong ones are remembered")
	}
	if a, b := jobs[4].Info().Took, jobs[4].Info().Took; a != b {
		t.Errorf("a job that has ended takes %v and then %v", a, b)
	}
}

func TestFailureIsExplainedInThePluginsWords(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	said := wire.NewError(base.Code_dataLoss, "look at the disk", "chunk 7 is lost")
	j := h.ask("test.echo", nil)
	p.Submit()
	p.explain(j.ID(), said)
	p.Done(j.ID(), compute.Status_failed, p.Put([]byte("half done")))
	if o := h.expect(j, compute.Status_failed); !errors.Is(o.Err, wire.ErrDataLoss) || o.Err.Error() != said.Error() {
		t.Errorf("error: %v", o.Err)
	}
	if _, err := j.Next(t.Context()); !errors.Is(err, wire.ErrDataLoss) {
		t.Errorf("next: %v", err)
	}
	for s := compute.Status_failed; s <= compute.Status_rejected; s++ {
		j := h.ask("test.echo", nil)
		p.Submit()
		p.Done(j.ID(), s, arena.Ref{})
		if o := h.expect(j, s); !strings.Contains(o.Err.Error(), s.String()) {
			t.Errorf("%s without words: %v", s, o.Err)
		}
	}
	h.hostHolds(0)
}

// Pieces that come at once wake as many as wait.
func TestEveryWaiterForOutputIsWoken(t *testing.T) {
	j := &Job{wake: make(chan struct{}, 1), done: make(chan struct{})}
	got := make(chan error)
	for range 2 {
		ctx := awaited{within(t), make(chan struct{}, 1)}
		go func() {
			_, err := j.Next(ctx)
			got <- err
		}()
		<-ctx.waits
	}
	j.mu.Lock() // two come before anybody looks, and leave one sign
	j.pieces = append(j.pieces, new(Piece), new(Piece))
	j.mu.Unlock()
	j.alert()
	for range 2 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

// awaited is a context that tells when somebody begins to wait for its end.
type awaited struct {
	context.Context
	waits chan struct{}
}

func (a awaited) Done() <-chan struct{} {
	select {
	case a.waits <- struct{}{}:
	default:
	}
	return a.Context.Done()
}

func TestBadParametersRefuseTheJob(t *testing.T) {
	h := open(t, Options{})
	c := echo
	c.Params = []wire.ParamSpec{{Name: "n", Kind: system.ParamKind_uint, Required: true}}
	p := h.attach(manifest("test", 1, c))
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: Input{Reader: untouched{t}, Size: 1}}); !errors.Is(err, wire.ErrInvalidArgument) {
		t.Errorf("error: %v", err)
	}
	j := h.submit(Request{Capability: "test.echo", Params: wire.Params{{Name: "n", Value: uint64(7)}}, Budget: 9, Priority: compute.Priority_high})
	d, head := p.Submit()
	if !d.Has(system.DescriptorFlag_hasHead) || head.ID != j.ID() || head.Params.Uint("n") != 7 || head.Budget != 9 || head.Priority != compute.Priority_high || head.Deadline != 0 {
		t.Errorf("head: %+v", head)
	}
}
