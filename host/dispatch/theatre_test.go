package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"inos/host/dispatch/puppet"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

// TestMain makes a block that the engine cannot free the end of the test, since
// that is the one thing it only logs.
func TestMain(m *testing.M) {
	hclog.SetDefault(hclog.New(&hclog.LoggerOptions{Output: stern{}}))
	goleak.VerifyTestMain(m)
}

type stern struct{}

func (stern) Write(b []byte) (int, error) { panic(string(b)) }

// patience is a deadline that only a lost wake-up reaches.
const patience = 30 * time.Second

// theatre is an engine over a segment whose plugins are puppets.
type theatre struct {
	*puppet.Stage
	*testing.T
	engine *Engine
	cast   uint32
}

// actor is a puppet in service.
type actor struct {
	*puppet.Puppet
	inst      *Instance
	condemned chan error // what OnOffence was called with
	theatre   *theatre
	gone      bool
}

func open(t *testing.T, o Options) *theatre { return openWith(t, o, 0) }

func openWith(t *testing.T, o Options, entries uint32) *theatre {
	t.Helper()
	h := &theatre{Stage: puppet.NewStage(t, entries), T: t}
	o.Arena = h.Arena
	h.engine = New(o)
	t.Cleanup(h.engine.Close)
	return h
}

// manifest of a module that takes so many jobs at once.
func manifest(name string, concurrency uint32, caps ...wire.Capability) *wire.Manifest {
	return &wire.Manifest{Name: name, Concurrency: concurrency, Capabilities: caps}
}

// attach puts a puppet into service. Unless it dies before, it does when the test
// ends.
func (h *theatre) attach(m *wire.Manifest) *actor { return h.attachIn(h.Commons(), m) }

func (h *theatre) attachIn(a *arena.Arena, m *wire.Manifest) *actor {
	h.Helper()
	return h.enter(Attachment{Manifest: m, Arena: a})
}

// version puts a puppet into service that runs a given binary.
func (h *theatre) version(digest string, m *wire.Manifest) *actor {
	h.Helper()
	return h.enter(Attachment{Manifest: m, Arena: h.Commons(), Digest: digest})
}

// audition puts one on trial.
func (h *theatre) audition(digest string, m *wire.Manifest) *actor {
	h.Helper()
	return h.enter(Attachment{Manifest: m, Arena: h.Commons(), Digest: digest, Trial: true})
}

func (h *theatre) enter(a Attachment) *actor {
	h.Helper()
	h.cast++
	p := h.Puppet(h.cast, a.Arena)
	act := &actor{Puppet: p, condemned: make(chan error, 8), theatre: h}
	a.ID, a.Link, a.OnOffence = h.cast, p.Link, func(err error) { act.condemned <- err }
	i, err := h.engine.Attach(a)
	if err != nil {
		h.Fatal(err)
	}
	act.inst = i
	h.Cleanup(func() { act.die() })
	return act
}

var errKilled = errors.New("killed by the test")

// die ends the process and its service.
func (a *actor) die() { a.leave(errKilled) }

func (a *actor) leave(cause error) {
	if a.gone {
		return
	}
	a.gone = true
	a.inst.Detach(cause)
	a.Puppet.Close()
}

// serve ends one job well, and returns when the host knows.
func (a *actor) serve() (job uint64) {
	a.theatre.Helper()
	d, _ := a.Submit()
	a.Done(d.Job, compute.Status_success, arena.Ref{})
	a.Sync()
	return d.Job
}

// submit takes a job in that must be taken in.
func (h *theatre) submit(r Request) *Job {
	h.Helper()
	j, err := h.engine.Submit(h.Context(), r)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(j.Close)
	return j
}

// ask submits a job with some bytes as its input.
func (h *theatre) ask(capability string, in []byte) *Job {
	h.Helper()
	return h.submit(Request{Capability: capability, Input: inputOf(in)})
}

func inputOf(b []byte) Input { return Input{Reader: bytes.NewReader(b), Size: int64(len(b))} }

// unsized hides the length of an input.
func unsized(b []byte) Input { return Input{Reader: bytes.NewReader(b), Size: -1} }

func within(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	t.Cleanup(stop)
	return ctx
}

// outcome waits for the end of a job.
func (h *theatre) outcome(j *Job) Outcome {
	h.Helper()
	o, err := j.Wait(within(h.T))
	if err != nil {
		h.Fatalf("job %x has no outcome: %+v", j.ID(), j.Info())
	}
	return o
}

// expect waits for the end of a job, which must be the given one. A failure says
// why, and what it says is the same as what stands in the list of jobs.
func (h *theatre) expect(j *Job, want compute.Status) Outcome {
	h.Helper()
	o := h.outcome(j)
	if o.Status != want {
		h.Fatalf("job ended as %s (%v), not %s", o.Status, o.Err, want)
	}
	if (o.Err == nil) != (want == compute.Status_success) {
		h.Errorf("%s with the error %v", o.Status, o.Err)
	}
	if i, ok := h.engine.Lookup(j.ID()); !ok || i.State != want.String() || i.Err != o.Err {
		h.Errorf("the history says %+v, %v", i, ok)
	}
	return o
}

// collect reads the whole output of a job.
func (h *theatre) collect(j *Job) []byte {
	h.Helper()
	var out []byte
	for {
		p, err := j.Next(within(h.T))
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			h.Fatal(err)
		}
		out = append(out, p.Bytes()...)
		p.Release()
	}
}

// offends waits until the host has taken everything in, and demands the number
// of broken promises that it counted since.
func (a *actor) offends(n int64, what func()) {
	a.theatre.Helper()
	a.Sync()
	before := a.inst.Offences()
	what()
	a.Sync()
	if got := a.inst.Offences() - before; got != n {
		a.theatre.Errorf("%d offences were counted, not %d", got, n)
	}
}

// held returns how many blocks an owner has in the commons.
func (h *theatre) held(o arena.Owner) uint64 {
	for _, s := range h.Commons().Stats().Owners {
		if s.Owner == o {
			return s.Blocks
		}
	}
	return 0
}

// hostHolds demands how many blocks the host has in the commons.
func (h *theatre) hostHolds(want uint64) {
	h.Helper()
	if got := h.held(arena.Host); got != want {
		h.Errorf("the host holds %d blocks, not %d", got, want)
	}
}

// bytesOf returns n bytes that are not all the same.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)
	}
	return b
}

func many(n int, submit func(int) *Job) []*Job {
	list := make([]*Job, n)
	for i := range list {
		list[i] = submit(i)
	}
	return list
}
