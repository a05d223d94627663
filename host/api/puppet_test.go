package api

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/journal"
	"inos/host/node"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
	"inos/shm/segment"
)

// backend is a node without processes: a real engine, a real segment, and one
// plugin that is a goroutine of the test at the far end of a real link.
type backend struct {
	engine  *dispatch.Engine
	segment *segment.Segment
	puppet  *puppet
	plugins []node.PluginStatus
	journal *journal.Journal
	// journalDir is where it keeps what it keeps.
	journalDir string
	log        *events.Log
	*operator
}

func (b *backend) Engine() *dispatch.Engine     { return b.engine }
func (b *backend) Durable() *journal.Journal    { return b.journal }
func (b *backend) Events() *events.Log          { return b.log }
func (b *backend) Plugins() []node.PluginStatus { return b.plugins }
func (b *backend) Segment() node.SegmentStatus  { return node.SegmentStatus{Usage: b.segment.Usage()} }
func (b *backend) Info() node.Info {
	return node.Info{ID: "ab", Version: "test", PID: 7, Segment: 8 << 20, Jobs: b.engine.Stats(), Enforcement: supervisor.Enforcement{Memory: supervisor.GroupV2}}
}

// manifest of the puppet. What its capabilities do stands in handlers.
var manifest = &wire.Manifest{
	Name: "test", Version: wire.Version{Major: 1, Minor: 2, Patch: 3}, Description: "a puppet", Concurrency: 16, Cost: wire.CostModel{Base: 3},
	Needs: []system.Grant{system.Grant_log}, State: []wire.StateSpec{{Name: "s", Schema: 1, MaxBytes: 64}},
	Dependencies: []wire.Dependency{{Module: "other", Max: wire.Version{Major: 9}, Optional: true}},
	Capabilities: []wire.Capability{
		{Name: "test.echo", Streams: true, OutputType: "text/plain", Params: []wire.ParamSpec{
			{Name: "mode", Kind: system.ParamKind_text, Choices: []string{"fast", "slow"}, Default: "fast"},
			{Name: "n", Kind: system.ParamKind_uint},
		}},
		{Name: "test.size", MaxInput: 1 << 20},
		{Name: "test.fail"},
		{Name: "test.part", Streams: true},
		{Name: "test.early", Streams: true},
		{Name: "test.hang", Streams: true},
		{Name: "test.need", Params: []wire.ParamSpec{{Name: "x", Kind: system.ParamKind_int, Required: true}}},
	},
}

// failure is what a puppet's job says when it fails: more than ASCII, more than
// one line.
var failure = wire.NewError(base.Code_dataLoss, "look at the disk", "chunk é 😀 is\nlost")

var handlers = map[string]func(*act) error{
	"test.echo": func(a *act) error {
		for {
			in, err := a.next()
			if in == nil || err != nil {
				return err
			}
			if err := a.emit(in); err != nil {
				return err
			}
			a.consumed()
		}
	},
	"test.size": func(a *act) error {
		for in := range a.in {
			a.result = append(a.result, byte(len(in)), byte(len(in)>>8), byte(len(in)>>16))
		}
		return nil
	},
	"test.fail": func(*act) error { return failure },
	"test.part": func(a *act) error {
		if err := a.emit([]byte("the first part")); err != nil {
			return err
		}
		return failure
	},
	"test.early": func(a *act) error { _, _ = a.next(); return failure },
	"test.hang": func(a *act) error {
		a.puppet.hanging <- a.id
		<-a.canceled
		return errCanceled
	},
	"test.need": func(*act) error { return nil },
}

// act is a job in the hands of the puppet.
type act struct {
	id       uint64
	puppet   *puppet
	in       chan []byte
	room     chan struct{} // pieces of output that may be sent
	canceled chan struct{}
	result   []byte
}

var errCanceled = wire.NewError(base.Code_canceled, "", "the puppet was told to stop")

// next returns the next piece of input, nil after the last.
func (a *act) next() ([]byte, error) {
	select {
	case in := <-a.in:
		return in, nil
	case <-a.canceled:
		return nil, errCanceled
	}
}

// emit sends a piece of output.
func (a *act) emit(b []byte) error {
	select {
	case <-a.room:
	case <-a.canceled:
		return errCanceled
	}
	ref, err := a.puppet.copyOut(b)
	if err != nil {
		return err
	}
	return a.puppet.push(&ring.Descriptor{Kind: system.DescriptorKind_output, Job: a.id, Ref: ref})
}

func (a *act) consumed() {
	_ = a.puppet.push(&ring.Descriptor{Kind: system.DescriptorKind_consumed, Job: a.id, Aux: 1})
}

// puppet is the plugin's end of a link.
type puppet struct {
	at      *segment.Attached
	hanging chan uint64 // jobs that hang
	stop    chan struct{}
	wait    sync.WaitGroup

	send   sync.Mutex
	mu     sync.Mutex
	acts   map[uint64]*act
	leases map[uint32]chan arena.Ref
	next   uint32
}

func (p *puppet) push(d *ring.Descriptor) error {
	p.send.Lock()
	defer p.send.Unlock()
	defer p.at.HostBell.Ring()
	return p.at.Completions.Push(d)
}

// copyOut puts b into a block of the puppet's own.
func (p *puppet) copyOut(b []byte) (arena.Ref, error) {
	answer := make(chan arena.Ref, 1)
	p.mu.Lock()
	p.next++
	n := p.next
	p.leases[n] = answer
	p.mu.Unlock()
	if err := p.push(&ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: n, Ref: arena.Ref{Length: uint64(len(b))}}); err != nil {
		return arena.Ref{}, err
	}
	select {
	case ref := <-answer:
		if ref.IsZero() {
			return ref, errors.New("no room")
		}
		v, err := p.at.Arena.View(ref)
		if err != nil {
			return ref, err
		}
		ref.Length = uint64(copy(v, b))
		return ref, nil
	case <-p.stop:
		return arena.Ref{}, errors.New("stopped")
	}
}

