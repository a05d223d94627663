package arena

import (
	"cmp"
	"fmt"
	"slices"
)

// audit walks all private records of a and returns what contradicts itself: free
// blocks and blocks in use must tile the arena exactly, lists must agree with
// counters, and no two free buddies may have stayed apart.
func audit(a *Arena) error {
	type piece struct {
		from, to uint64
		what     string
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var pieces []piece
	r := &a.heap.runs

	var free uint64
	for order := range r.lists {
		var n, prev uint64
		for i := r.lists[order]; i != 0; i = r.blocks.at(i).next {
			b := r.blocks.at(i)
			n++
			free += 1 << order
			buddy := r.at(b.page ^ 1<<order)
			switch {
			case int(b.order) != order || b.page&(1<<order-1) != 0 || r.at(b.page) != i || uint64(b.prev) != prev:
				return fmt.Errorf("free block %+v in list %d is out of place", *b, order)
			case buddy != 0 && int(r.blocks.at(buddy).order) == order:
				return fmt.Errorf("free buddies at pages %d and %d, order %d", b.page, b.page^1<<order, order)
			}
			prev = uint64(i)
			pieces = append(pieces, piece{b.page << pageShift, (b.page + 1<<order) << pageShift, "free"})
		}
		if n != r.counts[order] || (n > 0) != (r.orders>>order&1 == 1) {
			return fmt.Errorf("order %d: %d blocks, counted %d", order, n, r.counts[order])
		}
	}
	held := 0
	for n, s := range r.warm.stacks {
		for _, page := range s.pages[:s.n] {
			free += uint64(n)
			held++
			pieces = append(pieces, piece{page << pageShift, (page + uint64(n)) << pageShift, "warm"})
		}
	}
	if held != r.warm.held || free != r.free {
		return fmt.Errorf("%d pages free, counted %d; %d warm, counted %d", free, r.free, held, r.warm.held)
	}

	var used, blocks uint64
	pieceUsed := map[uint32]uint64{}
	for slot := uint32(1); slot <= a.table.rows.made; slot++ {
		row := a.table.rows.at(slot)
		if row.refs == 0 {
			continue
		}
		blocks++
		used += row.capacity
		if row.span == 0 {
			pieces = append(pieces, piece{row.offset, row.offset + row.capacity, fmt.Sprint("slot ", slot)})
			continue
		}
		s := a.heap.slabs.spans.at(row.span)
		if row.capacity != classBytes(int(s.class)) || row.offset < s.page<<pageShift ||
			row.offset+row.capacity > s.page<<pageShift+spanBytes || row.offset%row.capacity != 0 {
			return fmt.Errorf("slot %d lies outside its span", slot)
		}
		pieceUsed[row.span]++
	}
	if blocks != a.table.blocks || used != a.used {
		return fmt.Errorf("%d blocks with %d bytes, counted %d with %d", blocks, used, a.table.blocks, a.used)
	}
	for i, n := range pieceUsed {
		s := a.heap.slabs.spans.at(i)
		if n != uint64(s.used) || s.fresh-s.freed != s.used {
			return fmt.Errorf("span %d: %d pieces in use, counted %d (%d fresh, %d freed)", i, n, s.used, s.fresh, s.freed)
		}
		pieces = append(pieces, piece{s.page << pageShift, s.page<<pageShift + spanBytes, fmt.Sprint("span ", i)})
	}

	var ownedBlocks, ownedBytes uint64
	for o, h := range a.table.owners {
		var n, bytes uint64
		for slot := h.first; slot != 0; slot = a.table.rows.at(slot).next {
			row := a.table.rows.at(slot)
			if row.owner != o || row.refs == 0 {
				return fmt.Errorf("slot %d is listed for owner %d, but is %d's", slot, o, row.owner)
			}
			n++
			bytes += row.capacity
		}
		if n != h.blocks || bytes != h.bytes {
			return fmt.Errorf("owner %d: %d blocks with %d bytes, counted %d with %d", o, n, bytes, h.blocks, h.bytes)
		}
		ownedBlocks += n
		ownedBytes += bytes
	}
	if ownedBlocks != blocks || ownedBytes != used {
		return fmt.Errorf("%d of %d blocks have an owner", ownedBlocks, blocks)
	}

	slices.SortFunc(pieces, func(x, y piece) int { return cmp.Compare(x.from, y.from) })
	var end uint64
	for _, p := range pieces {
		if p.from != end {
			return fmt.Errorf("%s begins at %d, what lies before it ends at %d", p.what, p.from, end)
		}
		end = p.to
	}
	if end != a.heap.size() {
		return fmt.Errorf("records end at %d of %d", end, a.heap.size())
	}
	return nil
}
