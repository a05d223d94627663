package dispatch

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
	"inos/shm/ring"
)

func releaseOf(ref arena.Ref) ring.Descriptor {
	return ring.Descriptor{Kind: system.DescriptorKind_release, Ref: ref}
}

// untrue are references that a plugin may not pass: each is made from what it was
// given and what others have.
var untrue = []struct {
	name string
	make func(p, neighbour *actor, input arena.Ref) arena.Ref
}{
	{"none", func(*actor, *actor, arena.Ref) arena.Ref { return arena.Ref{Slot: 1, Generation: 1} }},
	{"a slot that was never given", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Slot = 1 << 31; return r }},
	{"slot 0", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Slot = 0; return r }},
	{"a later generation", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Generation++; return r }},
	{"a block given back", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Lease(99); p.Send(releaseOf(r)); return r }},
	{"another arena", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Arena = 2; return r }},
	{"another offset", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Offset += 64; return r }},
	{"an offset out of the arena", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Offset = 1 << 63; return r }},
	{"one byte too long", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Length++; return r }},
	{"endless", func(p, _ *actor, _ arena.Ref) arena.Ref { r := p.Ahead[0]; r.Length = 1<<64 - 1; return r }},
	{"a neighbour's block", func(_, n *actor, _ arena.Ref) arena.Ref { return n.Put([]byte("theirs")) }},
	{"the host's own block", func(_, _ *actor, input arena.Ref) arena.Ref { return input }},
}

func TestUntrueReferencesAreRefusedAndCounted(t *testing.T) {
	for _, kind := range []system.DescriptorKind{
		system.DescriptorKind_done, system.DescriptorKind_output, system.DescriptorKind_resultHead, system.DescriptorKind_release,
	} {
		for _, tt := range untrue {
			if kind == system.DescriptorKind_done && tt.name == "none" {
				continue // a job without output
			}
			t.Run(kind.String()+"/"+tt.name, func(t *testing.T) {
				h := open(t, Options{})
				p, n := h.attach(manifest("test", 1, stream)), h.attach(manifest("neighbour", 1, wire.Capability{Name: "neighbour.run"}))
				p.Sync()
				n.Sync()
				j := h.ask("test.stream", []byte("input"))
				d, _ := p.Submit()
				bad := tt.make(p, n, d.Ref)
				p.Sync()
				before := h.Commons().Stats()
				p.offends(1, func() { p.Send(ring.Descriptor{Kind: kind, Job: j.ID(), Ref: bad}) })
				if kind == system.DescriptorKind_done {
					if o := h.expect(j, compute.Status_failed); !errors.Is(o.Err, wire.ErrInternal) {
						t.Errorf("error: %v", o.Err)
					}
					h.hostHolds(0)
				} else {
					if after := h.Commons().Stats(); after.Blocks != before.Blocks || after.Used != before.Used {
						t.Errorf("%d blocks of %d bytes, before %d of %d", after.Blocks, after.Used, before.Blocks, before.Used)
					}
					if got := p.Bytes(d.Ref); string(got) != "input" {
						t.Errorf("the input is %q", got)
					}
					p.Answer(j.ID(), []byte("fine"))
					h.expect(j, compute.Status_success)
				}
				if n.inst.Offences() != 0 {
					t.Error("the neighbour is blamed")
				}
			})
		}
	}
}

func TestBrokenPromisesAreRefusedAndCounted(t *testing.T) {
	tests := []struct {
		name string
		act  func(p *actor, job uint64)
		want compute.Status // of the job, if that ends it
	}{
		{"done for a job of nobody", func(p *actor, job uint64) { p.Done(job+1, 0, arena.Ref{}) }, 0},
		{"done for a job of nobody, with a block", func(p *actor, job uint64) { p.Done(job+1, 0, p.Put([]byte("x"))) }, 0},
		{"done for a job of nobody, with an untrue block", func(p *actor, job uint64) { p.Done(job+1, 0, arena.Ref{Arena: 1, Slot: 5}) }, 0},
		{"an unknown status", func(p *actor, job uint64) { p.Done(job, 999, p.Put([]byte("x"))) }, compute.Status_failed},
		{"an unknown kind", func(p *actor, job uint64) { p.Send(ring.Descriptor{Kind: 999, Job: job}) }, 0},
		{"no kind", func(p *actor, job uint64) { p.Send(ring.Descriptor{Job: job}) }, 0},
		{"a kind of the host's", func(p *actor, job uint64) { p.Send(ring.Descriptor{Kind: system.DescriptorKind_submit, Job: job}) }, 0},
		{"a piece consumed that was not streamed", func(p *actor, job uint64) { p.Consumed(job, 1) }, 0},
		{"very many pieces consumed", func(p *actor, job uint64) { p.Consumed(job, 1<<32-1) }, 0},
		{"a piece consumed for nobody", func(p *actor, job uint64) { p.Consumed(job+1, 0) }, 0},
		{"output for nobody", func(p *actor, job uint64) { p.Emit(job+1, []byte("x")) }, 0},
		{"output of what does not stream", func(p *actor, job uint64) { p.Emit(job, []byte("x")) }, 0},
		{"a result that is rubbish", func(p *actor, job uint64) {
			p.Send(ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: job, Ref: p.Put(bytesOf(64))})
		}, 0},
		{"a result that is empty", func(p *actor, job uint64) {
			ref := p.Lease(64)
			ref.Length = 0
			p.Send(ring.Descriptor{Kind: system.DescriptorKind_resultHead, Job: job, Ref: ref})
		}, 0},
		{"a result for nobody", func(p *actor, job uint64) { p.explain(job+1, wire.NewError(0, "", "x")) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, echo))
			j := h.ask("test.echo", []byte("input"))
			p.Submit()
			p.offends(1, func() { tt.act(p, j.ID()) })
			if tt.want != compute.Status_success {
				h.expect(j, tt.want)
			} else {
				h.hostHolds(1)
				p.Answer(j.ID(), []byte("fine"))
				h.expect(j, compute.Status_success)
				h.collect(j)
			}
			h.hostHolds(0)
			if s := h.engine.Stats(); s.Offences != 1 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

func TestJobEndsOnce(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Answer(j.ID(), []byte("first"))
	p.offends(1, func() { p.Answer(j.ID(), []byte("second")) })
	if out := h.collect(j); string(out) != "first" {
		t.Errorf("output %q", out)
	}
	if s := h.engine.Stats(); s.Ended["success"] != 1 {
		t.Errorf("stats: %+v", s)
	}
	h.hostHolds(0)
}

// A block is handed over once, whatever is done with it.
func TestBlockIsHandedOverOnce(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j := h.ask("test.stream", nil)
	p.Submit()
	ref := p.Put([]byte("x"))
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_output, Job: j.ID(), Ref: ref})
	p.offends(3, func() {
		p.Send(ring.Descriptor{Kind: system.DescriptorKind_output, Job: j.ID(), Ref: ref})
		p.Send(releaseOf(ref))
		p.Done(j.ID(), compute.Status_success, ref)
	})
	h.expect(j, compute.Status_failed)
	j.Close()
	h.hostHolds(0)
}

