package epoch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

// parked is the offset of the word that is 1 while the consumer sleeps, or is
// about to. The consumer sets it; whoever clears it owes the wake-up.
const parked = 0

// Bell wakes the one consumer of some rings. A producer publishes, then calls
// Ring, which costs one load while the consumer is awake. Any number of
// goroutines may ring; one at a time may wait.
type Bell struct {
	word  mem.Region
	bed   bed
	ready func() bool // of the Wait under way
	done  func() bool // made once, so that no Wait allocates
	idle  bool        // the last Wait ended with nothing to do

	// A waiter or ringer holds use, so that Close can say when nobody touches the
	// memory any more.
	use         sync.RWMutex
	closed      atomic.Bool
	interrupted atomic.Bool
}

// bed is where a consumer sleeps.
type bed interface {
	// sleep returns after a wake or rouse, at the deadline, or early for no reason.
	// It must not sleep when done is true, and must not miss a rouse that comes
	// after done was false.
	sleep(done func() bool, deadline time.Time)
	// wake is the producer's call.
	wake()
	// rouse is the call of the consumer's own process.
	rouse()
	close() error
}

// NewFutexBell returns the bell in m, one cache line, whose consumer parks on a
// shared futex. That occupies a thread, so it is for a process with one consumer.
func NewFutexBell(m mem.Region) (*Bell, error) {
	return newBell(m, &futexBed{m})
}

// NewEventBell returns the bell in m, one cache line, whose consumer parks in the
// Go poller on an eventfd made by NewEvent, here or in the other process. The
// bell owns event from then on.
func NewEventBell(m mem.Region, event *os.File) (*Bell, error) {
	b, err := newEventBed(event)
	if err != nil {
		return nil, err
	}
	return newBell(m, b)
}

func newBell(m mem.Region, d bed) (*Bell, error) {
	if m.Size() != uint64(system.CacheLine) {
		return nil, fmt.Errorf("epoch: a bell takes %d bytes, not %d", system.CacheLine, m.Size())
	}
	b := &Bell{word: m, bed: d}
	b.done = func() bool { return b.ready() || b.interrupted.Load() || b.closed.Load() }
	return b, nil
}

// Ring wakes the consumer if it sleeps. What it should find must have been
// published before. After Close it does nothing.
func (b *Bell) Ring() {
	b.use.RLock()
	// The consumer sets the flag and then looks for work; the producer publishes
	// work and then looks at the flag. Atomics of Go are sequentially consistent, so
	// at least one of the two sees what the other wrote. The exchange lets one of
	// many ringers make the call.
	if !b.closed.Load() && b.word.Load32(parked) == 1 && b.word.CompareAndSwap32(parked, 1, 0) {
		b.bed.wake()
	}
	b.use.RUnlock()
}

// Wait returns when ready is true, at the deadline, or after Interrupt or Close,
// and reports what ready says then. It spins, yields, and then parks. ready must
// be cheap: it is called some hundred times. It must not use the same bell. Make it
// once and not for each call, then nothing is allocated.
func (b *Bell) Wait(ready func() bool, deadline time.Time) bool {
	b.use.RLock()
	defer b.use.RUnlock()
	if b.closed.Load() {
		return false // what ready looks at may be gone
	}
	// Who found nothing last time looks once and parks: an idle process must not
	// spin at every deadline.
	if b.idle && ready() || !b.idle && climb(ready) {
		b.idle = false
		return true
	}
	b.ready = ready
	for time.Until(deadline) > 0 {
		b.word.Swap32(parked, 1)
		b.bed.sleep(b.done, deadline)
		b.word.Store32(parked, 0)
		if b.done() {
			break
		}
	}
	b.interrupted.Store(false)
	b.idle = !ready()
	return !b.idle
}

// Interrupt makes the Wait that is under way return, or else the next one that
// would park.
func (b *Bell) Interrupt() {
	b.use.RLock()
	defer b.use.RUnlock()
	if !b.closed.Load() {
		b.interrupted.Store(true)
		b.bed.rouse()
	}
}

// Close makes the waiter return and waits until nobody uses the bell any more;
// only then may its memory be unmapped. Calling it again does nothing.
func (b *Bell) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.bed.rouse()
	b.use.Lock()
	defer b.use.Unlock()
	return b.bed.close()
}

// futexBed parks on the flag itself.
type futexBed struct{ word mem.Region }

func (f *futexBed) sleep(done func() bool, deadline time.Time) {
	if !done() {
		f.word.FutexWait(parked, 1, time.Until(deadline))
	}
}

func (f *futexBed) wake() { f.word.FutexWake(parked, math.MaxInt32) }

func (f *futexBed) rouse() {
	f.word.Store32(parked, 0) // or the consumer could park after the call below
	f.wake()
}

func (f *futexBed) close() error { return nil }

// errNoPoller is for a descriptor that would block a thread.
var errNoPoller = errors.New("epoch: the descriptor cannot be waited for by the Go poller; make it with NewEvent")
