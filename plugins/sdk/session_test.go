package sdk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// runs is a plugin of one capability.
func runs(c Capability) *Plugin {
	c.Name = "t.run"
	return &Plugin{Capabilities: []Capability{c}}
}

// leaveOutput asks for more and more output and leaves the last block with the
// job.
func leaveOutput(j *Job) error {
	for _, n := range []int{10, 5000, 20, 9000} {
		if _, err := j.Output(n); err != nil {
			return err
		}
	}
	_, err := j.Write(bytes.Repeat([]byte{1}, 20000))
	return err
}

func TestNoBlockIsLeftBehind(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name    string
		streams bool
		handle  func(j *Job) error
		status  compute.Status
	}{
		{"output replaced and grown", false, leaveOutput, compute.Status_success},
		{"failure with output", false, func(j *Job) error { return errors.Join(leaveOutput(j), boom) }, compute.Status_failed},
		{"panic with output", false, func(j *Job) error { _ = leaveOutput(j); panic("boom") }, compute.Status_panicked},
		{"goroutine ended with output", false, func(j *Job) error { _ = leaveOutput(j); runtime.Goexit(); return nil }, compute.Status_panicked},
		{"failed stream", true, func(j *Job) error { return errors.Join(leaveOutput(j), boom) }, compute.Status_failed},
		{"stream that ends with an empty piece", true, func(j *Job) error { _ = leaveOutput(j); _, err := j.Output(0); return err }, compute.Status_success},
		{"output of nothing", false, func(j *Job) error { _, err := j.Output(0); return err }, compute.Status_success},
		{"given twice", false, func(j *Job) error {
			for range 2 {
				b, err := j.Host().Lease(j.Context(), 6000)
				if err != nil {
					return err
				}
				if err := j.Give(b); err != nil {
					return err
				}
				b.Release() // does nothing any more
			}
			return nil
		}, compute.Status_success},
		{"given, then replaced", false, func(j *Job) error {
			b, err := j.Host().Lease(j.Context(), 6000)
			if err != nil {
				return err
			}
			return errors.Join(j.Give(b), leaveOutput(j))
		}, compute.Status_success},
		{"released twice", false, func(j *Job) error {
			b, err := j.Host().Lease(j.Context(), 6000)
			if err == nil {
				b.Release()
				b.Release()
			}
			return err
		}, compute.Status_success},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := serve(t, runs(Capability{Streams: c.streams, Handle: c.handle}))
			for range 3 {
				done, _, failure := h.finish(h.submit(arena.Ref{}))
				if status(done) != c.status || (failure != nil) != (c.status != compute.Status_success) {
					t.Errorf("ended as %s, %v", status(done), failure)
				}
			}
			h.obey(wire.Drain{})
			if held := uint64(len(h.session.leases.ready)); h.lent() != held {
				t.Errorf("the plugin was lent %d blocks and knows of %d", h.lent(), held)
			}
		})
	}
}

func TestHandlerThatEndsItsGoroutineSaysSo(t *testing.T) {
	h := serve(t, runs(Capability{Handle: func(*Job) error { runtime.Goexit(); return nil }}))
	if _, _, failure := h.finish(h.submit(arena.Ref{})); failure == nil || !strings.Contains(failure.Message, "goroutine") {
		t.Errorf("failure %v", failure)
	}
}

func TestRejectedJobDoesNotHoldUpTheOthers(t *testing.T) {
	h := serve(t, runs(Capability{Handle: func(*Job) error { return nil }}))
	bad, good := h.submission(99, arena.Ref{}), h.submission(0, arena.Ref{})
	h.send(bad, good)
	// No block is granted yet that the rejection could be explained in.
	if done := h.await(system.DescriptorKind_done); done.Job != good.Job {
		t.Fatalf("job %d ended before the good one", done.Job)
	}
	done, _, failure := h.finish(bad.Job)
	if status(done) != compute.Status_rejected || failure == nil || !strings.Contains(failure.Message, "capability 99") {
		t.Errorf("rejected as %s, %v", status(done), failure)
	}
}

