package dispatch

import (
	"errors"
	"runtime"
	"testing"

	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// ahead counts the leases that were granted unasked, by class.
func (a *actor) ahead() (n [len(leaseClasses)]int) {
	for _, ref := range a.Ahead {
		for class, c := range leaseClasses {
			if ref.Length == c.bytes {
				n[class]++
			}
		}
	}
	return n
}

func TestLeasesAreGrantedAheadAndReplaced(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	p.Sync()
	want := [...]int{leaseClasses[0].count, leaseClasses[1].count}
	if n := p.ahead(); n != want {
		t.Fatalf("granted ahead: %v", n)
	}
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Done(j.ID(), compute.Status_success, p.Ahead[0])
	p.Sync()
	p.offends(0, func() { // given back unused: replaced with the next job
		p.Send(releaseOf(p.Ahead[len(p.Ahead)-2]))
	})
	j = h.ask("test.echo", nil)
	p.Submit()
	p.Done(j.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	want[0]++
	want[1]++
	if n := p.ahead(); n != want {
		t.Errorf("granted ahead, in all: %v, not %v", n, want)
	}
	if got := h.held(1); got != uint64(leaseClasses[0].count+leaseClasses[1].count) {
		t.Errorf("%d blocks are the plugin's", got)
	}
}

// A block granted ahead that comes back by a call counts like one that comes back
// over the ring.
func TestBlocksGivenBackByCallAreReplaced(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	p.Sync()
	for _, ref := range p.Ahead[:7] {
		if err := p.inst.Free(ref); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.inst.Free(p.Ahead[0]); !errors.Is(err, arena.ErrBadRef) {
		t.Errorf("given back twice: %v", err)
	}
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Done(j.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	if got := h.held(1); got != uint64(leaseClasses[0].count+leaseClasses[1].count) || p.inst.ahead[0] != leaseClasses[0].count {
		t.Errorf("%d blocks are the plugin's, %v by its account", got, p.inst.ahead)
	}
}

func TestLeaseHasTheCapacityOfItsBlock(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	for _, size := range []uint64{0, 1, 64, 65, 2048, 2049, 1 << 20} {
		d := p.Ask(size)
		if d.Kind != system.DescriptorKind_lease || d.Ref.Length < size || d.Ref.Length != h.Commons().Capacity(d.Ref) {
			t.Errorf("%d bytes: %+v", size, d)
		}
		p.offends(0, func() { p.Send(releaseOf(d.Ref)) })
	}
}

func TestLeaseIsDeniedWhenTheArenaIsFull(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, echo))
	given := h.fillUp()
	p.offends(0, func() {
		for _, size := range []uint64{1 << 16, 1 << 40} {
			if d := p.Ask(size); d.Kind != system.DescriptorKind_leaseDenied || compute.Status(d.Status) != compute.Status_outOfMemory {
				t.Errorf("%d bytes: %+v", size, d)
			}
		}
	})
	h.give(given)
	p.Lease(1 << 16)
}

// Without room nothing is granted ahead, and later, with room, all of it is.
func TestLeasesAheadComeWhenThereIsRoom(t *testing.T) {
	h := open(t, Options{})
	given := h.fillUp()
	p := h.attach(manifest("test", 1, echo))
	p.Sync()
	if len(p.Ahead) != 0 {
		t.Errorf("granted from a full arena: %v", p.ahead())
	}
	h.give(given)
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Done(j.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	if want := [...]int{leaseClasses[0].count, leaseClasses[1].count}; p.ahead() != want {
		t.Errorf("granted ahead: %v", p.ahead())
	}
}

// Whoever asks for more blocks at once than the credit ring holds gets them all,
// as fast as it takes them.
func TestManyRequestsAtOnceAreAllAnswered(t *testing.T) {
	h := openWith(t, Options{}, smallRing)
	p := h.attach(manifest("test", 1, echo))
	const n = 14
	for number := range uint32(n) {
		p.Send(ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: 1000 + number, Ref: arena.Ref{Length: 100}})
	}
	for p.Completions.Free() == smallRing-n { // until the host has begun to answer
		runtime.Gosched()
	}
	for answers := 0; answers < n; {
		if d := p.Credit(); d.Aux >= 1000 {
			if d.Aux != uint32(1000+answers) || d.Kind != system.DescriptorKind_lease {
				t.Fatalf("answer %d: %+v", answers, d)
			}
			answers++
		}
	}
	if p.inst.Offences() != 0 {
		t.Errorf("%d offences", p.inst.Offences())
	}
}

func TestRequestsWhoseAnswersNobodyTakesAreAnOffence(t *testing.T) {
	h := openWith(t, Options{MaxOffences: 1}, smallRing)
	p := h.attach(manifest("test", 1, echo))
	p.Send(ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: 1, Ref: arena.Ref{Length: 100}})
	before := h.held(1)
	if err := <-p.condemned; !errors.Is(err, ring.ErrFull) {
		t.Errorf("condemned: %v", err)
	}
	if after := h.held(1); after > before {
		t.Errorf("%d blocks, %d before", after, before)
	}
}
