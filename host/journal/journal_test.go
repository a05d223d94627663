package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

func TestResultIsKeptUntilItIsDiscarded(t *testing.T) {
	for name, c := range map[string]struct {
		capability wire.Capability
		size       int
	}{
		"nothing":  {again, 0},
		"small":    {again, 100},
		"limit":    {again, inlineLimit},
		"file":     {again, inlineLimit + 1},
		"chunks":   {once, 2*chunk + 7},
		"streamed": {flow, 3 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			h, dir := newTheatre(t), t.TempDir()
			h.attach(reply, again, once, flow)
			j := h.open(dir)
			in := bytesOf(c.size)
			id := h.submit(j, ask(c.capability, in)).ID
			h.expect(j, id, compute.Status_success)
			h.shut(j)

			j = h.open(dir)
			job := h.expect(j, id, compute.Status_success)
			if got := h.result(j, id); !bytes.Equal(got, turned(in)) || job.OutBytes != uint64(c.size) {
				t.Errorf("the result is %d bytes, and not those that were given", len(got))
			}
			if err := j.Discard(id); err != nil {
				t.Fatal(err)
			}
			if _, err := j.Get(id); !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("a discarded job is still known: %v", err)
			}
			if s := j.Stats(); s.Bytes != 0 || s.Ended != 0 {
				t.Errorf("something is left of it: %+v", s)
			}
			holdsFiles(t, dir, 0)
		})
	}
}

// holdsFiles demands how many files the spool has.
func holdsFiles(t *testing.T, dir string, want int) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "spool"))
	if err != nil || len(list) != want {
		t.Errorf("the spool holds %v, %v; want %d files", list, err, want)
	}
}

func TestRequestReachesThePluginWhole(t *testing.T) {
	h := newTheatre(t)
	seen := make(chan task, 1)
	h.attach(func(a *actor, k task) { seen <- k; reply(a, k) }, again)
	j := h.open(t.TempDir())
	r := ask(again, []byte("in"))
	r.Params, r.Key, r.Budget, r.Priority = wire.Params{{Name: "n", Value: uint64(7)}}, "k", 1000, compute.Priority_high
	r.Metadata.UserID = "ann"
	job := h.submit(j, r)
	k := <-seen
	if k.id != job.ID || k.head.Params.Uint("n") != 7 || k.head.IdempotencyKey != "k" || k.head.Budget != 1000 ||
		k.head.Priority != compute.Priority_high || k.head.Metadata.UserID != "ann" || string(k.input) != "in" {
		t.Errorf("the plugin was given %+v for %+v", k, job)
	}
	h.expect(j, job.ID, compute.Status_success)
}

func TestSameKeyGivesTheSameJob(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(reply, again)
	j := h.open(dir)
	keyed := func(in string) dispatch.Request {
		r := ask(again, []byte(in))
		r.Key = "k"
		return r
	}
	ids := make([]uint64, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			job, err := j.Submit(within(t), keyed("one"))
			if err != nil {
				t.Error(err)
			}
			ids[i] = job.ID
		})
	}
	all.Wait()
	h.expect(j, ids[0], compute.Status_success)
	h.shut(j)
	j = h.open(dir)
	ids = append(ids, h.submit(j, keyed("one")).ID)
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one key gave the jobs %x", ids)
		}
	}
	if _, err := j.Submit(within(t), keyed("two")); !errors.Is(err, wire.ErrAlreadyExists) {
		t.Errorf("another request with the key: %v", err)
	}
	if err := j.Discard(ids[0]); err != nil {
		t.Fatal(err)
	}
	if job := h.submit(j, keyed("two")); job.ID == ids[0] {
		t.Error("the key outlived the job")
	}
}

func TestWhatCannotBecomeAJobIsRefused(t *testing.T) {
	h := newTheatre(t)
	bounded := again
	bounded.Name, bounded.MaxInput = "test.bounded", 10
	h.attach(reply, again, bounded)
	j := h.open(t.TempDir(), func(o *Options) { o.MaxBytes = 1 << 20 })
	broken := ask(again, nil)
	broken.Input = dispatch.Input{Reader: io.MultiReader(bytes.NewReader(bytesOf(chunk+1)), brokenReader{}), Size: -1}
	short := ask(again, []byte("abc"))
	short.Input.Size = 4
	past := ask(again, nil)
	past.Deadline = time.Now().Add(-time.Second)
	params := ask(again, nil)
	params.Params = wire.Params{{Name: "n", Value: "seven"}}
	long := ask(again, nil)
	long.Key = string(make([]byte, 300))
	for name, c := range map[string]struct {
		r    dispatch.Request
		want error
	}{
		"unknown capability": {dispatch.Request{Capability: "test.none"}, wire.ErrNotFound},
		"wrong parameters":   {params, wire.ErrInvalidArgument},
		"too much input":     {ask(bounded, bytesOf(11)), wire.ErrInvalidArgument},
		"input cut short":    {short, wire.ErrCanceled},
		"broken input":       {broken, wire.ErrCanceled},
		"no room":            {ask(again, bytesOf(1<<20+1)), wire.ErrResourceExhausted},
		"deadline passed":    {past, wire.ErrDeadlineExceeded},
		"key too long":       {long, wire.ErrInvalidArgument},
		"block":              {dispatch.Request{Capability: again.Name, Input: dispatch.Input{Ref: arena.Ref{Arena: 1, Slot: 1, Generation: 1, Length: 1}}}, wire.ErrNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			if job, err := j.Submit(within(t), c.r); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v; want %v", job, err, c.want)
			}
		})
	}
	if s := j.Stats(); s.Bytes != 0 || len(j.List(0)) != 0 {
		t.Errorf("something is left: %+v", s)
	}
	holdsFiles(t, filepath.Dir(j.spool.dir), 0)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestJournalIsBounded(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir(), func(o *Options) { o.MaxJobs = 2 })
	id := h.submit(j, ask(again, nil)).ID
	h.submit(j, ask(again, nil))
	if _, err := j.Submit(within(t), ask(again, nil)); !errors.Is(err, wire.ErrResourceExhausted) {
		t.Fatalf("a third job of two: %v", err)
	}
	h.expect(j, id, compute.Status_success)
	if err := j.Discard(id); err != nil {
		t.Fatal(err)
	}
	h.submit(j, ask(again, nil))
}

