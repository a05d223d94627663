package arena

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"inos/shm/internal/mem"
)

// must fails the test when an allocation that has room is refused.
func must(t *testing.T, a *Arena, size uint64, o Owner) Ref {
	t.Helper()
	ref, err := a.Alloc(size, o)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func release(t *testing.T, a *Arena, refs ...Ref) {
	t.Helper()
	for _, ref := range refs {
		if err := a.Release(ref); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCapacityIsClassOrExactPages(t *testing.T) {
	a := newSized(1, 4<<20)
	for _, c := range []struct{ size, want uint64 }{
		{0, 64}, {1, 64}, {64, 64}, {65, 128}, {128, 128}, {129, 256}, {1025, 2048}, {2048, 2048},
		{2049, 4096}, {4096, 4096}, {4097, 8192}, {65 * pageSize, 65 * pageSize}, {65*pageSize + 1, 66 * pageSize},
	} {
		free := a.Stats().Free
		ref := must(t, a, c.size, 1)
		if got := a.Capacity(ref); got != c.want {
			t.Errorf("%d bytes: capacity %d, want %d", c.size, got, c.want)
		}
		if took := free - a.Stats().Free; c.want >= pageSize && took != c.want {
			t.Errorf("%d bytes took %d out of the free pages", c.size, took)
		}
		if ref.Offset%min(c.want, pageSize) != 0 {
			t.Errorf("%d bytes lie at %d", c.size, ref.Offset)
		}
		release(t, a, ref)
	}
}

func TestBlockFreedLastIsUsedFirst(t *testing.T) {
	for _, size := range []uint64{64, 500, 2048, pageSize, 3 * pageSize, 64 << 10} {
		a := newSized(1, 4<<20)
		var refs []Ref
		for range 6 {
			refs = append(refs, must(t, a, size, 1))
		}
		freed := []int{1, 4, 2}
		for _, i := range freed {
			release(t, a, refs[i])
		}
		slices.Reverse(freed)
		for _, i := range freed {
			if got := must(t, a, size, 1); got.Offset != refs[i].Offset || got.Slot != refs[i].Slot {
				t.Errorf("%d bytes: got slot %d at %d, want %d at %d", size, got.Slot, got.Offset, refs[i].Slot, refs[i].Offset)
			}
		}
	}
}

func TestFullArenaSaysWhatIsMissing(t *testing.T) {
	a := newSized(3, 256<<10)
	ref := must(t, a, 192<<10, 1)
	_, err := a.Alloc(100<<10, 1)
	var full *FullError
	if !errors.Is(err, ErrFull) || !errors.As(err, &full) {
		t.Fatal(err)
	}
	if *full != (FullError{Arena: 3, Wanted: 100 << 10, Free: 64 << 10, Largest: 64 << 10}) {
		t.Errorf("%+v", *full)
	}
	if !strings.Contains(err.Error(), "--segment") {
		t.Errorf("no hint in %q", err)
	}
	if _, err := a.Alloc(256<<10+1, 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("block larger than the arena: %v", err)
	}
	if _, err := a.Alloc(math.MaxUint64, 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("block of all bytes there are: %v", err)
	}
	release(t, a, ref)
	must(t, a, 256<<10, 1)
}

func TestSmallBlockTakesAPageWhenNoSlabFits(t *testing.T) {
	a := newSized(1, 5*pageSize)
	must(t, a, 2*pageSize, 1)
	for range 3 {
		if got := a.Capacity(must(t, a, 100, 1)); got != pageSize {
			t.Errorf("capacity %d", got)
		}
	}
	if _, err := a.Alloc(1, 1); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

func TestRunIsJoinedFromNeighbours(t *testing.T) {
	// 100 pages are blocks of 64, 32 and 4: no single one has 99.
	a := newSized(1, 100*pageSize)
	ref := must(t, a, 99*pageSize, 1)
	if s := a.Stats(); s.Free != pageSize {
		t.Errorf("%d bytes free, want one page", s.Free)
	}
	if err := audit(a); err != nil {
		t.Error(err)
	}
	release(t, a, ref)
	if s := a.Stats(); s.Largest != 100*pageSize || len(s.Orders) != 3 {
		t.Errorf("did not grow together again: %+v", s)
	}
}

func TestHugeArenaNeedsNoMemoryToReckon(t *testing.T) {
	const tib = 1 << 40
	for _, size := range []uint64{256 << 10, 4<<30 + 4096, 300 << 30, tib + 12288, 16 * tib} {
		a := newSized(1, size)
		if a.Size() != size {
			t.Fatalf("size %d, want %d", a.Size(), size)
		}
		first := must(t, a, 5000, 1)
		rest := must(t, a, a.Stats().Largest, 1)
		release(t, a, rest)
		big := must(t, a, size/2-64<<10, 1)
		last := must(t, a, size/4, 2)
		if big.Offset+big.Length > size || last.Offset+last.Length > size {
			t.Errorf("blocks end at %d and %d of %d", big.Offset+big.Length, last.Offset+last.Length, size)
		}
		if err := a.Verify(Ref{1, last.Slot, last.Generation, last.Offset, math.MaxUint64}, 2); !errors.Is(err, ErrRange) {
			t.Errorf("length that wraps around: %v", err)
		}
		if err := audit(a); err != nil {
			t.Error(err)
		}
		release(t, a, first, big, last)
		whole := must(t, a, size, 1)
		if whole.Offset != 0 || a.Stats().Free != 0 {
			t.Errorf("whole arena: %+v", whole)
		}
	}
	if got := newSized(1, math.MaxUint64).Size(); got != 16*tib {
		t.Errorf("address space shared out up to %d", got)
	}
}

func TestHostileBytesMisleadNobody(t *testing.T) {
	memory := make([]byte, 1<<20)
	a := New(1, mem.Of(memory))
	var refs []Ref
	for i := range 300 {
		refs = append(refs, must(t, a, uint64(i*7), Owner(i%3)))
	}
	for i := range memory {
		memory[i] = 0xff
	}
	for _, ref := range refs {
		release(t, a, ref)
		for i := range 64 {
			memory[ref.Offset+uint64(i)] = byte(i)
		}
	}
	if err := audit(a); err != nil {
		t.Error(err)
	}
	must(t, a, 1<<20, 1)
}

func TestManyGoroutinesShareAnArena(t *testing.T) {
	a := New(1, mem.Of(make([]byte, 8<<20)))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			o := Owner(g + 1)
			for i := range 2000 {
				ref, err := a.Alloc(uint64(i*97%9000), o)
				if err != nil {
					continue // full for the moment
				}
				view, err := a.View(ref)
				if err != nil {
					t.Error(err)
					return
				}
				for j := range view {
					view[j] = byte(g)
				}
				if err := a.Retain(ref); err != nil {
					t.Error(err)
				}
				if i%100 == 0 {
					a.Reclaim(o)
				} else if err := a.Free(ref, o); err != nil {
					t.Error(err)
				}
				for j := range view {
					if view[j] != byte(g) {
						t.Errorf("owner %d reads what %d wrote", g, view[j])
						return
					}
				}
				if err := a.Release(ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := a.Stats(); s.Blocks != 0 || s.Free != s.Size {
		t.Errorf("left behind: %+v", s)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	a := newSized(1, 64<<20)
	refs := make([]Ref, 200)
	i := 0
	cycle := func() {
		ref := &refs[i%len(refs)]
		if *ref != (Ref{}) {
			release(t, a, *ref)
		}
		*ref = must(t, a, uint64(i*7919%100_000), Owner(i%9))
		i++
	}
	for range 20_000 {
		cycle()
	}
	if n := testing.AllocsPerRun(20_000, cycle); n != 0 {
		t.Errorf("%v allocations for each block", n)
	}
}

func TestStatsAddUp(t *testing.T) {
	a := newSized(4, 1<<20)
	must(t, a, 100, Host)
	must(t, a, 100, 9)
	must(t, a, 10*pageSize, 9)
	a.CountCopy(40)
	a.CountCopy(2)
	s := a.Stats()
	if s.Arena != 4 || s.Used != 2*128+10*pageSize || s.Peak != s.Used || s.Blocks != 3 || s.CopiedIn != 42 {
		t.Errorf("%+v", s)
	}
	if s.Free != s.Size-10*pageSize-spanBytes || s.Classes[1] != (ClassStats{Size: 128, Spans: 1, Blocks: 2, Room: 128}) {
		t.Errorf("%+v", s)
	}
	if want := []OwnerStats{{Host, 1, 128}, {9, 2, 128 + 10*pageSize}}; !slices.Equal(s.Owners, want) {
		t.Errorf("owners %+v", s.Owners)
	}
	var free uint64
	for _, o := range s.Orders {
		free += o.Size * o.Blocks
	}
	if free != s.Free {
		t.Errorf("orders hold %d of %d free bytes", free, s.Free)
	}
	if f := s.Fragmentation(); f != 1-float64(s.Largest)/float64(s.Free) || (Stats{}).Fragmentation() != 0 {
		t.Errorf("fragmentation %v", f)
	}
}
