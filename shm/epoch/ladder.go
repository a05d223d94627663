package epoch

import (
	"runtime"

	"inos/shm/internal/mem"
)

// The steps before parking, as measured for this project: together some 33 us
// when nobody else wants the processor, which is less than a wake-up costs.
const (
	spins  = 20  // looks with a spin hint between them
	yields = 100 // looks with both schedulers asked in between
)

// climb waits for ready without parking, and reports whether it came true.
//
// A look is followed by a hint to the processor, then by offers of the processor
// to other goroutines and to other processes. Either offer alone is a trap: two
// sides that spin on one CPU with only one of them lose a whole time slice for
// each hop.
func climb(ready func() bool) bool {
	for range spins {
		if ready() {
			return true
		}
		mem.Pause(1)
	}
	for range yields {
		if ready() {
			return true
		}
		runtime.Gosched()
		mem.Yield()
	}
	return ready()
}
