package arena

import "math/bits"

const (
	pageShift = 12
	pageSize  = 1 << pageShift
	maxPages  = 1 << 32 // 16 TiB: there are no more than 2^32 records of free blocks
	leafPages = 1024

	// scanLimit bounds how many blocks of one order a search for a long run looks
	// at, which only an arena shredded into as many equal pieces can reach.
	scanLimit = 1024
)

// runs shares out runs of whole pages in [0, pages) by the binary buddy system
// (Knuth, The Art of Computer Programming, volume 1, 2.5): a free block of order
// k is 2^k pages at a multiple of 2^k, and two halves of one block never stay
// free side by side. It differs in that a run has as many pages as was asked, the
// rest of its block being given back at once; that the number of pages is any;
// and that a run no single block can hold is put together from neighbours.
type runs struct {
	pages  uint64
	free   uint64     // pages in no run
	orders uint64     // bit k: there is a free block of order k
	lists  [64]uint32 // newest free block of each order
	counts [64]uint64
	blocks pool[freeBlock]
	leaves []*[leafPages]uint32 // page -> free block that begins there, made as needed
	warm   warm
}

// freeBlock is one free block, in the list of its order.
type freeBlock struct {
	page       uint64
	prev, next uint32
	order      uint8
}

func (r *runs) init(pages uint64) {
	r.pages = min(pages, maxPages)
	r.leaves = make([]*[leafPages]uint32, (r.pages+leafPages-1)/leafPages)
	r.insertAll(0, r.pages)
	r.free = r.pages
}

// take finds n free pages in a row, 0 < n <= pages, and returns the first.
func (r *runs) take(n uint64) (page uint64, ok bool) {
	if page, ok = r.warm.take(n); ok {
		r.free -= n
		return page, true
	}
	if n > r.free {
		return 0, false
	}
	if page, ok = r.split(n); !ok && r.trim() {
		page, ok = r.split(n)
	}
	if !ok {
		page, ok = r.join(n)
	}
	if ok {
		r.free -= n
	}
	return page, ok
}

// give takes back a run of n pages.
func (r *runs) give(page, n uint64) {
	r.free += n
	if !r.warm.give(page, n) {
		r.merge(page, n)
	}
}

// trim lets warm runs grow together with their neighbours and reports whether
// there were any.
func (r *runs) trim() bool {
	any := false
	for page, n, ok := r.warm.pop(); ok; page, n, ok = r.warm.pop() {
		r.merge(page, n)
		any = true
	}
	return any
}

// split cuts n pages off the smallest single block that has them.
func (r *runs) split(n uint64) (page uint64, ok bool) {
	least := bits.Len64(n - 1)
	fit := r.orders >> least << least
	if fit == 0 {
		return 0, false
	}
	order := bits.TrailingZeros64(fit)
	page = r.unlink(r.lists[order])
	r.insertAll(page+n, 1<<order-n)
	return page, true
}

// join takes n pages that several blocks have together.
func (r *runs) join(n uint64) (page uint64, ok bool) {
	page, length := r.longest()
	if length < n {
		return 0, false
	}
	end := page
	for end < page+n {
		i := r.at(end)
		end += 1 << r.blocks.at(i).order
		r.unlink(i)
	}
	r.insertAll(page+n, end-page-n)
	return page, true
}

// longest finds the longest run of free pages, warm ones not counted. A run of
// 2^k pages or more contains a whole block of order k-1, so it is enough to look
// around the blocks of the two highest orders there are.
func (r *runs) longest() (page, length uint64) {
	top := bits.Len64(r.orders) - 1
	for order := top; order >= 0 && order >= top-1; order-- {
		i := r.lists[order]
		for seen := 0; i != 0 && seen < scanLimit; seen++ {
			if p, n := r.around(r.blocks.at(i)); n > length {
				page, length = p, n
			}
			i = r.blocks.at(i).next
		}
	}
	return page, length
}

// around returns the run of free pages that b is part of.
func (r *runs) around(b *freeBlock) (page, length uint64) {
	page, end := b.page, b.page+1<<b.order
	for i := r.at(end); i != 0; i = r.at(end) {
		end += 1 << r.blocks.at(i).order
	}
	for i := r.before(page); i != 0; i = r.before(page) {
		page = r.blocks.at(i).page
	}
	return page, end - page
}

// before returns the free block that ends where page begins, or 0. Such a block
// of order k needs page to be a multiple of 2^k.
func (r *runs) before(page uint64) uint32 {
	for order := 0; page != 0 && order <= bits.TrailingZeros64(page); order++ {
		if i := r.at(page - 1<<order); i != 0 && int(r.blocks.at(i).order) == order {
			return i
		}
	}
	return 0
}

// merge makes n pages free, in blocks as large as they and their free buddies
// allow.
func (r *runs) merge(page, n uint64) {
	for n > 0 {
		order := largest(page, n)
		at, up := page, order
		for {
			buddy := at ^ 1<<up
			i := r.at(buddy)
			if i == 0 || int(r.blocks.at(i).order) != up {
				break
			}
			r.unlink(i)
			at &= buddy
			up++
		}
		r.insert(at, up)
		page += 1 << order
		n -= 1 << order
	}
}

// insertAll makes n pages free whose buddies are known not to be.
func (r *runs) insertAll(page, n uint64) {
	for n > 0 {
		order := largest(page, n)
		r.insert(page, order)
		page += 1 << order
		n -= 1 << order
	}
}

// largest returns the order of the largest block that begins at page and fits in
// n pages, n > 0.
func largest(page, n uint64) int {
	return min(bits.TrailingZeros64(page), bits.Len64(n)-1)
}

// insert puts a free block at the head of its list. There is always a record for
// it, since the pages are fewer than the records.
func (r *runs) insert(page uint64, order int) {
	i, _ := r.blocks.get()
	head := r.lists[order]
	*r.blocks.at(i) = freeBlock{page: page, next: head, order: uint8(order)}
	if head != 0 {
		r.blocks.at(head).prev = i
	}
	r.lists[order] = i
	r.counts[order]++
	r.orders |= 1 << order
	leaf := &r.leaves[page/leafPages]
	if *leaf == nil {
		*leaf = new([leafPages]uint32)
	}
	(*leaf)[page%leafPages] = i
}

// unlink takes a free block out of its list and returns its page.
func (r *runs) unlink(i uint32) uint64 {
	b := r.blocks.at(i)
	if b.prev != 0 {
		r.blocks.at(b.prev).next = b.next
	} else {
		r.lists[b.order] = b.next
	}
	if b.next != 0 {
		r.blocks.at(b.next).prev = b.prev
	}
	if r.counts[b.order]--; r.counts[b.order] == 0 {
		r.orders &^= 1 << b.order
	}
	r.leaves[b.page/leafPages][b.page%leafPages] = 0
	r.blocks.put(i)
	return b.page
}

// at returns the free block that begins at page, or 0.
func (r *runs) at(page uint64) uint32 {
	if page >= r.pages {
		return 0
	}
	leaf := r.leaves[page/leafPages]
	if leaf == nil {
		return 0
	}
	return leaf[page%leafPages]
}
