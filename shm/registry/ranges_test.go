package registry

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRangesNeverOverlapAndGrowTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 100
		r := newRanges(size)
		var used [size]bool
		type piece struct{ at, n uint64 }
		var live []piece
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if len(live) > 0 && rapid.Bool().Draw(t, "give") {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				p := live[i]
				r.give(p.at, p.n)
				for u := p.at; u < p.at+p.n; u++ {
					used[u] = false
				}
				live = slices.Delete(live, i, i+1)
				continue
			}
			n := rapid.Uint64Range(0, 30).Draw(t, "n")
			at, ok := r.take(n)
			longest, run := uint64(0), uint64(0)
			for _, u := range used {
				if run++; u {
					run = 0
				}
				longest = max(longest, run)
			}
			if ok != (n <= longest) {
				t.Fatalf("%d units, longest run %d: %v", n, longest, ok)
			}
			for u := at; ok && u < at+n; u++ {
				if used[u] {
					t.Fatalf("unit %d given twice", u)
				}
				used[u] = true
			}
			if ok {
				live = append(live, piece{at, n})
			}
		}
		for _, p := range live {
			r.give(p.at, p.n)
		}
		if !slices.Equal(r.free, []extent{{0, size}}) {
			t.Fatalf("left in pieces: %v", r.free)
		}
	})
}
