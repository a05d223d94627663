package puppet

import (
	"math"
	"os"
	"testing"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
	"inos/shm/ring"
	"inos/shm/segment"
)

// patience is a deadline that only a lost wake-up reaches.
const patience = 30 * time.Second

// Puppet is a plugin process that does what the test says and nothing else. One
// goroutine at a time may use it.
type Puppet struct {
	*segment.Attached
	Link *segment.Link // the host's side

	// Ahead are the leases that were granted unasked and not yet used.
	Ahead []arena.Ref

	t      testing.TB
	number uint32
	memory string // path of the link's memory
	ready  [2]func() bool
}

func newPuppet(t testing.TB, at *segment.Attached, l *segment.Link, memory string) *Puppet {
	return &Puppet{
		Attached: at, Link: l, t: t, memory: memory,
		ready: [2]func() bool{at.Submissions.Ready, at.Credits.Ready},
	}
}

// Close ends both sides of the link. The host must have let go of it.
func (p *Puppet) Close() {
	p.t.Helper()
	if err := p.Attached.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.Link.Close(); err != nil {
		p.t.Error(err)
	}
}

// Send pushes a descriptor and rings the host's bell.
func (p *Puppet) Send(d ring.Descriptor) {
	p.t.Helper()
	if err := p.Completions.Push(&d); err != nil {
		p.t.Fatal(err)
	}
	p.HostBell.Ring()
}

// Next returns the next descriptor of the submission ring, once there is one.
func (p *Puppet) Next() ring.Descriptor {
	p.t.Helper()
	return p.pop(p.Submissions, p.ready[0])
}

func (p *Puppet) pop(c *ring.Consumer, ready func() bool) (d ring.Descriptor) {
	p.t.Helper()
	if !p.PluginBell.Wait(ready, time.Now().Add(patience)) {
		p.t.Fatal("the host sent nothing")
	}
	if ok, err := c.Pop(&d); !ok || err != nil {
		p.t.Fatalf("pop: %v, %v", ok, err)
	}
	return d
}

// Expect returns the next descriptor, which must be of the given kind.
func (p *Puppet) Expect(kind system.DescriptorKind) ring.Descriptor {
	p.t.Helper()
	d := p.Next()
	if d.Kind != kind {
		p.t.Fatalf("the host sent %v for job %x, not %v", d.Kind, d.Job, kind)
	}
	return d
}

// Submit returns the next job, and the message at its head if there is one.
func (p *Puppet) Submit() (d ring.Descriptor, head wire.Job) {
	p.t.Helper()
	d = p.Next()
	if d.Kind == system.DescriptorKind_head {
		var err error
		if head, err = wire.DecodeJob(p.Bytes(d.Ref)); err != nil {
			p.t.Fatal(err)
		}
		d = p.Next()
	}
	if d.Kind != system.DescriptorKind_submit {
		p.t.Fatalf("the host sent %v, not a job", d.Kind)
	}
	return d, head
}

// Idle fails the test if the host has sent something.
func (p *Puppet) Idle() {
	p.t.Helper()
	var d ring.Descriptor
	if ok, err := p.Submissions.Pop(&d); ok || err != nil {
		p.t.Fatalf("the host sent %v for job %x, %v", d.Kind, d.Job, err)
	}
}

// Credit takes in the next descriptor of the credit ring.
func (p *Puppet) Credit() ring.Descriptor {
	p.t.Helper()
	d := p.pop(p.Credits, p.ready[1])
	if d.Kind == system.DescriptorKind_lease && d.Aux == 0 {
		p.Ahead = append(p.Ahead, d.Ref)
	}
	return d
}

// Ask requests a block and returns the answer to just that.
func (p *Puppet) Ask(size uint64) ring.Descriptor {
	p.t.Helper()
	p.number++
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: p.number, Ref: arena.Ref{Length: size}})
	for {
		if d := p.Credit(); d.Aux == p.number {
			return d
		}
	}
}

// Lease returns a block of the puppet's own.
func (p *Puppet) Lease(size uint64) arena.Ref {
	p.t.Helper()
	d := p.Ask(size)
	if d.Kind != system.DescriptorKind_lease {
		p.t.Fatalf("no lease of %d bytes: %v, status %d", size, d.Kind, d.Status)
	}
	d.Ref.Length = size
	return d.Ref
}

// Put returns a block of the puppet's own with b in it.
func (p *Puppet) Put(b []byte) arena.Ref {
	p.t.Helper()
	ref := p.Lease(uint64(len(b)))
	copy(p.Bytes(ref), b)
	return ref
}

// Scribble writes to an area of the link, past everybody who means well.
func (p *Puppet) Scribble(area string, at int64, b []byte) {
	p.t.Helper()
	table, err := layout.Link(uint32(p.Submissions.Entries()))
	if err != nil {
		p.t.Fatal(err)
	}
	a, ok := table.Find(area)
	if !ok {
		p.t.Fatalf("a link has no area %q", area)
	}
	f, err := os.OpenFile(p.memory, os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(a.Offset)+at); err != nil {
		p.t.Fatal(err)
	}
}

// Sync returns when the host has taken in all that was sent before: it asks for a
// block that no arena has.
func (p *Puppet) Sync() {
	p.t.Helper()
	if d := p.Ask(math.MaxUint64); d.Kind != system.DescriptorKind_leaseDenied {
		p.t.Fatalf("the host granted everything: %v", d)
	}
}

// Bytes is a view of a block.
func (p *Puppet) Bytes(ref arena.Ref) []byte {
	p.t.Helper()
	v, err := p.Arena.View(ref)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// Done ends a job.
func (p *Puppet) Done(job uint64, status compute.Status, output arena.Ref) {
	p.t.Helper()
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: job, Status: uint16(status), Ref: output})
}

// Answer ends a job well, with b as its output.
func (p *Puppet) Answer(job uint64, b []byte) {
	p.t.Helper()
	p.Done(job, compute.Status_success, p.Put(b))
}

// Emit sends a piece of output.
func (p *Puppet) Emit(job uint64, b []byte) {
	p.t.Helper()
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_output, Job: job, Ref: p.Put(b)})
}

// Consumed gives n pieces of input back.
func (p *Puppet) Consumed(job uint64, n uint32) {
	p.t.Helper()
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_consumed, Job: job, Aux: n})
}
