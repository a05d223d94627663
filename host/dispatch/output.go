package dispatch

import (
	"sync"

	"github.com/hashicorp/go-hclog"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// Piece is a block of output in the hands of the one who asked for the job: the
// whole of it, or a part of a stream.
type Piece struct {
	ref   arena.Ref
	arena *arena.Arena
	bytes []byte
	job   *Job
	acked *Instance // who waits to hear that it was taken, nil for nobody
	once  sync.Once
}

// Bytes is a view of the output where the plugin wrote it. It is valid until
// Release. The plugin may still write to it: copy what must not change.
func (p *Piece) Bytes() []byte { return p.bytes }

// Ref returns the reference, which the host owns until Release or Hand.
func (p *Piece) Ref() arena.Ref { return p.ref }

// Release frees the block. Calling it again does nothing.
func (p *Piece) Release() { p.once.Do(func() { p.take(); freeBlock(p.arena, p.ref) }) }

// Hand gives the block to a plugin instead of freeing it: the very block when it
// can map it, a copy in its arena when not. Check, unless nil, looks at what will
// be handed over while the plugin does not know of it yet; its error keeps the
// block back. After Release there is nothing to hand, and the reference is zero.
func (p *Piece) Hand(to *Instance, check func([]byte) error) (ref arena.Ref, err error) {
	p.once.Do(func() {
		p.take()
		ref, err = p.hand(to, check)
	})
	return ref, err
}

func (p *Piece) hand(to *Instance, check func([]byte) error) (arena.Ref, error) {
	ref, v := p.ref, p.bytes
	if to.arena != p.arena {
		var err error
		ref, v, err = copyBlock(to.arena, p.arena, p.ref)
		freeBlock(p.arena, p.ref)
		if err != nil {
			return arena.Ref{}, err
		}
	}
	var err error
	if check != nil {
		err = check(v)
	}
	if err == nil {
		err = to.own(ref)
	}
	if err != nil {
		freeBlock(to.arena, ref)
		return arena.Ref{}, err
	}
	return ref, nil
}

// take tells the plugin that one more piece of its stream was taken.
func (p *Piece) take() {
	if p.acked == nil {
		return
	}
	i := p.acked
	i.unit.mu.Lock()
	alive := i.phase != dead && p.job.state == running && p.job.inst == i
	if alive {
		p.job.unacked--
		i.push(&ring.Descriptor{Kind: system.DescriptorKind_ack, Job: p.job.id, Aux: 1})
	}
	i.unit.mu.Unlock()
	if alive {
		i.link.PluginBell.Ring()
	}
}

// freeBlock drops the host's hold on a block. It can only fail when our own
// accounts are wrong, which must not go unnoticed; the node lives on, since a
// block that is lost harms nobody.
func freeBlock(a *arena.Arena, ref arena.Ref) {
	if err := a.Release(ref); err != nil {
		hclog.Default().Error("dispatch: a block of ours is not in the arena's table, please report this", "error", err)
	}
}
