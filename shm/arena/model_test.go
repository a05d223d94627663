package arena

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"inos/shm/internal/mem"
)

var (
	seedFlag = flag.Uint64("arena.seed", 0, "seed of the model test, 0 for a new one (or ARENA_SEED)")
	opsFlag  = flag.Int("arena.ops", 1_000_000, "operations of the model test in all")
)

// seed returns the seed to use and prints how to get it again.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s, _ = strconv.ParseUint(os.Getenv("ARENA_SEED"), 10, 64)
	}
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with: go test -run '%s' ./shm/arena -arena.seed=%d", t.Name(), s)
	return s
}

// modelBlock is what the model knows of a live block.
type modelBlock struct {
	ref     Ref
	owner   Owner
	readers int
	held    bool // the owner's own reference is still there
	stamp   uint64
}

// model is the simplest thing that behaves like an arena: a list of blocks, and
// an array that says for each 64 bytes whose they are.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	arena  *Arena
	bytes  []byte
	units  []uint32 // slot that covers each 64 bytes, 0 for none
	blocks []*modelBlock
	last   map[uint32]uint32 // newest generation seen of each slot
	gone   []Ref             // references that must be refused for ever
	stamps uint64
}

func TestArenaBehavesLikeItsModel(t *testing.T) {
	first := seed(t)
	sizes := []uint64{256 << 10, 1<<20 + 12<<10, 8 << 20, 24<<20 - 4096}
	for i, size := range sizes {
		m := &model{
			t: t, rng: rand.New(rand.NewPCG(first, uint64(i))),
			bytes: make([]byte, size), units: make([]uint32, size/64), last: map[uint32]uint32{},
		}
		m.arena = New(uint16(i+1), mem.Of(m.bytes))
		m.run(*opsFlag / len(sizes))
	}
}

func (m *model) run(ops int) {
	before := m.arena.Stats()
	for op := range ops {
		// The pressure to allocate swings, so that the arena is full and empty by turns.
		push := 35
		if op/5000%2 == 1 {
			push = 15
		}
		switch n := m.rng.IntN(100); {
		case n < push:
			m.alloc()
		case n < 55:
			m.drop()
		case n < 65:
			m.retain()
		case n < 75:
			m.transfer()
		case n < 99:
			m.refuse()
		case m.rng.IntN(40) == 0:
			m.reclaim()
		}
		if op%20_000 == 0 {
			m.check()
		}
	}
	m.check()
	for len(m.blocks) > 0 {
		m.drop()
	}
	after := m.arena.Stats()
	m.check()
	if after.Used != 0 || after.Blocks != 0 || after.Free != before.Free || after.Largest != before.Largest ||
		len(after.Orders) != len(before.Orders) {
		m.t.Fatalf("empty arena is not as it began:\n%+v\n%+v", before, after)
	}
	for i := range after.Orders {
		if after.Orders[i] != before.Orders[i] {
			m.t.Fatalf("free blocks %+v, at first %+v", after.Orders, before.Orders)
		}
	}
}

// size draws small sizes most of the time, and now and then one of any length.
func (m *model) size() uint64 {
	switch n := m.rng.IntN(100); {
	case n < 60:
		return m.rng.Uint64N(2049)
	case n < 90:
		return m.rng.Uint64N(40_000)
	case n < 99:
		return m.rng.Uint64N(300_000)
	default:
		return m.rng.Uint64N(uint64(len(m.bytes)) + 5000)
	}
}

func (m *model) owner() Owner { return Owner(m.rng.IntN(6)) }

func (m *model) alloc() {
	size, o := m.size(), m.owner()
	ref, err := m.arena.Alloc(size, o)
	var full *FullError
	switch {
	case size > uint64(len(m.bytes)):
		if !errors.Is(err, ErrTooLarge) {
			m.t.Fatalf("%d of %d bytes: %v", size, len(m.bytes), err)
		}
		return
	case errors.As(err, &full):
		if full.Wanted != size || full.Largest >= (max(size, 1)+4095)&^4095 {
			m.t.Fatalf("refused although there is room: %v", err)
		}
		return
	case err != nil:
		m.t.Fatal(err)
	}
	if ref.Length != size || ref.Arena != m.arena.ID() {
		m.t.Fatalf("asked for %d bytes, got %+v", size, ref)
	}
	if last, ok := m.last[ref.Slot]; ok && ref.Generation != last+1 {
		m.t.Fatalf("slot %d went from generation %d to %d", ref.Slot, last, ref.Generation)
	}
	m.last[ref.Slot] = ref.Generation
	capacity := m.arena.Capacity(ref)
	if capacity < size {
		m.t.Fatalf("%d bytes wanted, %d given", size, capacity)
	}
	if size > 2048 && capacity != (size+4095)&^4095 {
		m.t.Fatalf("%d bytes take %d, not whole pages and no more", size, capacity)
	}
	for u := ref.Offset / 64; u < (ref.Offset+capacity)/64; u++ {
		if m.units[u] != 0 {
			m.t.Fatalf("%+v overlaps slot %d", ref, m.units[u])
		}
		m.units[u] = ref.Slot
	}
	m.stamps++
	b := &modelBlock{ref: ref, owner: o, held: true, stamp: m.stamps}
	m.blocks = append(m.blocks, b)
	whole := ref
	whole.Length = capacity
	view, err := m.arena.View(whole)
	if err != nil || uint64(len(view)) != capacity || cap(view) != len(view) {
		m.t.Fatalf("view of %d bytes: %d, %v", capacity, len(view), err)
	}
	binary.LittleEndian.PutUint64(view, b.stamp)
	binary.LittleEndian.PutUint64(view[capacity-8:], b.stamp)
}

