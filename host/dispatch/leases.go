package dispatch

import (
	"errors"
	"fmt"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// leaseClasses are the blocks granted ahead: enough for a short answer and for a
// page, so that most jobs ask for nothing.
var leaseClasses = [2]struct {
	bytes uint64
	count int
}{{256, 32}, {4096, 4}}

// lease answers a request for a block.
func (i *Instance) lease(d *ring.Descriptor) error {
	ref, err := i.arena.Alloc(d.Ref.Length, arena.Owner(i.id))
	answer := ring.Descriptor{Kind: system.DescriptorKind_lease, Aux: d.Aux, Ref: ref}
	if err != nil {
		answer = ring.Descriptor{Kind: system.DescriptorKind_leaseDenied, Aux: d.Aux, Status: uint16(compute.Status_outOfMemory)}
		if !errors.Is(err, arena.ErrFull) && !errors.Is(err, arena.ErrTooLarge) {
			i.log.Warn("lease refused", "bytes", d.Ref.Length, "error", err)
		}
	} else {
		answer.Ref.Length = i.arena.Capacity(ref)
	}
	err = i.credit(&answer)
	for until := time.Now().Add(creditWait); errors.Is(err, ring.ErrFull) && time.Now().Before(until) && !i.stop.Load(); {
		time.Sleep(creditPause)
		err = i.credit(&answer)
	}
	if err != nil {
		if answer.Kind == system.DescriptorKind_lease {
			_ = i.arena.Free(ref, arena.Owner(i.id)) // nobody else knows of it
		}
		return fmt.Errorf("credit ring: %w", err)
	}
	return nil
}

// A plugin that asks for very many blocks at once is given time to take the
// answers: one that was not sent would be waited for in vain. Meanwhile only its
// own completions wait.
const (
	creditWait  = time.Second
	creditPause = 100 * time.Microsecond
)

// credit puts a descriptor on the credit ring.
func (i *Instance) credit(d *ring.Descriptor) error {
	i.unit.mu.Lock()
	err := i.pushCredit(d)
	i.unit.mu.Unlock()
	i.link.PluginBell.Ring()
	return err
}

// pushCredit is credit for those who hold unit.mu. A spoilt ring condemns the
// instance; a full one is no offence by itself.
func (i *Instance) pushCredit(d *ring.Descriptor) error {
	err := i.link.Credits.Push(d)
	if errors.Is(err, ring.ErrForged) {
		i.condemn(fmt.Errorf("credit ring: %w", err))
	}
	return err
}

// advance grants blocks ahead, up to the count of each class. An arena without
// room gets by without: the plugin then asks for what it needs. The caller holds
// unit.mu.
func (i *Instance) advance() {
	for class, c := range leaseClasses {
		for i.ahead[class] < c.count {
			ref, err := i.arena.Alloc(c.bytes, arena.Owner(i.id))
			if err != nil {
				return
			}
			ref.Length = i.arena.Capacity(ref)
			if err := i.pushCredit(&ring.Descriptor{Kind: system.DescriptorKind_lease, Ref: ref}); err != nil {
				_ = i.arena.Free(ref, arena.Owner(i.id)) // nobody else knows of it
				return
			}
			i.ahead[class]++
			i.granted[ref.Slot] = class
		}
	}
}

// used notes that a block left the plugin's hands, so that one granted ahead is
// replaced. The caller holds unit.mu.
func (i *Instance) used(ref arena.Ref) {
	if class, ok := i.granted[ref.Slot]; ok {
		delete(i.granted, ref.Slot)
		i.ahead[class]--
	}
}

// Lease gives the plugin a block of at least size bytes. It fails once Detach has
// begun, since nobody would take the block back.
func (i *Instance) Lease(size uint64) (arena.Ref, error) {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	if i.phase == dead {
		return arena.Ref{}, errDetached
	}
	ref, err := i.arena.Alloc(size, arena.Owner(i.id))
	if err != nil {
		return arena.Ref{}, ArenaError(err)
	}
	return ref, nil
}

// own makes a block of the host's one of the plugin's.
func (i *Instance) own(ref arena.Ref) error {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	if i.phase == dead {
		return errDetached
	}
	return i.arena.Transfer(ref, arena.Host, arena.Owner(i.id))
}

var errDetached = wire.NewError(base.Code_unavailable, "", "the calling process is out of service")

// Free takes a block back that the plugin owns. The error says that it does not.
func (i *Instance) Free(ref arena.Ref) error {
	i.unit.mu.Lock()
	defer i.unit.mu.Unlock()
	err := i.arena.Free(ref, arena.Owner(i.id))
	if err == nil {
		i.used(ref)
	}
	return err
}
