package registry

import "slices"

// ranges shares out [0, size) first fit. It lives in the host's private heap.
type ranges struct {
	free []extent // by start, never touching one another
}

type extent struct{ from, to uint64 }

func newRanges(size uint64) ranges { return ranges{[]extent{{0, size}}} }

// take returns the start of n units that are free from now on no more.
func (r *ranges) take(n uint64) (uint64, bool) {
	if n == 0 {
		return 0, true
	}
	for i := range r.free {
		e := &r.free[i]
		if e.to-e.from < n {
			continue
		}
		at := e.from
		if e.from += n; e.from == e.to {
			r.free = slices.Delete(r.free, i, i+1)
		}
		return at, true
	}
	return 0, false
}

// give takes n units back.
func (r *ranges) give(at, n uint64) {
	if n == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(r.free, at, func(e extent, at uint64) int {
		if e.from < at {
			return -1
		}
		return 1
	})
	r.free = slices.Insert(r.free, i, extent{at, at + n})
	if i+1 < len(r.free) && r.free[i].to == r.free[i+1].from {
		r.free[i].to = r.free[i+1].to
		r.free = slices.Delete(r.free, i+1, i+2)
	}
	if i > 0 && r.free[i-1].to == r.free[i].from {
		r.free[i-1].to = r.free[i].to
		r.free = slices.Delete(r.free, i, i+1)
	}
}