// pick draws a live block.
func (m *model) pick() (int, *modelBlock) {
	if len(m.blocks) == 0 {
		return 0, nil
	}
	i := m.rng.IntN(len(m.blocks))
	return i, m.blocks[i]
}

func (m *model) drop() {
	i, b := m.pick()
	if b == nil {
		return
	}
	capacity := m.arena.Capacity(b.ref)
	var err error
	if b.held && (b.readers == 0 || m.rng.IntN(2) == 0) {
		err = m.arena.Free(b.ref, b.owner)
		b.held, b.owner = false, Host
	} else {
		err = m.arena.Release(b.ref)
		b.readers--
	}
	if err != nil {
		m.t.Fatalf("%+v: %v", b, err)
	}
	if !b.held && b.readers == 0 {
		m.remove(i, capacity)
	} else if err := m.arena.Verify(b.ref, b.owner); err != nil {
		m.t.Fatalf("block with references left: %v", err)
	}
}

// remove forgets block i, which the arena must just have freed.
func (m *model) remove(i int, capacity uint64) {
	b := m.blocks[i]
	if got := binary.LittleEndian.Uint64(m.bytes[b.ref.Offset:]); got != b.stamp {
		m.t.Fatalf("block %+v was written by block %d", b, got)
	}
	if got := binary.LittleEndian.Uint64(m.bytes[b.ref.Offset+capacity-8:]); got != b.stamp {
		m.t.Fatalf("end of block %+v was written by block %d", b, got)
	}
	for u := b.ref.Offset / 64; u < (b.ref.Offset+capacity)/64; u++ {
		m.units[u] = 0
	}
	if err := m.arena.Verify(b.ref, b.owner); !errors.Is(err, ErrStale) {
		m.t.Fatalf("freed block: %v", err)
	}
	m.gone = append(m.gone, b.ref)
	m.blocks[i] = m.blocks[len(m.blocks)-1]
	m.blocks = m.blocks[:len(m.blocks)-1]
}

func (m *model) retain() {
	_, b := m.pick()
	if b == nil || b.readers > 3 {
		return
	}
	if err := m.arena.Retain(b.ref); err != nil {
		m.t.Fatal(err)
	}
	b.readers++
}

func (m *model) transfer() {
	_, b := m.pick()
	if b == nil || !b.held {
		return
	}
	to := m.owner()
	if b.owner != to {
		if err := m.arena.Transfer(b.ref, to, to); !errors.Is(err, ErrForeign) {
			m.t.Fatalf("someone else's block given away: %v", err)
		}
	}
	if err := m.arena.Transfer(b.ref, b.owner, to); err != nil {
		m.t.Fatal(err)
	}
	b.owner = to
}

func (m *model) reclaim() {
	o := 1 + Owner(m.rng.IntN(5))
	var capacities []uint64
	for _, b := range m.blocks {
		capacities = append(capacities, m.arena.Capacity(b.ref))
	}
	blocks, bytes := m.arena.Reclaim(o)
	for i := len(m.blocks) - 1; i >= 0; i-- {
		b := m.blocks[i]
		if b.owner != o {
			continue
		}
		b.held, b.owner = false, Host
		if b.readers == 0 {
			blocks--
			bytes -= capacities[i]
			m.remove(i, capacities[i])
		} else if err := m.arena.Verify(b.ref, Host); err != nil {
			m.t.Fatalf("block with readers after its owner died: %v", err)
		}
	}
	if blocks != 0 || bytes != 0 {
		m.t.Fatalf("%d blocks and %d bytes reclaimed too many", blocks, bytes)
	}
}
