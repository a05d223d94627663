package epoch

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reactor calls functions when epochs of one table move. It runs on one
// goroutine, however many epochs are watched, and occupies one thread while it
// sleeps.
type Reactor struct {
	table   Reader
	mu      sync.Mutex               // one change of watches at a time
	watches atomic.Pointer[[]*watch] // replaced, never changed, so that the loop takes no lock
	closed  atomic.Bool
	done    chan struct{}
}

type watch struct {
	epoch uint16
	seen  uint64 // the loop's own
	call  func(uint64)
	gone  atomic.Bool
}

// NewReactor starts a reactor on a table. Close ends it.
func NewReactor(r Reader) *Reactor {
	x := &Reactor{table: r, done: make(chan struct{})}
	x.watches.Store(new([]*watch))
	go x.loop()
	return x
}

// Watch calls call with the new value whenever epoch i has moved after Watch was
// called. Moves that come close together may be reported as one. All calls come
// from the reactor's goroutine: call must return soon and must not call Close.
//
// After stop no call begins, but one may be under way when it returns.
func (x *Reactor) Watch(i uint16, call func(value uint64)) (stop func()) {
	w := &watch{epoch: i, seen: x.table.Load(i), call: call}
	x.change(func(l []*watch) []*watch { return append(l, w) })
	// A move between the two lines above found no watch to report to. If the loop
	// sleeps by now, it looks again at once; if it is about to, after a slice.
	x.table.wake(anyEpoch)
	return func() {
		w.gone.Store(true)
		x.change(func(l []*watch) []*watch { return slices.DeleteFunc(l, func(o *watch) bool { return o == w }) })
	}
}

func (x *Reactor) change(f func([]*watch) []*watch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := f(slices.Clone(*x.watches.Load()))
	x.watches.Store(&l)
}

func (x *Reactor) loop() {
	defer close(x.done)
	for !x.closed.Load() {
		word := x.table.parkWord(anyEpoch) // before the look at the counters
		for _, w := range *x.watches.Load() {
			if v := x.table.Load(w.epoch); v != w.seen && !w.gone.Load() {
				w.seen = v
				w.call(v)
			}
		}
		if !x.closed.Load() {
			x.table.parkOn(anyEpoch, word)
		}
	}
}

// Close ends the reactor and returns when its goroutine has ended: no call comes
// after that. Calling it again does nothing.
func (x *Reactor) Close() {
	x.closed.Store(true)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		x.table.wake(anyEpoch) // misses a loop that is just about to park, hence again
		select {
		case <-x.done:
			return
		case <-again.C:
		}
	}
}
