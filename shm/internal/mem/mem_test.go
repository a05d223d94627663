package mem

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestSubNeverLeavesTheRegion draws offsets and lengths whose sums wrap around as
// often as not.
func TestSubNeverLeavesTheRegion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(0, 1<<12).Draw(t, "size")
		edge := rapid.OneOf(rapid.Uint64Range(0, 1<<13), rapid.Uint64Range(math.MaxUint64-1<<13, math.MaxUint64), rapid.Uint64())
		off, n := edge.Draw(t, "offset"), edge.Draw(t, "length")
		whole := make([]byte, size)
		s, err := Of(whole).Slice(off, n)
		inside := off <= size && n <= size && off+n <= size
		if (err == nil) != inside {
			t.Fatalf("%d bytes at %d of %d: %v", n, off, size, err)
		}
		if err != nil {
			return
		}
		if uint64(len(s)) != n || cap(s) != len(s) {
			t.Fatalf("length %d and capacity %d for %d bytes", len(s), cap(s), n)
		}
		if n > 0 && &s[0] != &whole[off] {
			t.Fatal("the view starts somewhere else")
		}
	})
}

func TestAtomicsPanicOutsideTheRegion(t *testing.T) {
	r := Of(make([]byte, 64))
	for name, access := range map[string]func(){
		"misaligned 32":  func() { r.Load32(2) },
		"misaligned 64":  func() { r.Store64(4, 1) },
		"behind the end": func() { r.Add32(64, 1) },
		"across the end": func() { r.Load64(60) },
		"wrapping":       func() { r.Swap32(math.MaxUint64-3, 1) },
		"empty region":   func() { Region{}.Load32(0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			access()
		})
	}
}

func TestAtomics(t *testing.T) {
	r := Of(make([]byte, 64))
	r.Store32(4, 7)
	if got := r.Add32(4, 3); got != 10 || r.Load32(4) != 10 {
		t.Errorf("32-bit sum %d", got)
	}
	if r.CompareAndSwap32(4, 7, 1) || !r.CompareAndSwap32(4, 10, 11) || r.Swap32(4, 12) != 11 || r.Load32(4) != 12 {
		t.Error("32-bit exchange")
	}
	r.Store64(8, math.MaxUint64)
	if got := r.Add64(8, 2); got != 1 || r.Load64(8) != 1 {
		t.Errorf("64-bit sum %d", got)
	}
}

// TestFutexWaitReturnsWhenTheWordMoved would hang until its timeout of an hour if
// the kernel parked a thread although the word had changed.
func TestFutexWaitReturnsWhenTheWordMoved(t *testing.T) {
	r := Of(make([]byte, 64))
	r.Store32(8, 2)
	r.FutexWait(8, 1, 3_600_000_000_000)
	r.FutexWait(8, 2, 0)  // no time to wait is no wait
	r.FutexWait(8, 2, -1) // neither is less than none
}
