package arena

import (
	"cmp"
	"slices"
)

// Stats is the state of an arena at one moment. All sizes are bytes.
type Stats struct {
	Arena    uint16
	Size     uint64
	Used     uint64 // capacity of all blocks
	Peak     uint64 // most that Used ever was
	Free     uint64 // in pages that are part of no block and no slab
	Largest  uint64 // longest run of free pages
	Blocks   uint64
	Pins     uint64
	Retired  uint64 // slots that will never be used again
	CopiedIn uint64 // what the host copied into the arena, see CountCopy
	Crossed  uint64 // what it copied from another arena, see CountCrossing

	Classes []ClassStats // every slab class, smallest first
	Orders  []OrderStats // sizes of which there are free blocks, smallest first
	Owners  []OwnerStats // those who have blocks, the host first
}

// ClassStats is the state of one slab class.
type ClassStats struct {
	Size   uint64 // bytes of one block
	Spans  uint64 // 16 KiB each
	Blocks uint64
	Room   uint64 // blocks that fit in the spans, used or not
}

// OrderStats counts the free page blocks of one size.
type OrderStats struct {
	Size   uint64
	Blocks uint64
}

// OwnerStats is what one owner has.
type OwnerStats struct {
	Owner  Owner
	Blocks uint64
	Bytes  uint64
}

// Fragmentation is the share of the free pages that lies outside the longest run
// of them: 0 when one block could have it all, near 1 when it is in crumbs.
func (s Stats) Fragmentation() float64 {
	if s.Free == 0 {
		return 0
	}
	return 1 - float64(s.Largest)/float64(s.Free)
}

// Stats returns the figures of this moment. It walks all owners, so it is for
// people to look at and not for every job.
func (a *Arena) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	runs := &a.heap.runs
	runs.trim()
	_, longest := runs.longest()
	s := Stats{
		Arena: a.id, Size: a.heap.size(), Used: a.used, Peak: a.peak,
		Free: runs.free << pageShift, Largest: longest << pageShift,
		Blocks: a.table.blocks, Pins: a.pins, Retired: a.table.retired, CopiedIn: a.copied.Load(), Crossed: a.crossed.Load(),
	}
	for c, class := range a.heap.slabs.classes {
		size := classBytes(c)
		s.Classes = append(s.Classes, ClassStats{
			Size: size, Spans: class.spans, Blocks: class.used, Room: class.spans * (spanBytes / size),
		})
	}
	for order, n := range runs.counts {
		if n > 0 {
			s.Orders = append(s.Orders, OrderStats{Size: pageSize << order, Blocks: n})
		}
	}
	for o, h := range a.table.owners {
		if h.blocks > 0 {
			s.Owners = append(s.Owners, OwnerStats{Owner: o, Blocks: h.blocks, Bytes: h.bytes})
		}
	}
	slices.SortFunc(s.Owners, func(x, y OwnerStats) int { return cmp.Compare(x.Owner, y.Owner) })
	return s
}
