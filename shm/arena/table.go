package arena

import "math"

// row is what the host knows of one slot: the truth that references are checked
// against.
type row struct {
	place
	generation uint32
	refs       uint32 // 0: the slot is free
	owner      Owner
	prev, next uint32 // among the owner's blocks
}

// holding is the list of one owner's blocks.
type holding struct {
	first  uint32
	blocks uint64
	bytes  uint64
}

// table maps slots to rows and owners to their rows.
type table struct {
	rows    pool[row]
	owners  map[Owner]*holding
	blocks  uint64
	retired uint64 // slots that have no generation left
}

func (t *table) init() { t.owners = map[Owner]*holding{Host: {}} }

// holds reports whether slot was ever given.
func (t *table) holds(slot uint32) bool { return slot != 0 && slot <= t.rows.made }

// first returns a slot of o, 0 when it has none.
func (t *table) first(o Owner) uint32 {
	if h := t.owners[o]; h != nil {
		return h.first
	}
	return 0
}

// add makes a row for a block at p that o owns. It fails when all slots are in
// use.
func (t *table) add(p place, o Owner) (uint32, *row, bool) {
	slot, ok := t.rows.get()
	if !ok {
		return 0, nil, false
	}
	r := t.rows.at(slot)
	r.place, r.refs = p, 1
	if r.generation == 0 {
		r.generation = 1
	}
	t.blocks++
	t.link(slot, r, o)
	return slot, r, true
}

// remove frees a slot. Its generation moves on, so that no reference to it is
// true any more; a slot with no generation left to move to is never used again.
func (t *table) remove(slot uint32, r *row) {
	t.unlink(r)
	t.blocks--
	r.refs = 0
	if r.generation++; r.generation == math.MaxUint32 {
		t.retired++
		return
	}
	t.rows.put(slot)
}

// move makes o the owner of a row.
func (t *table) move(slot uint32, r *row, o Owner) {
	t.unlink(r)
	t.link(slot, r, o)
}

// forget ends the list of an owner that has no blocks, so that owners of the past
// cost nothing.
func (t *table) forget(o Owner) {
	if h := t.owners[o]; o != Host && h != nil && h.blocks == 0 {
		delete(t.owners, o)
	}
}

func (t *table) link(slot uint32, r *row, o Owner) {
	h := t.owners[o]
	if h == nil {
		h = new(holding)
		t.owners[o] = h
	}
	r.owner, r.prev, r.next = o, 0, h.first
	if h.first != 0 {
		t.rows.at(h.first).prev = slot
	}
	h.first = slot
	h.blocks++
	h.bytes += r.capacity
}

func (t *table) unlink(r *row) {
	h := t.owners[r.owner]
	if r.prev != 0 {
		t.rows.at(r.prev).next = r.next
	} else {
		h.first = r.next
	}
	if r.next != 0 {
		t.rows.at(r.next).prev = r.prev
	}
	h.blocks--
	h.bytes -= r.capacity
}
