package arena

import "math/bits"

const (
	smallest  = 64 // bytes of the first size class, one cache line
	classes   = 6  // 64, 128, 256, 512, 1024, 2048
	spanPages = 4
	spanBytes = spanPages * pageSize
)

// classBytes returns the size of class c.
func classBytes(c int) uint64 { return smallest << c }

// classOf returns the smallest class that holds size bytes; classes or more when
// none does.
func classOf(size uint64) int {
	if size <= smallest {
		return 0
	}
	return bits.Len64(size-1) - bits.Len64(smallest-1)
}

// span is 16 KiB cut into pieces of one class. The list of free pieces is a stack
// beside it in the heap, and not, as usual, threaded through the pieces.
type span struct {
	page       uint64
	prev, next uint32
	class      uint8
	used       uint16 // pieces in blocks
	fresh      uint16 // pieces from here on were never used
	freed      uint16 // entries of stack
	stack      [spanBytes / smallest]uint8
}

// pieces returns how many pieces the span has.
func (s *span) pieces() uint16 { return uint16(spanBytes / classBytes(int(s.class))) }

// slabs shares out the spans.
type slabs struct {
	spans   pool[span]
	classes [classes]struct {
		open  uint32 // span with a free piece that was touched last
		spans uint64
		used  uint64 // pieces in blocks
	}
}

// alloc returns a piece of class c. When there is no span with one, it makes one
// of pages from r.
func (l *slabs) alloc(c int, r *runs) (place, bool) {
	class := &l.classes[c]
	if class.open == 0 && !l.grow(c, r) {
		return place{}, false
	}
	i := class.open
	s := l.spans.at(i)
	piece := uint64(s.fresh)
	if s.freed > 0 {
		s.freed--
		piece = uint64(s.stack[s.freed])
	} else {
		s.fresh++
	}
	s.used++
	class.used++
	if s.used == s.pieces() {
		l.unlink(i, s)
	}
	return place{offset: s.page<<pageShift + piece*classBytes(c), capacity: classBytes(c), span: i}, true
}

// grow makes a span for class c.
func (l *slabs) grow(c int, r *runs) bool {
	page, ok := r.take(spanPages)
	if !ok {
		return false
	}
	i, ok := l.spans.get()
	if !ok {
		r.give(page, spanPages)
		return false
	}
	s := l.spans.at(i)
	s.page, s.class, s.used, s.fresh, s.freed = page, uint8(c), 0, 0, 0
	l.link(i, s)
	l.classes[c].spans++
	return true
}

// free takes a piece back, and gives the pages of its span back to r when it was
// the last.
func (l *slabs) free(p place, r *runs) {
	s := l.spans.at(p.span)
	class := &l.classes[s.class]
	class.used--
	if s.used != s.pieces() {
		l.unlink(p.span, s)
	}
	if s.used--; s.used == 0 {
		class.spans--
		r.give(s.page, spanPages)
		l.spans.put(p.span)
		return
	}
	s.stack[s.freed] = uint8((p.offset - s.page<<pageShift) / classBytes(int(s.class)))
	s.freed++
	l.link(p.span, s) // first again: what was freed last is used first
}

// link puts a span at the head of the open ones of its class.
func (l *slabs) link(i uint32, s *span) {
	class := &l.classes[s.class]
	s.prev, s.next = 0, class.open
	if s.next != 0 {
		l.spans.at(s.next).prev = i
	}
	class.open = i
}

// unlink takes a span out of the open ones.
func (l *slabs) unlink(i uint32, s *span) {
	if s.prev != 0 {
		l.spans.at(s.prev).next = s.next
	} else {
		l.classes[s.class].open = s.next
	}
	if s.next != 0 {
		l.spans.at(s.next).prev = s.prev
	}
}
