package dispatch

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"inos/host/dispatch/puppet"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// player is a puppet that acts by itself.
type player struct {
	*puppet.Puppet
	world  *world
	troupe *troupe
	rng    *rand.Rand
	inst   *Instance
	parts  map[uint64]*part
	end    atomic.Bool
	calls  sync.WaitGroup
	relays chan relayed
	past   []arena.Ref // what it once had
}

// part is a job in the hands of a player.
type part struct {
	id   uint64
	name string
	in   []arena.Ref // not read yet
	streamed,
	last bool
	read   []byte
	window int
	call   bool // another job works on it
	stuck  bool // never ends by itself
	cancel bool
}

// relayed is what became of a call on behalf of a part.
type relayed struct {
	id  uint64
	ref arena.Ref
	err error
}

func newPlayer(w *world, m *troupe, p *puppet.Puppet, rng *rand.Rand) *player {
	return &player{Puppet: p, world: w, troupe: m, rng: rng, parts: make(map[uint64]*part), relays: make(chan relayed, 64)}
}

// perform acts until the process dies, is condemned, or the world closes.
func (a *player) perform(i *Instance) {
	a.inst = i
	ready := func() bool { return a.Submissions.Ready() || a.Credits.Ready() }
	for !a.end.Load() {
		select {
		case <-a.world.closing:
			return
		default:
		}
		a.PluginBell.Wait(ready, time.Now().Add(time.Millisecond))
		if !a.listen() {
			return
		}
		for _, p := range a.parts {
			if a.rng.IntN(100) == 0 {
				return // dies in the middle of it
			}
			if a.troupe.hostile && a.rng.IntN(3) == 0 {
				a.misbehave(p.id)
			}
			a.act(p)
		}
	}
}

// listen takes in what the host and its own calls say.
func (a *player) listen() bool {
	var d ring.Descriptor
	for {
		ok, err := a.Credits.Pop(&d)
		if err != nil {
			return false
		}
		if !ok {
			break
		}
		if d.Kind == system.DescriptorKind_lease && d.Ref.Length >= 8 {
			a.Ahead = append(a.Ahead, d.Ref)
		}
	}
	for {
		ok, err := a.Submissions.Pop(&d)
		if err != nil {
			return false
		}
		if !ok {
			break
		}
		a.hear(&d)
	}
	for {
		select {
		case r := <-a.relays:
			p := a.parts[r.id]
			switch {
			case p == nil:
				a.send(ring.Descriptor{Kind: system.DescriptorKind_release, Ref: r.ref})
			case r.err != nil || r.ref.IsZero():
				a.finish(p, compute.Status_failed, arena.Ref{})
			default:
				a.finish(p, compute.Status_success, r.ref)
			}
		default:
			return true
		}
	}
}

func (a *player) hear(d *ring.Descriptor) {
	p := a.parts[d.Job]
	switch {
	case d.Kind == system.DescriptorKind_submit:
		p = &part{
			id: d.Job, name: a.inst.m.Capabilities[d.Aux].Name, window: wire.StreamWindow,
			streamed: d.Has(system.DescriptorFlag_streamIn), last: !d.Has(system.DescriptorFlag_streamIn), stuck: a.rng.IntN(30) == 0,
		}
		a.parts[d.Job] = p
		if !d.Ref.IsZero() {
			p.in = append(p.in, d.Ref)
		}
	case p == nil: // of a job that has ended
	case d.Kind == system.DescriptorKind_piece:
		if !d.Ref.IsZero() {
			p.in = append(p.in, d.Ref)
		}
		p.last = d.Has(system.DescriptorFlag_last)
	case d.Kind == system.DescriptorKind_ack:
		p.window += int(d.Aux)
	case d.Kind == system.DescriptorKind_cancel:
		p.cancel = true
	}
}