func TestResultThatDoesNotFitEndsTheJob(t *testing.T) {
	h := newTheatre(t)
	h.attach(func(a *actor, k task) { a.Answer(k.id, bytesOf(2000)) }, again)
	j := h.open(t.TempDir(), func(o *Options) { o.MaxBytes = 1000 })
	job := h.expect(j, h.submit(j, ask(again, bytesOf(10))).ID, compute.Status_failed)
	if !errors.Is(job.Outcome.Err, wire.ErrResourceExhausted) || job.OutBytes != 0 {
		t.Errorf("%v, %+v", job.Outcome.Err, job)
	}
	if err := j.Discard(job.ID); err != nil || j.Stats().Bytes != 0 {
		t.Errorf("%v, %+v", err, j.Stats())
	}
}

func TestJobWaitsForACapabilityThatIsNotServed(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	a := h.attach(func(*actor, task) {}, once, again)
	j := h.open(dir, func(o *Options) { o.Parallel = 1 })
	held := h.submit(j, ask(once, []byte("held"))) // keeps its lane, so that the others are not started
	var ids []uint64
	for range 20 {
		ids = append(ids, h.submit(j, ask(once, []byte("later"))).ID)
	}
	begun(t, j, held.ID)
	h.crash(j)
	a.die()
	h.engine.Retire("test", errKilled)

	j = h.open(dir)
	h.expect(j, held.ID, compute.Status_outcomeUnknown)
	refused(t, j, ids[0])
	h.attach(reply, once)
	for _, id := range ids {
		h.expect(j, id, compute.Status_success)
	}
}

// begun waits until a job is with a plugin.
func begun(t *testing.T, j *Journal, id uint64) {
	until(t, j, id, func(b Job) bool { return b.State == "running" })
}

// refused waits until a job was refused once.
func refused(t *testing.T, j *Journal, id uint64) {
	until(t, j, id, func(b Job) bool { return b.State == "waiting" && b.Outcome.Err != nil })
}

