package arena

// place is where a block lies.
type place struct {
	offset   uint64
	capacity uint64
	span     uint32 // 0 for a run of pages
}

// heap shares out [0, size), whatever that is a range of: it knows no memory.
type heap struct {
	runs  runs
	slabs slabs
}

func (h *heap) init(size uint64) { h.runs.init(size >> pageShift) }

func (h *heap) size() uint64 { return h.runs.pages << pageShift }

// alloc finds room for size bytes, size <= h.size(). A small block for which no
// slab is to be had gets a page of its own.
func (h *heap) alloc(size uint64) (place, bool) {
	if c := classOf(size); c < classes {
		if p, ok := h.slabs.alloc(c, &h.runs); ok {
			return p, true
		}
		size = 1
	}
	n := (size-1)>>pageShift + 1
	page, ok := h.runs.take(n)
	return place{offset: page << pageShift, capacity: n << pageShift}, ok
}

// free takes back what alloc gave.
func (h *heap) free(p place) {
	if p.span != 0 {
		h.slabs.free(p, &h.runs)
		return
	}
	h.runs.give(p.offset>>pageShift, p.capacity>>pageShift)
}
