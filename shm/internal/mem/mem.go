// Package mem gives bounds-checked access to mapped memory that other processes
// may write at any moment. It is the floor of the shm room: every atomic and
// every slice that shm hands out is made here.
//
// Offsets are bytes from the start of the region, 64 bits wide. An offset that a
// peer supplied must go through Slice or Sub, which return errors. The atomic
// accessors take offsets that come from our own layout tables and panic when
// they do not fit, since that is a bug of ours and not of a peer.
package mem

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Region is a piece of mapped memory. The zero Region is empty. A Region does
// not own its mapping: it must not be used after the mapping is gone. It may be
// copied and used by many goroutines at once.
type Region struct {
	base unsafe.Pointer
	size uint64
}

// Of returns the region that covers b, which must stay mapped while it is used.
func Of(b []byte) Region {
	if len(b) == 0 {
		return Region{}
	}
	return Region{base: unsafe.Pointer(unsafe.SliceData(b)), size: uint64(len(b))}
}

// Size returns the number of bytes in the region.
func (r Region) Size() uint64 { return r.size }

// Contains reports whether n bytes at off lie inside the region, for any values.
func (r Region) Contains(off, n uint64) bool {
	return off <= r.size && n <= r.size-off
}

// Sub returns the region of n bytes at off.
func (r Region) Sub(off, n uint64) (Region, error) {
	if !r.Contains(off, n) {
		return Region{}, fmt.Errorf("shm: %d bytes at offset %d do not lie inside %d bytes", n, off, r.size)
	}
	if n == 0 {
		return Region{}, nil
	}
	return Region{base: unsafe.Add(r.base, off), size: n}, nil
}

// MustSub is Sub for offsets of our own layout tables.
func (r Region) MustSub(off, n uint64) Region {
	s, err := r.Sub(off, n)
	if err != nil {
		panic(err)
	}
	return s
}

// Slice returns a view of n bytes at off whose capacity ends where it ends.
func (r Region) Slice(off, n uint64) ([]byte, error) {
	s, err := r.Sub(off, n)
	if err != nil {
		return nil, err
	}
	return s.Bytes(), nil
}

// Bytes returns a view of the whole region.
func (r Region) Bytes() []byte {
	if r.size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.base), r.size)
}

// Load32 reads the word at off with acquire order.
func (r Region) Load32(off uint64) uint32 {
	v := atomic.LoadUint32((*uint32)(r.at(off, 4)))
	acquired(off)
	return v
}

// Store32 writes the word at off with release order.
func (r Region) Store32(off uint64, v uint32) {
	released(off)
	atomic.StoreUint32((*uint32)(r.at(off, 4)), v)
}

// Add32 adds delta to the word at off and returns the sum.
func (r Region) Add32(off uint64, delta uint32) uint32 {
	released(off)
	v := atomic.AddUint32((*uint32)(r.at(off, 4)), delta)
	acquired(off)
	return v
}

// Swap32 stores v at off and returns what was there.
func (r Region) Swap32(off uint64, v uint32) uint32 {
	released(off)
	old := atomic.SwapUint32((*uint32)(r.at(off, 4)), v)
	acquired(off)
	return old
}

// CompareAndSwap32 stores new at off if old is there.
func (r Region) CompareAndSwap32(off uint64, old, new uint32) bool {
	released(off)
	ok := atomic.CompareAndSwapUint32((*uint32)(r.at(off, 4)), old, new)
	acquired(off)
	return ok
}

// Load64 reads the doubleword at off with acquire order.
func (r Region) Load64(off uint64) uint64 {
	v := atomic.LoadUint64((*uint64)(r.at(off, 8)))
	acquired(off)
	return v
}

// Store64 writes the doubleword at off with release order.
func (r Region) Store64(off uint64, v uint64) {
	released(off)
	atomic.StoreUint64((*uint64)(r.at(off, 8)), v)
}

// Add64 adds delta to the doubleword at off and returns the sum.
func (r Region) Add64(off uint64, delta uint64) uint64 {
	released(off)
	v := atomic.AddUint64((*uint64)(r.at(off, 8)), delta)
	acquired(off)
	return v
}

// at checks that a naturally aligned word of n bytes lies at off.
func (r Region) at(off, n uint64) unsafe.Pointer {
	if off&(n-1) != 0 || !r.Contains(off, n) {
		panic(fmt.Sprintf("shm: no aligned %d-byte word at offset %d of %d bytes", n, off, r.size))
	}
	return unsafe.Add(r.base, off)
}