// serve takes descriptors off the rings until the puppet stops.
func (p *puppet) serve() {
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		p.at.PluginBell.Wait(func() bool { return p.at.Submissions.Ready() || p.at.Credits.Ready() }, time.Now().Add(time.Second))
		var d ring.Descriptor
		for ok, _ := p.at.Credits.Pop(&d); ok; ok, _ = p.at.Credits.Pop(&d) {
			p.mu.Lock()
			if c := p.leases[d.Aux]; c != nil {
				c <- d.Ref
				delete(p.leases, d.Aux)
			}
			p.mu.Unlock()
		}
		for ok, _ := p.at.Submissions.Pop(&d); ok; ok, _ = p.at.Submissions.Pop(&d) {
			p.handle(&d)
		}
	}
}

func (p *puppet) handle(d *ring.Descriptor) {
	p.mu.Lock()
	a := p.acts[d.Job]
	p.mu.Unlock()
	switch {
	case d.Kind == system.DescriptorKind_submit:
		a = &act{id: d.Job, puppet: p, in: make(chan []byte, wire.StreamWindow+1), room: make(chan struct{}, 2*wire.StreamWindow), canceled: make(chan struct{})}
		for range wire.StreamWindow {
			a.room <- struct{}{}
		}
		p.mu.Lock()
		p.acts[d.Job] = a
		p.mu.Unlock()
		p.feed(a, d.Ref, !d.Has(system.DescriptorFlag_streamIn))
		capability := manifest.Capabilities[d.Aux].Name // d is used again
		p.wait.Go(func() { p.perform(a, capability) })
	case a == nil:
	case d.Kind == system.DescriptorKind_piece:
		p.feed(a, d.Ref, d.Has(system.DescriptorFlag_last))
	case d.Kind == system.DescriptorKind_ack:
		for range d.Aux {
			a.room <- struct{}{}
		}
	case d.Kind == system.DescriptorKind_cancel:
		close(a.canceled)
	}
}

func (p *puppet) feed(a *act, ref arena.Ref, last bool) {
	if !ref.IsZero() {
		v, err := p.at.Arena.View(ref)
		if err != nil {
			panic(err)
		}
		a.in <- v
	}
	if last {
		close(a.in)
	}
}

func (p *puppet) perform(a *act, capability string) {
	err := handlers[capability](a)
	done := ring.Descriptor{Kind: system.DescriptorKind_done, Job: a.id}
	if err == nil && a.result != nil {
		done.Ref, err = p.copyOut(a.result)
	}
	if err != nil {
		done.Status = uint16(compute.Status_failed)
		e := wire.AsError(err)
		if msg, encErr := (wire.Result{ID: a.id, Status: compute.Status_failed, Err: e}).Encode(); encErr == nil {
			if ref, leaseErr := p.copyOut(msg); leaseErr == nil {
				_ = p.push(&ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: a.id, Ref: ref})
			}
		}
	}
	p.mu.Lock()
	delete(p.acts, a.id)
	p.mu.Unlock()
	_ = p.push(&done)
}

// newBackend starts an engine with the puppet in service. When the test ends,
// nothing of any job may be left in the arena.
func newBackend(t *testing.T) *backend {
	t.Helper()
	s, err := segment.Create(segment.Options{Size: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e := dispatch.New(dispatch.Options{Arena: s.Arena})
	l, err := s.NewLink(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	at := pass(t, s, l)
	p := &puppet{at: at, hanging: make(chan uint64, 16), stop: make(chan struct{}), acts: map[uint64]*act{}, leases: map[uint32]chan arena.Ref{}}
	p.wait.Go(p.serve)
	i, err := e.Attach(dispatch.Attachment{ID: 1, Manifest: manifest, Link: l, Arena: s.Commons(), OnOffence: func(err error) { t.Errorf("the puppet misbehaved: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "journal")
	kept, err := journal.Open(dir, journal.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := kept.Close(ctx); err != nil {
			t.Errorf("journal: %v", err)
		}
		e.Close()
		i.Detach(errors.New("the test has ended"))
		close(p.stop)
		p.at.PluginBell.Interrupt()
		p.wait.Wait()
		if err := at.Close(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		if n := s.Commons().Stats().Blocks; n != 0 {
			t.Errorf("%d blocks are left in the arena", n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	log := events.New(events.Options{Limit: 16})
	return &backend{engine: e, segment: s, puppet: p, journal: kept, journalDir: dir, log: log, operator: &operator{}, plugins: []node.PluginStatus{
		{File: "broken", Name: "broken", Phase: node.Refused, Reason: "not a program", Hint: "build it"},
		{
			File: "test-1", Name: "test", Version: "1.2.3", Digest: "d1", Phase: node.Serving, Manifest: manifest, Capabilities: []string{"test.echo"},
			Instances: []node.InstanceStatus{{ID: 1, PID: 7, Health: "healthy"}},
		},
	}}
}

// pass takes a link to the puppet the way a process gets it.
func pass(t *testing.T, s *segment.Segment, l *segment.Link) *segment.Attached {
	t.Helper()
	ends := socketpair(t)
	if err := s.Pass(ends[0], l, s.Commons()); err != nil {
		t.Fatal(err)
	}
	at, err := segment.Attach(ends[1])
	if err != nil {
		t.Fatal(err)
	}
	return at
}