func TestHeadServesTheSubmitThatFollowsAndNoOther(t *testing.T) {
	h := serve(t, runs(Capability{
		Params: []ParamSpec{{Name: "name"}},
		Handle: func(j *Job) error { _, err := io.WriteString(j, j.Params().Text("name")); return err },
	}))
	head := func(job uint64) ring.Descriptor {
		msg, err := wire.Job{ID: job, Capability: "t.run", Params: Params{{Name: "name", Value: "Ada"}}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return ring.Descriptor{Kind: system.DescriptorKind_head, Job: job, Ref: h.put(msg)}
	}
	first := h.submission(0, arena.Ref{}, system.DescriptorFlag_hasHead)
	h.send(head(first.Job), first)
	if _, out, _ := h.finish(first.Job); string(out) != "Ada" {
		t.Errorf("its own head gave %q", out)
	}
	without, late := h.submission(0, arena.Ref{}), h.submission(0, arena.Ref{}, system.DescriptorFlag_hasHead)
	h.send(head(late.Job), without, late)
	for range 2 {
		d := h.await(system.DescriptorKind_done, system.DescriptorKind_leaseRequest)
		if d.Kind == system.DescriptorKind_leaseRequest {
			h.grant(d)
			d = h.await(system.DescriptorKind_done)
		}
		if want := map[uint64]compute.Status{without.Job: compute.Status_success, late.Job: compute.Status_rejected}[d.Job]; status(d) != want {
			t.Errorf("job %d ended as %s, want %s", d.Job, status(d), want)
		}
	}
	if h.session.head != nil {
		t.Error("a head is kept that no submit will ask for")
	}
}

func TestEarlyEndOfAStreamLeavesNothingStuck(t *testing.T) {
	var answer atomic.Int32
	h := serve(t, runs(Capability{Streams: true, Handle: func(j *Job) error {
		if answer.Add(1) == 1 {
			_, err := j.Next()
			return err
		}
		n, err := io.Copy(io.Discard, j)
		if err == nil && n != 6*1000 {
			err = errors.New("bytes are missing")
		}
		return err
	}}))
	block := h.put(make([]byte, 1000))
	first := h.submit(block, system.DescriptorFlag_streamIn)
	if done, _, failure := h.finish(first); status(done) != compute.Status_success {
		t.Fatalf("ended as %s, %v", status(done), failure)
	}
	h.await(system.DescriptorKind_consumed)
	for range 3 * wire.StreamWindow { // as many as may be on their way, and more
		h.send(nextPiece(first, block, false))
	}
	second := h.submit(block, system.DescriptorFlag_streamIn)
	for i := range 5 {
		if i >= wire.StreamWindow-1 {
			h.await(system.DescriptorKind_consumed)
		}
		h.send(nextPiece(second, block, false))
	}
	h.send(nextPiece(second, arena.Ref{}, true))
	if done, _, failure := h.finish(second); status(done) != compute.Status_success {
		t.Errorf("ended as %s, %v", status(done), failure)
	}
}

func TestCancelledStreamEndsAndGivesItsBlocksBack(t *testing.T) {
	h := serve(t, runs(Capability{Streams: true, Handle: func(j *Job) error {
		for {
			if _, err := j.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
	}}))
	job := h.submit(arena.Ref{}, system.DescriptorFlag_streamIn)
	for sent := 0; sent < wire.StreamWindow; {
		d := h.await(system.DescriptorKind_leaseRequest, system.DescriptorKind_output)
		if d.Kind == system.DescriptorKind_leaseRequest {
			h.grant(d)
			continue
		}
		sent++
		if err := h.arena.Free(d.Ref, owner); err != nil {
			t.Fatal(err)
		}
	}
	// The window is full and nobody acknowledges: only the cancellation helps.
	h.send(ring.Descriptor{Kind: system.DescriptorKind_cancel, Job: job, Status: uint16(compute.Status_timeout)})
	if done, _, failure := h.finish(job); status(done) != compute.Status_timeout || failure == nil {
		t.Errorf("ended as %s, %v", status(done), failure)
	}
	h.obey(wire.Drain{})
	if held := uint64(len(h.session.leases.ready)); h.lent() != held {
		t.Errorf("the plugin was lent %d blocks and knows of %d", h.lent(), held)
	}
}

func TestDrainWaitsForJobsThatAreStillOnTheRing(t *testing.T) {
	for _, command := range []wire.CommandBody{wire.Drain{}, wire.Freeze{}} {
		var ended atomic.Int32
		h := serve(t, runs(Capability{Handle: func(*Job) error {
			for range 100 {
				runtime.Gosched()
			}
			ended.Add(1)
			return nil
		}}))
		const jobs = 20
		for range jobs { // without the bell: the service loop may not know of them
			d := h.submission(0, arena.Ref{})
			if err := h.link.Submissions.Push(&d); err != nil {
				t.Fatal(err)
			}
		}
		h.obey(command)
		if n := ended.Load(); n != jobs {
			t.Errorf("%T was obeyed when %d of %d jobs had ended", command, n, jobs)
		}
	}
}

func TestLeaseThatComesWithTheCancellationIsNotLost(t *testing.T) {
	l := newLeases()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var pairs sync.WaitGroup
	for range 8 { // more than there are processors, so that they meet everywhere
		pairs.Go(func() {
			numbers, delivered := make(chan uint32), make(chan bool)
			defer close(numbers)
			go func() {
				for n := range numbers {
					delivered <- l.answer(n, grant{block: block{bytes: make([]byte, 1)}})
				}
			}()
			for range 20000 {
				number, c, err := l.request()
				if err != nil {
					t.Error(err)
					return
				}
				numbers <- number
				b, _ := l.await(ctx, number, c)
				if has, gone := b.bytes != nil, <-delivered; has != gone {
					t.Errorf("the answer was delivered: %t; it arrived: %t", gone, has)
					return
				}
			}
		})
	}
	pairs.Wait()
}

func TestEndOfTheSessionFailsThoseWhoWaitForMemory(t *testing.T) {
	h := serve(t, runs(Capability{Handle: func(*Job) error { return nil }}))
	damaged := errors.New("damaged")
	failed := make(chan error, 1)
	go func() {
		_, err := h.lifecycle.host.Lease(context.Background(), 5000)
		failed <- err
	}()
	h.await(system.DescriptorKind_leaseRequest)
	h.session.cancel(damaged) // as the loop does when a ring is broken
	h.session.at.PluginBell.Interrupt()
	if err := <-failed; !errors.Is(err, damaged) {
		t.Errorf("error %v", err)
	}
	if health := h.health(context.Background()); health.Status != system.HealthStatus_zombie || health.Detail != "damaged" {
		t.Errorf("health is %s, %q", health.Status, health.Detail)
	}
	if _, err := h.lifecycle.host.Lease(context.Background(), 5000); !errors.Is(err, damaged) {
		t.Errorf("afterwards: %v", err)
	}
}