// act takes one step of a job.
func (a *player) act(p *part) {
	switch {
	case p.call:
	case p.cancel:
		a.finish(p, compute.Status_canceled, arena.Ref{})
	case p.stuck:
	case p.name == a.troupe.name+".relay":
		a.relay(p)
	case len(p.in) > 0:
		p.read = append(p.read, a.Bytes(p.in[0])...)
		p.in = p.in[1:]
		if p.streamed {
			a.send(ring.Descriptor{Kind: system.DescriptorKind_consumed, Job: p.id, Aux: 1})
		}
		if p.name == a.troupe.name+".stream" && p.window > 0 && a.rng.IntN(2) == 0 {
			if ref, ok := a.write(sum(p.read)); ok {
				p.window--
				a.send(ring.Descriptor{Kind: system.DescriptorKind_output, Job: p.id, Ref: ref})
			}
		}
	case p.last:
		if ref, ok := a.write(sum(p.read)); ok {
			a.finish(p, compute.Status_success, ref)
		}
	}
}

// relay has another module do the job, on the very input.
func (a *player) relay(p *part) {
	p.call = true
	var in Input
	if len(p.in) > 0 {
		in = Input{Ref: p.in[0], Owner: arena.Owner(a.inst.id)}
	}
	to := []string{"near.sum", "far.sum"}[a.rng.IntN(2)]
	a.calls.Go(func() {
		r := relayed{id: p.id}
		r.ref, r.err = a.ask(p.id, to, in)
		select {
		case a.relays <- r:
		default: // there are never so many
			panic("lost")
		}
	})
}

func (a *player) ask(id uint64, to string, in Input) (arena.Ref, error) {
	parent := a.inst.Job(id)
	if parent == nil {
		return arena.Ref{}, errKilled
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	j, err := a.world.engine.Submit(ctx, Request{Capability: to, Parent: parent, Input: in})
	if err != nil {
		return arena.Ref{}, err
	}
	defer j.Close()
	piece, err := j.Next(ctx)
	if err != nil {
		return arena.Ref{}, err
	}
	return piece.Hand(a.inst, nil)
}

// write puts b into a block granted ahead, or asks for one and says to come back.
func (a *player) write(b []byte) (arena.Ref, bool) {
	if len(a.Ahead) == 0 {
		a.send(ring.Descriptor{Kind: system.DescriptorKind_leaseRequest, Aux: 1, Ref: arena.Ref{Length: 8}})
		return arena.Ref{}, false
	}
	ref := a.Ahead[len(a.Ahead)-1]
	a.Ahead = a.Ahead[:len(a.Ahead)-1]
	ref.Length = uint64(copy(a.Bytes(ref), b))
	a.past = append(a.past, ref)
	return ref, true
}

func (a *player) finish(p *part, s compute.Status, ref arena.Ref) {
	delete(a.parts, p.id)
	a.send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: p.id, Status: uint16(s), Ref: ref})
}

func (a *player) send(d ring.Descriptor) {
	if err := a.Completions.Push(&d); err != nil {
		a.end.Store(true) // a full ring, which the test need not wait for
	}
	a.HostBell.Ring()
}

// misbehave sends what no plugin should.
func (a *player) misbehave(job uint64) {
	d := ring.Descriptor{
		Kind: system.DescriptorKind(a.rng.IntN(18)), Flags: uint16(a.rng.Uint32()), Job: job, Status: uint16(a.rng.IntN(20)),
		Aux: uint32(a.rng.IntN(4)), Args: [2]uint64{a.rng.Uint64(), a.rng.Uint64()},
	}
	if a.rng.IntN(4) == 0 {
		d.Job = a.rng.Uint64()
	}
	switch n := a.rng.IntN(4); {
	case n == 0:
		d.Ref = arena.Ref{Arena: uint16(a.rng.IntN(5)), Slot: uint32(a.rng.IntN(100)), Generation: uint32(a.rng.IntN(100)), Offset: uint64(a.rng.IntN(1 << 20)), Length: uint64(a.rng.IntN(5000))}
	case n == 1 && len(a.past) > 0:
		d.Ref = a.past[a.rng.IntN(len(a.past))]
	case n == 2 && len(a.Ahead) > 0:
		d.Ref = a.Ahead[a.rng.IntN(len(a.Ahead))]
		d.Ref.Length += uint64(a.rng.IntN(2))
	case len(a.parts[job].in) > 0:
		d.Ref = a.parts[job].in[0]
	}
	a.send(d)
}
