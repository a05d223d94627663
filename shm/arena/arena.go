// Package arena hands out blocks of shared memory and decides which references
// to them are true.
//
// The host makes one Arena for each mapped memory and is the only one to call
// its methods. A plugin makes a Client, which can look at blocks and nothing
// more. All that an Arena knows lies in the host's private heap: it never reads
// a byte of the memory it shares out, so nothing written there, by whomever, can
// mislead it. It never maps or unmaps memory either; that is segment's work.
//
// Blocks of up to 2 KiB come from slabs of one size class, larger ones are exact
// runs of pages. What was freed last is used first, since it is warm.
package arena

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"inos/shm/internal/mem"
)

// Owner says who answers for a block: an instance number, or Host.
type Owner uint32

// Host owns what the host itself made or took over.
const Host Owner = 0

// Arena is the allocator of one shared memory. All methods may be called from
// many goroutines at once.
//
// A block has one owner, who holds one reference to it. Others who read it hold
// references of their own (Retain, Release). It is freed when the last is gone.
type Arena struct {
	id      uint16
	copied  atomic.Uint64
	crossed atomic.Uint64

	mu     sync.Mutex // guards all below
	memory mem.Region
	heap   heap
	table  table
	used   uint64 // bytes of capacity in blocks
	peak   uint64 // most that used ever was
	pins   uint64
	closed bool
	onIdle func()
}

// New returns an arena with number id over memory, which must begin on a page
// and stay mapped until the arena is idle (see Close). A last part of memory
// that is not a whole page is not used, nor is anything past 16 TiB.
func New(id uint16, memory mem.Region) *Arena {
	a := newSized(id, memory.Size())
	a.memory = memory
	return a
}

// newSized returns an arena of any size that has no memory to show.
func newSized(id uint16, size uint64) *Arena {
	a := &Arena{id: id}
	a.heap.init(size)
	a.table.init()
	return a
}

// ID returns the number that references to this arena carry.
func (a *Arena) ID() uint16 { return a.id }

// Size returns the number of bytes the arena shares out.
func (a *Arena) Size() uint64 { return a.heap.size() }

// Alloc gives o a block of at least size bytes and returns the first reference
// to it, with Length size. The bytes are whatever was there before. It returns
// ErrTooLarge when the arena could never hold the block, a *FullError when it
// cannot now, ErrClosed after Close.
func (a *Arena) Alloc(size uint64, o Owner) (Ref, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return Ref{}, fmt.Errorf("arena %d: %w", a.id, ErrClosed)
	}
	if size > a.heap.size() {
		return Ref{}, fmt.Errorf("arena %d: %d bytes wanted of %d in all: %w", a.id, size, a.heap.size(), ErrTooLarge)
	}
	p, ok := a.heap.alloc(size)
	if !ok {
		return Ref{}, a.full(size)
	}
	slot, r, ok := a.table.add(p, o)
	if !ok {
		a.heap.free(p)
		return Ref{}, a.full(size)
	}
	a.used += p.capacity
	a.peak = max(a.peak, a.used)
	return Ref{Arena: a.id, Slot: slot, Generation: r.generation, Offset: p.offset, Length: size}, nil
}

// full describes why wanted bytes were not to be had.
func (a *Arena) full(wanted uint64) error {
	a.heap.runs.trim()
	_, longest := a.heap.runs.longest()
	return &FullError{Arena: a.id, Wanted: wanted, Free: a.heap.runs.free * pageSize, Largest: longest * pageSize}
}

// Transfer makes the block of ref, with its owner's reference, one of to's.
// Errors are those of Verify(ref, from).
func (a *Arena) Transfer(ref Ref, from, to Owner) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.owned(ref, from)
	if err != nil {
		return err
	}
	a.table.move(ref.Slot, r, to)
	return nil
}

// TransferAll is Transfer for many: all of them, or none and an error.
func (a *Arena) TransferAll(refs []Ref, from, to Owner) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ref := range refs {
		if _, err := a.owned(ref, from); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		a.table.move(ref.Slot, a.table.rows.at(ref.Slot), to)
	}
	return nil
}

// Adopt makes every block of from one of to's and returns how many and how many
// bytes of capacity that were. References stay true.
func (a *Arena) Adopt(from, to Owner) (blocks int, bytes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if from == to {
		return 0, 0
	}
	for slot := a.table.first(from); slot != 0; slot = a.table.first(from) {
		r := a.table.rows.at(slot)
		a.table.move(slot, r, to)
		blocks++
		bytes += r.capacity
	}
	a.table.forget(from)
	return blocks, bytes
}

// Retain takes one more reference to the block of ref for a reader. Errors are
// those of Verify, owner apart.
func (a *Arena) Retain(ref Ref) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.find(ref)
	if err != nil {
		return err
	}
	if r.refs == math.MaxUint32 {
		return fmt.Errorf("arena %d slot %d: %d references held: %w", a.id, ref.Slot, r.refs, ErrBadRef)
	}
	r.refs++
	return nil
}

// Release gives back a reference that Retain took, or that the host holds as
// owner. With the last one the block is freed and ref is stale from then on.
// What a plugin owns is given back with Free. Errors are those of Verify, owner
// apart.
func (a *Arena) Release(ref Ref) error {
	a.mu.Lock()
	defer a.unlock()
	r, err := a.find(ref)
	if err != nil {
		return err
	}
	a.drop(ref.Slot, r)
	return nil
}

// Free gives back the reference that o holds as owner. If readers are left, the
// block is the host's until they have gone. Errors are those of Verify.
func (a *Arena) Free(ref Ref, o Owner) error {
	a.mu.Lock()
	defer a.unlock()
	r, err := a.owned(ref, o)
	if err != nil {
		return err
	}
	if !a.drop(ref.Slot, r) {
		a.table.move(ref.Slot, r, Host)
	}
	return nil
}

// Reclaim takes back all that o owned, after its death, in time proportional to
// the number of its blocks, and returns how many were freed with how many bytes.
// Blocks that others still read pass to the host and are freed when they have
// released them. The host's own blocks cannot be reclaimed.
func (a *Arena) Reclaim(o Owner) (blocks int, bytes uint64) {
	a.mu.Lock()
	defer a.unlock()
	if o == Host {
		return 0, 0
	}
	for slot := a.table.first(o); slot != 0; slot = a.table.first(o) {
		r := a.table.rows.at(slot)
		capacity := r.capacity
		if a.drop(slot, r) {
			blocks++
			bytes += capacity
			continue
		}
		a.table.move(slot, r, Host)
	}
	a.table.forget(o)
	return blocks, bytes
}

// CountCopy adds n to the bytes that the host copied into this arena from outside
// the segment. Such counts are how a claim of zero copies is checked.
func (a *Arena) CountCopy(n uint64) { a.copied.Add(n) }

// CountCrossing adds n to the bytes that the host copied into this arena from
// another one.
func (a *Arena) CountCrossing(n uint64) { a.crossed.Add(n) }

// drop takes one reference away and reports whether it was the last.
func (a *Arena) drop(slot uint32, r *row) bool {
	if r.refs--; r.refs > 0 {
		return false
	}
	a.used -= r.capacity
	a.heap.free(r.place)
	a.table.remove(slot, r)
	return true
}
