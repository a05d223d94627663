package dispatch

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

var echo = wire.Capability{Name: "test.echo", Idempotent: true}

func TestJobsStartByPriorityThenInOrderOfArrival(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	blocker := h.ask("test.echo", nil)
	type ticket struct {
		rank int
		id   uint64
	}
	var want []ticket
	for range 20 {
		rank := rand.IntN(len(urgency))
		want = append(want, ticket{rank, h.submit(Request{Capability: "test.echo", Priority: urgency[rank]}).ID()})
	}
	slices.SortStableFunc(want, func(a, b ticket) int { return a.rank - b.rank })
	if d, _ := p.Submit(); d.Job != blocker.ID() {
		t.Fatal("the first job was overtaken")
	}
	last := blocker.ID()
	for n, w := range want {
		p.Idle() // one at a time
		p.Done(last, compute.Status_success, arena.Ref{})
		d, _ := p.Submit()
		if last = d.Job; last != w.id {
			t.Fatalf("place %d: job %x, not %x of priority %s", n, last, w.id, urgency[w.rank])
		}
	}
	p.Done(last, compute.Status_success, arena.Ref{})
	p.Sync()
}

func TestJobsGoToTheInstanceWithTheFewest(t *testing.T) {
	h := open(t, Options{})
	a, b := h.attach(manifest("test", 2, echo)), h.attach(manifest("test", 2, echo))
	many(4, func(int) *Job { return h.ask("test.echo", nil) })
	waits := h.ask("test.echo", nil)
	if a.inst.Load() != 2 || b.inst.Load() != 2 || waits.Info().State != "waiting" {
		t.Errorf("%d and %d jobs run, the fifth is %s", a.inst.Load(), b.inst.Load(), waits.Info().State)
	}
	for _, p := range []*actor{a, b} {
		for range 2 {
			d, _ := p.Submit()
			p.Done(d.Job, compute.Status_success, arena.Ref{})
		}
		p.Sync()
	}
	for _, p := range []*actor{a, b} {
		if p.inst.Load() == 1 {
			p.Answer(waits.ID(), []byte("x"))
		}
	}
	h.expect(waits, compute.Status_success)
}

// untouched is an input that must not be read.
type untouched struct{ *testing.T }

func (u untouched) Read([]byte) (int, error) { u.Error("the input was read"); return 0, io.EOF }

func TestFullQueueRefusesAtOnce(t *testing.T) {
	h := open(t, Options{QueueLimit: 2})
	p := h.attach(manifest("test", 1, echo))
	jobs := many(3, func(int) *Job { return h.ask("test.echo", []byte("x")) })
	before := h.Commons().Stats().Blocks
	_, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: Input{Reader: untouched{t}, Size: 1}})
	if !errors.Is(err, wire.ErrResourceExhausted) || !strings.Contains(err.Error(), "2 jobs wait for test") {
		t.Errorf("error: %v", err)
	}
	if s := h.engine.Stats(); s.Submitted != 3 || s.Refused != 1 {
		t.Errorf("stats: %+v", s)
	}
	if after := h.Commons().Stats().Blocks; after != before {
		t.Errorf("%d blocks, %d before", after, before)
	}
	jobs[2].Cancel() // makes room
	h.ask("test.echo", []byte("y"))
	p.Sync()
}

// Two that find the last place free at the same time: the second must not leave
// its input behind.
func TestQueueFilledMeanwhileLeavesNothing(t *testing.T) {
	h := open(t, Options{QueueLimit: 1})
	h.attach(manifest("test", 1, echo))
	h.ask("test.echo", nil)
	late := readerFunc(func(b []byte) (int, error) {
		h.ask("test.echo", nil) // takes the place
		return copy(b, "x"), io.EOF
	})
	_, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: Input{Reader: late, Size: 1}})
	if !errors.Is(err, wire.ErrResourceExhausted) {
		t.Errorf("error: %v", err)
	}
	h.hostHolds(0)
	if s := h.engine.Stats(); s.Submitted != 3 || s.Ended["rejected"] != 1 || s.Refused != 0 {
		t.Errorf("stats: %+v", s)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestJobsWaitForTheNextInstance(t *testing.T) {
	h := open(t, Options{})
	h.attach(manifest("test", 1, echo)).die()
	j := h.ask("test.echo", []byte("hello"))
	p := h.attach(manifest("test", 1, echo))
	d, _ := p.Submit()
	if got := p.Bytes(d.Ref); string(got) != "hello" {
		t.Errorf("input %q", got)
	}
	p.Answer(d.Job, []byte("world"))
	if out := h.collect(j); string(out) != "world" {
		t.Errorf("output %q", out)
	}
	h.expect(j, compute.Status_success)
}

func TestRetireFailsTheJobsThatWait(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	running := h.ask("test.echo", []byte("x"))
	waits := many(3, func(int) *Job { return h.ask("test.echo", []byte("y")) })
	h.engine.Retire("test", errors.New("for good"))
	for _, j := range waits {
		if o := h.expect(j, compute.Status_rejected); !errors.Is(o.Err, wire.ErrUnavailable) || !strings.Contains(o.Err.Error(), "for good") {
			t.Errorf("error: %v", o.Err)
		}
	}
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("error: %v", err)
	}
	p.die()
	if o := h.expect(running, compute.Status_rejected); !strings.Contains(o.Err.Error(), "for good") {
		t.Errorf("error: %v", o.Err)
	}
	h.hostHolds(0)
	// The name is free again.
	p = h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Answer(j.ID(), []byte("again"))
	h.expect(j, compute.Status_success)
}

