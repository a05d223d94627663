package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"inos/host/dispatch"
	"inos/host/dispatch/puppet"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is a deadline that only a lost wake-up reaches.
const patience = 30 * time.Second

// theatre is a real engine whose plugins are puppets.
type theatre struct {
	*puppet.Stage
	testing.TB
	engine *dispatch.Engine
	cast   uint32
}

func newTheatre(t testing.TB) *theatre {
	t.Helper()
	h := &theatre{Stage: puppet.NewStage(t, 0), TB: t}
	h.engine = dispatch.New(dispatch.Options{Arena: h.Arena})
	t.Cleanup(h.engine.Close)
	return h
}

// Capabilities of the module that the puppets are.
var (
	again = wire.Capability{Name: "test.again", Idempotent: true, Params: []wire.ParamSpec{{Name: "n", Kind: system.ParamKind_uint}}}
	once  = wire.Capability{Name: "test.once"}
	flow  = wire.Capability{Name: "test.flow", Idempotent: true, Streams: true}
)

// task is a job in the hands of an actor.
type task struct {
	id         uint64
	capability string
	head       wire.Job
	input      []byte
}

// actor is a puppet that plays by itself.
type actor struct {
	*puppet.Puppet
	inst    *dispatch.Instance
	stop    chan struct{}
	stopped chan struct{}
	gone    bool
}

// attach puts an actor into service that plays every job, unless it dies before
// then, until the test ends.
func (h *theatre) attach(play func(*actor, task), caps ...wire.Capability) *actor {
	h.Helper()
	h.cast++
	a := &actor{Puppet: h.Puppet(h.cast, h.Commons()), stop: make(chan struct{}), stopped: make(chan struct{})}
	m := &wire.Manifest{Name: "test", Concurrency: 8, Capabilities: caps}
	i, err := h.engine.Attach(dispatch.Attachment{ID: h.cast, Manifest: m, Link: a.Link, Arena: h.Commons()})
	if err != nil {
		h.Fatal(err)
	}
	a.inst = i
	go a.perform(caps, play)
	h.Cleanup(a.die)
	return a
}

// perform plays until it is stopped.
func (a *actor) perform(caps []wire.Capability, play func(*actor, task)) {
	defer close(a.stopped)
	tasks := map[uint64]*task{}
	var head wire.Job
	var d ring.Descriptor
	ready := func() bool {
		select {
		case <-a.stop:
			return true
		default:
			return a.Submissions.Ready()
		}
	}
	for {
		a.PluginBell.Wait(ready, time.Now().Add(patience))
		for ok, _ := a.Submissions.Pop(&d); ok; ok, _ = a.Submissions.Pop(&d) {
			switch d.Kind {
			case system.DescriptorKind_head:
				head, _ = wire.DecodeJob(a.Bytes(d.Ref))
			case system.DescriptorKind_submit:
				k := &task{id: d.Job, capability: caps[d.Aux].Name, head: head}
				head = wire.Job{}
				if !d.Ref.IsZero() {
					k.input = bytes.Clone(a.Bytes(d.Ref))
				}
				if d.Has(system.DescriptorFlag_streamIn) {
					a.Consumed(d.Job, 1)
					tasks[d.Job] = k
				} else {
					play(a, *k)
				}
			case system.DescriptorKind_piece:
				k := tasks[d.Job]
				if !d.Ref.IsZero() {
					k.input = append(k.input, a.Bytes(d.Ref)...)
					a.Consumed(d.Job, 1)
				}
				if d.Has(system.DescriptorFlag_last) {
					delete(tasks, d.Job)
					play(a, *k)
				}
			case system.DescriptorKind_cancel:
				delete(tasks, d.Job)
				a.Done(d.Job, compute.Status_canceled, arena.Ref{})
			}
		}
		select {
		case <-a.stop:
			return
		default:
		}
	}
}

var errKilled = errors.New("killed by the test")

// die ends the process and its service.
func (a *actor) die() {
	if a.gone {
		return
	}
	a.gone = true
	close(a.stop)
	a.PluginBell.Interrupt()
	<-a.stopped
	a.inst.Detach(errKilled)
	a.Puppet.Close()
}

// turned is what the actors make of an input.
func turned(in []byte) []byte {
	out := make([]byte, len(in))
	for i, b := range in {
		out[i] = ^b
	}
	return out
}

// reply answers with the input turned, in pieces where the capability streams.
func reply(a *actor, k task) {
	out := turned(k.input)
	if k.capability == flow.Name {
		for len(out) > 100<<10 {
			a.Emit(k.id, out[:100<<10])
			a.Expect(system.DescriptorKind_ack)
			out = out[100<<10:]
		}
	}
	if len(out) == 0 {
		a.Done(k.id, compute.Status_success, arena.Ref{})
		return
	}
	a.Answer(k.id, out)
}

// open opens a journal, which is closed when the test ends.
func (h *theatre) open(dir string, change ...func(*Options)) *Journal {
	h.Helper()
	o := Options{Engine: h.engine}
	for _, c := range change {
		c(&o)
	}
	j, err := Open(dir, o)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { h.shut(j) })
	return j
}

// shut closes a journal whose jobs can end.
func (h *theatre) shut(j *Journal) {
	h.Helper()
	if err := j.Close(within(h.TB)); err != nil {
		h.Error(err)
	}
}

// crash closes a journal without letting anything end.
func (h *theatre) crash(j *Journal) {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := j.Close(ctx); err != nil {
		h.Error(err)
	}
}

func within(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	t.Cleanup(stop)
	return ctx
}

func ask(c wire.Capability, in []byte) dispatch.Request {
	return dispatch.Request{Capability: c.Name, Input: dispatch.Input{Reader: bytes.NewReader(in), Size: int64(len(in))}}
}

func (h *theatre) submit(j *Journal, r dispatch.Request) Job {
	h.Helper()
	job, err := j.Submit(within(h.TB), r)
	if err != nil {
		h.Fatal(err)
	}
	return job
}

// expect waits for the end of a job, which must be the given one.
func (h *theatre) expect(j *Journal, id uint64, want compute.Status) Job {
	h.Helper()
	job, err := j.Wait(within(h.TB), id)
	if err != nil {
		h.Fatal(err)
	}
	if job.Outcome.Status != want || job.State != want.String() || !job.Over() {
		h.Fatalf("job %x ended as %s: %v; want %s", id, job.State, job.Outcome.Err, want)
	}
	if (job.Outcome.Err == nil) != (want == compute.Status_success) {
		h.Errorf("%s with the error %v", want, job.Outcome.Err)
	}
	return job
}

// result reads the whole result of a job.
func (h *theatre) result(j *Journal, id uint64) []byte {
	h.Helper()
	r, _, err := j.Result(id)
	if err != nil {
		h.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		h.Fatal(err)
	}
	return b
}

// bytesOf returns n bytes that are not all the same.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)
	}
	return b
}
