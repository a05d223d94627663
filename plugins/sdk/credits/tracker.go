package credits

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

// Price says what work costs, in micro-credits. The cost model of a manifest
// (wire.CostModel: a base, so much for each MiB and each second begun) is one; the
// formula is there and not here, so that host and plugin cannot come to different
// sums. A Price must be safe for concurrent use.
type Price interface {
	// Of returns the price of work on so many bytes that took so long.
	Of(bytes uint64, elapsed time.Duration) uint64
}

// add saturates.
func add(a, b uint64) uint64 {
	if sum, carry := bits.Add64(a, b, 0); carry == 0 {
		return sum
	}
	return math.MaxUint64
}

// Tracker measures one piece of work: the bytes it went through and the time it
// takes, from NewTracker to Stop. It is safe for concurrent use.
type Tracker struct {
	price Price
	now   func() time.Time

	mu      sync.Mutex
	start   time.Time
	bytes   uint64
	stopped bool
	took    time.Duration
}

// NewTracker starts a measurement by the given clock, usually time.Now.
func NewTracker(price Price, now func() time.Time) *Tracker {
	return &Tracker{price: price, now: now, start: now()}
}

// Add counts n more bytes. Bytes added after Stop are not counted.
func (t *Tracker) Add(n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.bytes = add(t.bytes, n)
	}
}

// Stop ends the measurement and returns its price in micro-credits. Only the
// first call stops; every further one returns the same.
func (t *Tracker) Stop() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took, t.stopped = t.elapsed(), true
	return t.price.Of(t.bytes, t.took)
}

// Cost returns the price in micro-credits of the work so far.
func (t *Tracker) Cost() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.price.Of(t.bytes, t.elapsed())
}

// Elapsed returns how long the work has taken so far.
func (t *Tracker) Elapsed() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.elapsed()
}

// Bytes returns how many bytes were counted so far.
func (t *Tracker) Bytes() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// elapsed is called with mu held. A clock that was set back gives 0.
func (t *Tracker) elapsed() time.Duration {
	if t.stopped {
		return t.took
	}
	return max(t.now().Sub(t.start), 0)
}
