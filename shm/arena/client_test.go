package arena

import (
	"errors"
	"math"
	"testing"

	"inos/shm/internal/mem"
)

func TestClientSeesWhatTheHostWrote(t *testing.T) {
	memory := mem.Of(make([]byte, 1<<20))
	a, c := New(5, memory), NewClient(5, memory)
	ref := must(t, a, 300, 1)
	host, err := a.View(ref)
	if err != nil {
		t.Fatal(err)
	}
	copy(host, "zero copies")
	plugin, err := c.View(ref)
	if err != nil || string(plugin[:11]) != "zero copies" || len(plugin) != 300 || cap(plugin) != 300 {
		t.Errorf("%q, %v", plugin, err)
	}
}

func TestClientNeverLooksOutside(t *testing.T) {
	c := NewClient(5, mem.Of(make([]byte, 8192)))
	for _, ref := range []Ref{
		{Arena: 4, Length: 1}, {},
		{Arena: 5, Offset: 8192, Length: 1}, {Arena: 5, Length: 8193}, {Arena: 5, Offset: 4096, Length: 4097},
		{Arena: 5, Offset: math.MaxUint64, Length: 1}, {Arena: 5, Offset: 1, Length: math.MaxUint64},
	} {
		if _, err := c.View(ref); !errors.Is(err, ErrBadRef) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}

// FuzzReference tries references of every kind on an arena with some live and
// some freed blocks. Only those that are right in every part may pass, and the
// client must not leave its mapping.
func FuzzReference(f *testing.F) {
	const size = 1 << 20
	memory := mem.Of(make([]byte, size))
	a, c := New(1, memory), NewClient(1, memory)
	live := map[uint32]Ref{}
	for i := range 40 {
		ref, err := a.Alloc(uint64(i*i*13), Owner(i%4))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ref.Arena, ref.Slot, ref.Generation, ref.Offset, ref.Length, uint32(i%4))
		if i%3 == 0 {
			if err := a.Release(ref); err != nil {
				f.Fatal(err)
			}
			continue
		}
		live[ref.Slot] = ref
	}
	f.Add(uint16(1), uint32(math.MaxUint32), uint32(1), uint64(math.MaxUint64), uint64(math.MaxUint64), uint32(0))
	f.Fuzz(func(t *testing.T, arena uint16, slot, generation uint32, offset, length uint64, owner uint32) {
		ref := Ref{arena, slot, generation, offset, length}
		truth, ok := live[slot]
		ok = ok && arena == 1 && generation == truth.Generation && offset == truth.Offset && length <= a.Capacity(truth)
		view, err := a.View(ref)
		if (err == nil) != ok || uint64(len(view)) != length && ok {
			t.Fatalf("%+v: view of %d bytes, %v", ref, len(view), err)
		}
		if ok {
			o := a.table.rows.at(slot).owner
			if err := a.Verify(ref, Owner(owner)); (err == nil) != (o == Owner(owner)) {
				t.Fatalf("%+v of %d, asked for %d: %v", ref, o, owner, err)
			}
		} else if err := a.Verify(ref, Owner(owner)); !errors.Is(err, ErrBadRef) {
			t.Fatalf("%+v: %v", ref, err)
		}
		view, err = c.View(ref)
		inside := arena == 1 && offset <= size && length <= size-offset
		if (err == nil) != inside || inside && uint64(len(view)) != length {
			t.Fatalf("%+v: client's view of %d bytes, %v", ref, len(view), err)
		}
	})
}