// until polls, since no test should need a hook for what an operator polls too.
func until(t *testing.T, j *Journal, id uint64, true func(Job) bool) {
	t.Helper()
	ctx := within(t)
	for {
		b, err := j.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if true(b) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it never came to that: %+v", b)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestJobThatWasStartedRunsAgainOnlyIfItMay(t *testing.T) {
	for _, c := range []struct {
		capability wire.Capability
		want       compute.Status
	}{{again, compute.Status_success}, {once, compute.Status_outcomeUnknown}} {
		t.Run(c.capability.Name, func(t *testing.T) {
			h, dir := newTheatre(t), t.TempDir()
			a := h.attach(func(*actor, task) {}, again, once)
			j := h.open(dir)
			id := h.submit(j, ask(c.capability, []byte("x"))).ID
			begun(t, j, id)
			h.crash(j)
			a.die()
			starts := 0
			h.attach(func(a *actor, k task) { starts++; reply(a, k) }, again, once)
			j = h.open(dir)
			h.expect(j, id, c.want)
			h.shut(j)
			if (c.want == compute.Status_success) != (starts == 1) {
				t.Errorf("it was started %d times more", starts)
			}
			h.expect(h.open(dir), id, c.want)
		})
	}
}

func TestStreamRunsAgainAfterItsPluginDied(t *testing.T) {
	h := newTheatre(t)
	var first *actor
	hurt := make(chan struct{})
	first = h.attach(func(a *actor, k task) { a.Emit(k.id, []byte("half")); a.Sync(); close(hurt) }, flow)
	j := h.open(t.TempDir())
	in := bytesOf(2 << 20)
	id := h.submit(j, ask(flow, in)).ID
	<-hurt
	first.die()
	h.attach(reply, flow)
	if job := h.expect(j, id, compute.Status_success); job.Runs != 2 {
		t.Errorf("it took %d runs", job.Runs)
	}
	if !bytes.Equal(h.result(j, id), turned(in)) {
		t.Error("the result is not that of one run")
	}
}

func TestCanceledJobEnds(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(func(*actor, task) {}, once)
	j := h.open(dir, func(o *Options) { o.Parallel = 1 })
	runs, waits := h.submit(j, ask(once, nil)), h.submit(j, ask(once, bytesOf(chunk)))
	begun(t, j, runs.ID)
	for _, id := range []uint64{waits.ID, runs.ID} {
		if err := j.Discard(id); err == nil {
			t.Error("a job under way was discarded")
		}
		if err := j.Cancel(within(t), id); err != nil {
			t.Fatal(err)
		}
		h.expect(j, id, compute.Status_canceled)
	}
	if err := j.Cancel(within(t), waits.ID); err != nil {
		t.Errorf("cancelling twice: %v", err)
	}
	h.shut(j)
	j = h.open(dir)
	h.expect(j, runs.ID, compute.Status_canceled)
	h.expect(j, waits.ID, compute.Status_canceled)
	holdsFiles(t, dir, 0)
}

func TestTimePasses(t *testing.T) {
	h := newTheatre(t)
	a := h.attach(func(*actor, task) {}, once, again)
	var mu sync.Mutex
	now := time.Now()
	pass := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	j := h.open(t.TempDir(), func(o *Options) {
		o.Retain, o.Patience, o.Parallel = time.Hour, 24*time.Hour, 1
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	begun(t, j, h.submit(j, ask(once, nil)).ID) // keeps the lane
	hasty := ask(once, nil)
	hasty.Deadline = now.Add(10 * time.Minute)
	due, patient := h.submit(j, hasty), h.submit(j, ask(once, nil))

	pass(9 * time.Minute)
	j.sweep()
	if job, err := j.Get(due.ID); err != nil || job.Over() {
		t.Fatalf("it ended before its deadline: %+v, %v", job, err)
	}
	pass(2 * time.Minute)
	j.sweep()
	h.expect(j, due.ID, compute.Status_timeout)
	pass(2 * time.Hour)
	j.sweep()
	if _, err := j.Get(due.ID); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("its end has not expired: %v", err)
	}
	pass(24 * time.Hour)
	j.sweep()
	h.expect(j, patient.ID, compute.Status_rejected)
	a.die()
}

func TestCloseLetsEndWhatRunsAndKeepsWhatWaits(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	var held []task
	full, free := make(chan struct{}), make(chan struct{})
	a := h.attach(func(a *actor, k task) {
		if held = append(held, k); len(held) < 8 {
			return
		}
		close(full)
		<-free
		for _, k := range held {
			a.Answer(k.id, []byte("y"))
		}
	}, once)
	j := h.open(dir)
	var ids []uint64
	for range 12 { // more than the plugin takes at a time
		ids = append(ids, h.submit(j, ask(once, []byte("x"))).ID)
	}
	<-full
	closed := make(chan error, 1)
	go func() { closed <- j.Close(within(t)) }()
	for !errors.Is(j.enter(), errClosing) {
		j.tasks.Done()
	}
	close(free)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	a.die()
	h.attach(reply, once)
	j = h.open(dir)
	for _, id := range ids {
		h.expect(j, id, compute.Status_success)
	}
	if _, err := j.Wait(within(t), 1); !errors.Is(err, wire.ErrNotFound) {
		t.Error(err)
	}
}

func TestUrgentJobsGoFirst(t *testing.T) {
	h := newTheatre(t)
	var order []compute.Priority
	first, free := make(chan struct{}), make(chan struct{})
	h.attach(func(a *actor, k task) {
		if order = append(order, k.head.Priority); len(order) == 1 {
			close(first)
			<-free
		}
		reply(a, k)
	}, again)
	j := h.open(t.TempDir(), func(o *Options) { o.Parallel = 1 })
	var ids []uint64
	for _, p := range []compute.Priority{compute.Priority_normal, compute.Priority_low, compute.Priority_high, compute.Priority_emergency, compute.Priority_normal} {
		r := ask(again, nil)
		r.Priority, r.Key = p, p.String()+string(rune('0'+len(ids)))
		ids = append(ids, h.submit(j, r).ID)
		if len(ids) == 1 {
			<-first
		}
	}
	close(free)
	for _, id := range ids {
		h.expect(j, id, compute.Status_success)
	}
	h.shut(j)
	want := []compute.Priority{compute.Priority_normal, compute.Priority_emergency, compute.Priority_high, compute.Priority_normal, compute.Priority_low}
	for i := range want {
		if order[i] != want[i] {
			t.Fatalf("they ran as %v, not as %v", order, want)
		}
	}
}

func TestListShowsTheNewestFirst(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir())
	var last uint64
	for range 5 {
		last = h.submit(j, ask(again, nil)).ID
	}
	if l := j.List(2); len(l) != 2 || l[0].ID != last {
		t.Errorf("%+v, and the last is %x", l, last)
	}
}
