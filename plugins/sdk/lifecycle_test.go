package sdk

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

func TestStopRunsAfterTheLastJobAndStillHasTheNode(t *testing.T) {
	var order []string
	begun := make(chan struct{})
	p := runs(Capability{Handle: func(j *Job) error {
		close(begun)
		<-j.Context().Done()
		order = append(order, "job: "+context.Cause(j.Context()).Error())
		return context.Cause(j.Context())
	}})
	var node *Host
	var held *Block
	p.Start = func(_ context.Context, h *Host) error { node = h; return nil }
	p.Stop = func(ctx context.Context) error {
		order = append(order, "stop")
		copy(held.Bytes(), "the memory is mapped") // a fault would end the test
		held.Release()
		b, err := node.Lease(ctx, 5000)
		if err == nil {
			b.Release()
		}
		return err
	}
	h := serve(t, p)
	leased := make(chan error, 1)
	go func() {
		var err error
		held, err = node.Lease(context.Background(), 5000)
		leased <- err
	}()
	h.grant(h.await(system.DescriptorKind_leaseRequest))
	if err := <-leased; err != nil {
		t.Fatal(err)
	}
	job := h.submit(arena.Ref{})
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- h.command(wire.Stop{}) }()
	done, _, failure := h.finish(job) // the host still hears how it ended
	if status(done) != compute.Status_canceled || failure == nil {
		t.Errorf("ended as %s, %v", status(done), failure)
	}
	h.grant(h.await(system.DescriptorKind_leaseRequest))
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, ", "); got != "job: "+errStopping.Error()+", stop" {
		t.Errorf("order: %s", got)
	}
}

func TestStopDoesNotRunBesideJobsThatIgnoreTheirEnd(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	ctx, giveUp := context.WithCancel(context.Background())
	p := runs(Capability{Handle: func(j *Job) error {
		close(begun)
		<-j.Context().Done()
		giveUp() // the host waits no longer
		<-release
		return nil
	}})
	var stops atomic.Int32
	p.Stop = func(context.Context) error { stops.Add(1); return nil }
	h := serve(t, p)
	defer close(release)
	h.submit(arena.Ref{})
	<-begun
	r, err := h.Command(ctx, wire.Command{Body: wire.Stop{}})
	if err != nil || r.Err == nil {
		t.Errorf("stop said %v, %v", r.Err, err)
	}
	if stops.Load() != 0 {
		t.Error("Stop ran while a job did")
	}
}

func TestJobsThatComeDuringStopAreRejected(t *testing.T) {
	stopping, release := make(chan struct{}), make(chan struct{})
	p := runs(Capability{Handle: func(*Job) error { return nil }})
	p.Stop = func(context.Context) error { close(stopping); <-release; return nil }
	h := serve(t, p)
	stopped := make(chan error, 1)
	go func() { stopped <- h.command(wire.Stop{}) }()
	<-stopping
	if done, _, failure := h.finish(h.submit(arena.Ref{})); status(done) != compute.Status_rejected || failure == nil {
		t.Errorf("ended as %s, %v", status(done), failure)
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStartGetsNoMemoryAndSaysSoAtOnce(t *testing.T) {
	p := runs(Capability{Handle: func(*Job) error { return nil }})
	p.Start = func(ctx context.Context, h *Host) error { _, err := h.Lease(ctx, 1); return err }
	h := host(t, p, nil)
	if err := h.command(wire.Start{}); !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "Start has returned") {
		t.Errorf("error %v", err)
	}
	if err := h.command(wire.Start{}); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("a second start: %v", err)
	}
}

func TestPanicOfAHookIsAnErrorAndNotTheEndOfTheProcess(t *testing.T) {
	p := runs(Capability{Handle: func(*Job) error { return nil }})
	p.Health = func(context.Context) error { panic("unwell") }
	h := serve(t, p)
	if health := h.health(t.Context()); health.Status != system.HealthStatus_degraded || !strings.Contains(health.Detail, "unwell") {
		t.Errorf("health is %s, %q", health.Status, health.Detail)
	}
}

func TestHealthIsToldWhileAnotherCommandIsObeyed(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	h := serve(t, runs(Capability{Handle: func(*Job) error { close(begun); <-release; return nil }}))
	job := h.submit(arena.Ref{})
	<-begun
	drained := make(chan error, 1)
	go func() { drained <- h.command(wire.Drain{}) }()
	r, err := h.Command(t.Context(), wire.Command{Body: wire.Health{}})
	if err != nil || r.Health == nil || r.Health.Running != 1 {
		t.Errorf("health %+v, %v", r.Health, err)
	}
	close(release)
	if done, _, failure := h.finish(job); status(done) != compute.Status_success {
		t.Errorf("the job ended %s, %v", status(done), failure)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// kernelOf answers every call with one body.
type kernelOf struct{ body wire.AnswerBody }

func (k kernelOf) Syscall(_ context.Context, c wire.Syscall) (wire.Answer, error) {
	return wire.Answer{CallID: c.CallID, Body: k.body}, nil
}

func TestNoReferenceIsAnEmptyBlock(t *testing.T) {
	for _, c := range []struct {
		body wire.AnswerBody
		call func(h *Host) (*Block, error)
	}{
		{wire.Granted{}, func(h *Host) (*Block, error) { return h.FetchChunk(t.Context(), [32]byte{}) }},
		{wire.Called{}, func(h *Host) (*Block, error) { return h.Call(t.Context(), "x.y", nil, nil) }},
	} {
		h := host(t, runs(Capability{Handle: func(*Job) error { return nil }}), kernelOf{c.body})
		b, err := c.call(h.lifecycle.host)
		if err != nil || len(b.Bytes()) != 0 {
			t.Errorf("%T gave %v, %v", c.body, b, err)
			continue
		}
		b.Release()
	}
}

func TestReleasedBlockIsNotPassedOn(t *testing.T) {
	p := runs(Capability{Handle: func(j *Job) error {
		b, err := j.Host().Lease(j.Context(), 100)
		if err != nil {
			return err
		}
		b.Release()
		if _, err := j.Host().Call(j.Context(), "x.y", nil, b); !errors.Is(err, wire.ErrInvalidArgument) {
			return errors.Join(errors.New("it was passed to Call"), err)
		}
		if _, _, err := j.Host().StoreChunk(j.Context(), b); !errors.Is(err, wire.ErrInvalidArgument) {
			return errors.Join(errors.New("it was passed to StoreChunk"), err)
		}
		if err := j.Give(b); !errors.Is(err, wire.ErrInvalidArgument) {
			return errors.Join(errors.New("it was given as output"), err)
		}
		return nil
	}})
	h := host(t, p, kernelOf{})
	h.obey(wire.Start{})
	if done, _, failure := h.finish(h.submit(arena.Ref{})); status(done) != compute.Status_success {
		t.Errorf("ended as %s: %v", status(done), failure)
	}
}
