//go:build race

package mem

import "sync/atomic"

// The race detector knows nothing of memory outside the Go heap: it sees neither
// races there nor the order that atomics there give to heap data. So each atomic
// of this package also touches a word on the heap, and that gives the detector
// the same order. The word is chosen by offset, since two ends of one ring in one
// process map the same bytes at different addresses.
var shadow [256]atomic.Uint32

func acquired(off uint64) { shadow[off/64%256].Load() }
func released(off uint64) { shadow[off/64%256].Add(1) }
