// Package epoch is how one side learns that the other has published something:
// counters that only grow, a reactor that watches many of them, and doorbells
// for the consumers of rings.
//
// A producer publishes, then signals. A consumer remembers the last value it saw
// and reads again when it finds another one. Values say that something changed,
// never how often it did: signals that come close together may be seen as one.
//
// Nothing here waits without a deadline, and nobody makes a system call for a
// bell whose consumer is awake. What a peer writes to the shared words can wake
// a waiter early or leave it asleep until its deadline, and can do no more.
//
// The memory must stay mapped while a Table, Reader, Reactor or Bell is in use.
package epoch

import (
	"context"
	"fmt"
	"math"
	"time"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

const (
	stride = uint64(system.EpochStride)
	park   = uint64(system.EpochParkOffset) // of the futex word, from its counter

	// anyEpoch moves with every other epoch of its table.
	anyEpoch = 0
)

// slice bounds one stay in the kernel of a waiter on a table. A read-only side
// cannot leave a mark in the table before it parks, so a cancellation that comes
// between its last look and the call goes unseen for this long.
const slice = 50 * time.Millisecond

// Reader is the side of an epoch table that only looks. Its memory may be mapped
// read-only. A Reader may be copied and used by many goroutines at once.
type Reader struct{ memory mem.Region }

// NewReader returns the reader of the table in m, which holds whole epochs.
func NewReader(m mem.Region) (Reader, error) {
	if m.Size() == 0 || m.Size()%stride != 0 {
		return Reader{}, fmt.Errorf("epoch: %d bytes are no table, its rows take %d", m.Size(), stride)
	}
	return Reader{m}, nil
}

// Len returns the number of epochs in the table.
func (r Reader) Len() int { return int(r.memory.Size() / stride) }

// Load returns the value of epoch i, which must be below Len.
func (r Reader) Load(i uint16) uint64 { return r.memory.Load64(uint64(i) * stride) }

// Wait returns the value of epoch i as soon as it is another than seen, or the
// cause when ctx ends first. It occupies a thread while it is parked, so use a
// Reactor where many wait.
func (r Reader) Wait(ctx context.Context, i uint16, seen uint64) (uint64, error) {
	changed := func() bool { return r.Load(i) != seen }
	if climb(changed) {
		return r.Load(i), nil
	}
	stop := context.AfterFunc(ctx, func() { r.wake(i) })
	defer stop()
	for {
		word := r.parkWord(i) // before the look at the counter: see Signal
		if v := r.Load(i); v != seen {
			return v, nil
		}
		if ctx.Err() != nil {
			return seen, fmt.Errorf("epoch %d still at %d: %w", i, seen, context.Cause(ctx))
		}
		r.parkOn(i, word)
	}
}

func (r Reader) parkWord(i uint16) uint32 { return r.memory.Load32(uint64(i)*stride + park) }

// parkOn parks until epoch i is signalled, if its park word still holds word.
func (r Reader) parkOn(i uint16, word uint32) {
	r.memory.FutexWait(uint64(i)*stride+park, word, slice)
}

func (r Reader) wake(i uint16) { r.memory.FutexWake(uint64(i)*stride+park, math.MaxInt32) }

// Table is the side of an epoch table that signals. It may be used by many
// goroutines at once.
type Table struct{ Reader }

// NewTable returns the table in m, which must be mapped for writing.
func NewTable(m mem.Region) (*Table, error) {
	r, err := NewReader(m)
	if err != nil {
		return nil, err
	}
	return &Table{r}, nil
}

// Signal moves epoch i, and epoch 0 with it, and wakes whoever waits for either.
// Call it after what it announces was published. It makes two short system
// calls, because readers cannot say that they sleep: keep it off the path of
// every job.
func (t *Table) Signal(i uint16) {
	// Counters first, park words second, wake-ups last. A waiter reads the park word
	// before the counter; so if it missed the counter's move, the park word moves
	// after it looked, and the kernel does not let it sleep on the old one.
	t.Touch(i)
	if i != anyEpoch {
		t.Touch(anyEpoch)
		t.bump(anyEpoch)
	}
	t.bump(i)
}

// Touch moves epoch i without waking anybody: for what is only ever polled, such
// as a heartbeat.
func (t *Table) Touch(i uint16) { t.memory.Add64(uint64(i)*stride, 1) }

func (t *Table) bump(i uint16) {
	t.memory.Add32(uint64(i)*stride+park, 1)
	t.wake(i)
}