// A second reason to go does not replace the first in what the jobs are told.
func TestRetireKeepsTheFirstReason(t *testing.T) {
	h := open(t, Options{})
	h.attach(manifest("test", 1, echo))
	u := h.engine.units["test"]
	h.engine.Retire("test", errors.New("the first"))
	u.retire(errors.New("the second"))
	if u.retired == nil || !strings.Contains(u.retired.Error(), "the first") {
		t.Errorf("retired: %v", u.retired)
	}
}

func TestCloseRefusesNewJobsAndFailsThoseThatWait(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	running, waits := h.ask("test.echo", []byte("x")), h.ask("test.echo", []byte("y"))
	h.engine.Close()
	h.expect(waits, compute.Status_rejected)
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo"}); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	if _, err := h.engine.Attach(Attachment{ID: 99, Manifest: manifest("late", 1), Link: p.Link, Arena: h.Commons()}); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	p.Answer(running.ID(), []byte("in time"))
	h.expect(running, compute.Status_success)
}

// Jobs of a capability that the module's processes have given up fail, instead of
// waiting for ever and holding up all that stand behind them.
func TestCapabilityThatIsGoneRefusesItsJobs(t *testing.T) {
	h := open(t, Options{})
	old := h.attach(manifest("test", 1, echo, wire.Capability{Name: "test.old"}))
	blocker := h.ask("test.echo", nil)
	stale, live := h.ask("test.old", []byte("x")), h.ask("test.echo", []byte("y"))
	old.die()
	now := h.attach(manifest("test", 2, echo))
	if o := h.expect(stale, compute.Status_rejected); !errors.Is(o.Err, wire.ErrNotFound) {
		t.Errorf("error: %v", o.Err)
	}
	for _, j := range []*Job{blocker, live} {
		d, _ := now.Submit()
		now.Done(d.Job, compute.Status_success, arena.Ref{})
		h.expect(j, compute.Status_success)
	}
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.old"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("error: %v", err)
	}
	if list := h.engine.Capabilities(); len(list) != 1 || list[0].Name != "test.echo" || list[0].Instances != 1 {
		t.Errorf("capabilities: %+v", list)
	}
}

func TestClaimOfAnothersCapabilityIsRefused(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	if err := h.engine.Claim("test", []wire.Capability{echo}); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := h.engine.Claim("thief", []wire.Capability{{Name: "thief.a"}, echo}); !errors.Is(err, ErrClash) {
		t.Errorf("another's: %v", err)
	}
	if _, err := h.engine.Attach(Attachment{ID: 99, Manifest: manifest("thief", 1, echo), Link: p.Link, Arena: h.Commons()}); !errors.Is(err, ErrClash) {
		t.Errorf("attach: %v", err)
	}
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "thief.a"}); !errors.Is(err, wire.ErrNotFound) || !strings.Contains(err.Error(), "test.echo") {
		t.Errorf("submit: %v", err)
	}
}

func TestDrainWaitsForWhatRunsAndStartsNothing(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	j, waits := h.ask("test.echo", nil), h.ask("test.echo", nil)
	drained := make(chan error, 1)
	ctx := awaited{within(t), make(chan struct{}, 1)}
	go func() { drained <- p.inst.Drain(ctx) }()
	p.Submit()
	select {
	case <-ctx.waits:
	case err := <-drained:
		t.Fatalf("drained while a job runs: %v", err)
	}
	p.Done(j.ID(), compute.Status_success, arena.Ref{})
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if i := waits.Info(); i.State != "waiting" {
		t.Errorf("the next job is %s", i.State)
	}
	if err := p.inst.Drain(within(t)); err != nil { // idle already
		t.Error(err)
	}
}
