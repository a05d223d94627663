// Package ring passes descriptors from one producer to one consumer through
// shared memory, without a call and without a lock.
//
// The host and a plugin each hold one end. Each end keeps its cursor in its own
// memory and treats the little that it reads of the other's as a claim: what
// cannot be true is ErrForged, and the ring is given up for good. A descriptor is
// copied out once and then only the copy is looked at.
//
// A ring never waits and never wakes anybody: that is what epoch.Bell is for. An
// end belongs to one goroutine at a time. Its memory must stay mapped while it is
// in use.
//
// In memory, a ring is a line where the consumer publishes its position (u64, the
// number of descriptors it has taken), a line reserved for the producer, and then
// the descriptors. The descriptor at position p is complete when its sequence is
// the low 32 bits of p, plus 1.
package ring

import (
	"errors"
	"fmt"
	"math/bits"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

var (
	// ErrFull says that the consumer is behind by a whole ring. Nothing was sent:
	// try again after it has taken something, or drop the work.
	ErrFull = errors.New("ring: full")

	// ErrForged says that the other side wrote what no sound process would. The end
	// stays broken: stop the plugin.
	ErrForged = errors.New("ring: forged")
)

const (
	consumerLine = 0 // offset of the consumer's position
	firstLine    = uint64(system.RingHeader)
)

// Bytes returns the memory that a ring of n descriptors takes.
func Bytes(entries uint32) uint64 { return firstLine + uint64(entries)*uint64(Size) }

// end is what both ends have.
type end struct {
	memory mem.Region
	lines  []byte // the descriptors
	mask   uint64
	broken error
}

func newEnd(m mem.Region, entries uint32) (end, error) {
	if bits.OnesCount32(entries) != 1 || entries > system.RingEntriesMaximum {
		return end{}, fmt.Errorf("ring: %d entries: use a power of two up to %d", entries, system.RingEntriesMaximum)
	}
	if m.Size() != Bytes(entries) {
		return end{}, fmt.Errorf("ring: %d entries take %d bytes, not %d", entries, Bytes(entries), m.Size())
	}
	return end{
		memory: m,
		lines:  m.MustSub(firstLine, uint64(entries)*uint64(Size)).Bytes(),
		mask:   uint64(entries) - 1,
	}, nil
}

// Entries returns how many descriptors the ring holds.
func (e *end) Entries() int { return int(e.mask) + 1 }

// line returns the line of a position, and its offset in the ring.
func (e *end) line(position uint64) (line *[Size]byte, offset uint64) {
	at := position & e.mask * uint64(Size)
	return (*[Size]byte)(e.lines[at:]), firstLine + at
}

// forged breaks the end for good.
func (e *end) forged(format string, args ...any) error {
	e.broken = fmt.Errorf("%w: "+format, append([]any{ErrForged}, args...)...)
	return e.broken
}