func TestOffencesCondemnOnceAtTheLimit(t *testing.T) {
	h := open(t, Options{MaxOffences: 16})
	p := h.attach(manifest("test", 2, echo))
	offend := func(n int) {
		for range n {
			p.Send(ring.Descriptor{Kind: 999})
		}
		p.Sync()
	}
	offend(15)
	select {
	case err := <-p.condemned:
		t.Fatalf("condemned too early: %v", err)
	default:
	}
	if j := h.ask("test.echo", nil); j.Info().State != "running" {
		t.Errorf("below the limit a job is %s", j.Info().State)
	}
	offend(1)
	if err := <-p.condemned; !strings.Contains(err.Error(), "16 broken promises") {
		t.Errorf("condemned: %v", err)
	}
	offend(50)
	if n := p.inst.Offences(); n != 66 {
		t.Errorf("%d offences", n)
	}
	if j := h.ask("test.echo", nil); j.Info().State != "waiting" {
		t.Errorf("beyond it a job is %s", j.Info().State)
	}
	p.die()
	select {
	case err := <-p.condemned:
		t.Errorf("condemned twice: %v", err)
	default:
	}
	h.attach(manifest("test", 2, echo)) // the jobs go on there
}

// smallRing is the least number of descriptors, so that a ring is soon gone round.
const smallRing = 16

func TestScribbledRingCondemnsTheInstanceAlone(t *testing.T) {
	position := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	for _, tt := range []struct {
		name, area string
		at         int64
		bytes      []byte
		jobs       int // that it takes until the host looks there
	}{
		{"completions, a sequence out of order", layout.Completions, 128 + 64*8, []byte{77, 0, 0, 0}, 0},
		{"submissions, taken more than was sent", layout.Submissions, 0, position(1 << 40), smallRing},
		{"submissions, taken less than before", layout.Submissions, 0, position(1<<64 - 1), smallRing},
		{"credits, taken more than was sent", layout.Credits, 0, position(1 << 40), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openWith(t, Options{MaxOffences: 1 << 30}, smallRing)
			p, n := h.attach(manifest("test", 1, once)), h.attach(manifest("neighbour", 1, wire.Capability{Name: "neighbour.run"}))
			for range 8 { // in step with the sequence above
				j := h.ask("test.once", nil)
				p.Submit()
				p.Done(j.ID(), compute.Status_success, arena.Ref{})
				h.outcome(j)
			}
			p.Scribble(tt.area, tt.at, tt.bytes)
			p.HostBell.Ring()
			for range tt.jobs {
				j := h.ask("test.once", nil)
				if j.Info().State == "waiting" {
					break
				}
				p.Done(j.ID(), compute.Status_success, arena.Ref{})
				h.outcome(j)
			}
			if err := <-p.condemned; !errors.Is(err, ring.ErrForged) {
				t.Errorf("condemned: %v", err)
			}
			waits := h.ask("test.once", nil)
			if waits.Info().State != "waiting" {
				t.Error("it was given another job")
			}
			other := h.ask("neighbour.run", []byte("x"))
			n.Submit()
			n.Answer(other.ID(), []byte("y"))
			h.expect(other, compute.Status_success)
			p.die()
			p = h.attach(manifest("test", 2, once))
			d, _ := p.Submit()
			p.Done(d.Job, compute.Status_success, arena.Ref{})
			p.Sync()
		})
	}
}

// A plugin that does not read its submissions fills the ring and is found out,
// instead of holding its jobs for ever.
func TestPluginThatDoesNotReadIsCondemned(t *testing.T) {
	h := openWith(t, Options{}, smallRing)
	p := h.attach(manifest("test", 1, once))
	for range smallRing {
		j := h.ask("test.once", nil)
		p.Done(j.ID(), compute.Status_success, arena.Ref{}) // its numbers are easy to guess
		h.outcome(j)
	}
	j := h.ask("test.once", nil)
	if err := <-p.condemned; !errors.Is(err, ring.ErrFull) {
		t.Errorf("condemned: %v", err)
	}
	p.die()
	p = h.attach(manifest("test", 1, once))
	p.Submit()
	p.Answer(j.ID(), []byte("x"))
	h.expect(j, compute.Status_success) // it had not been started there
}
