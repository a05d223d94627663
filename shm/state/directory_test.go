package state

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"inos/shm/arena"
	"inos/shm/internal/mem"
)

func newArena(id uint16) (*arena.Arena, []byte) {
	memory := bytes.Repeat([]byte{0x5a}, 1<<20)
	return arena.New(id, mem.Of(memory)), memory
}

func TestNextProcessFindsTheModulesState(t *testing.T) {
	a, memory := newArena(2)
	d := NewDirectory()
	ref, fresh, err := d.Open("science", "lattice", 4, 1000, a)
	if err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	attach := func() *Block {
		view, err := arena.NewClient(2, mem.Of(memory)).View(ref)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Attach(view)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := attach()
	if !bytes.Equal(first.Current(), make([]byte, 1024)) {
		t.Error("fresh state is not zero")
	}
	copy(first.Next(), "step 1")
	first.Commit()
	copy(first.Next(), "step 2, never")

	a.Reclaim(7) // the process is dead
	again, fresh, err := d.Open("science", "lattice", 4, 900, a)
	if err != nil || fresh || again != ref {
		t.Fatalf("%+v, fresh %v, %v", again, fresh, err)
	}
	second := attach()
	if !bytes.HasPrefix(second.Current(), []byte("step 1")) {
		t.Errorf("successor finds %q", second.Current()[:16])
	}
}

func TestNextSchemaHasABlockOfItsOwn(t *testing.T) {
	a, _ := newArena(2)
	d := NewDirectory()
	if _, ok := d.Find("m", "a", 1); ok {
		t.Error("found what is not there")
	}
	old, _, err := d.Open("m", "a", 1, 100, a)
	if err != nil {
		t.Fatal(err)
	}
	next, fresh, err := d.Open("m", "a", 2, 100, a)
	if err != nil || !fresh || next == old {
		t.Fatalf("%+v, fresh %v, %v", next, fresh, err)
	}
	if ref, ok := d.Find("m", "a", 1); !ok || ref != old {
		t.Errorf("the old block: %+v, %v", ref, ok)
	}
	if err := d.Keep("m", func(e Entry) bool { return e.Schema == 2 }); err != nil {
		t.Fatal(err)
	}
	if l := d.List(); len(l) != 1 || l[0].Ref != next {
		t.Errorf("left: %+v", l)
	}
	if s := a.Stats(); s.Blocks != 1 {
		t.Errorf("%d blocks", s.Blocks)
	}
}

func TestDirectoryRefusesWhatDoesNotFit(t *testing.T) {
	a, _ := newArena(2)
	other, _ := newArena(3)
	d := NewDirectory()
	if _, _, err := d.Open("m", "a", 1, 100, a); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		name  string
		bytes uint64
		a     *arena.Arena
		want  error
	}{
		"growth":            {"a", 129, a, ErrSize},
		"another arena":     {"a", 100, other, ErrArena},
		"more than there":   {"b", 1 << 20, a, arena.ErrTooLarge},
		"more than is left": {"b", 520_000, a, arena.ErrFull},
		"size that wraps":   {"b", math.MaxUint64, a, arena.ErrTooLarge},
	} {
		if _, _, err := d.Open("m", c.name, 1, c.bytes, c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for i := 1; i < MaxBlocks; i++ {
		if _, _, err := d.Open("m", fmt.Sprint("block-", i), 1, 0, a); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := d.Open("m", "one-more", 1, 0, a); !errors.Is(err, ErrTooMany) {
		t.Errorf("block %d: %v", MaxBlocks+1, err)
	}
}

func TestDroppedStateLeavesNothing(t *testing.T) {
	a, _ := newArena(2)
	d := NewDirectory()
	for _, module := range []string{"b", "a"} {
		for _, name := range []string{"y", "x"} {
			if _, _, err := d.Open(module, name, 1, 100, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got string
	for _, e := range d.List() {
		got += fmt.Sprintf("%s/%s %d ", e.Module, e.Name, e.Bytes)
	}
	if got != "a/x 128 a/y 128 b/x 128 b/y 128 " {
		t.Errorf("list: %s", got)
	}
	if err := errors.Join(d.Drop("a"), d.Drop("never"), d.Keep("never", nil), d.Keep("b", func(Entry) bool { return false })); err != nil {
		t.Error(err)
	}
	if left := d.List(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if s := a.Stats(); s.Blocks != 0 || s.Free != s.Size {
		t.Errorf("arena keeps %+v", s)
	}
}

// TestHostNeverReadsTheHeader scribbles over the whole arena: the directory must
// go on as if nothing were.
func TestHostNeverReadsTheHeader(t *testing.T) {
	a, memory := newArena(2)
	d := NewDirectory()
	ref, _, err := d.Open("m", "a", 1, 100, a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range memory {
		memory[i] = 0xff
	}
	again, fresh, err := d.Open("m", "a", 1, 128, a)
	if err != nil || again != ref || fresh {
		t.Errorf("%+v, fresh %v, %v", again, fresh, err)
	}
	if e := d.List()[0]; e.Schema != 1 || e.Bytes != 128 {
		t.Errorf("%+v", e)
	}
	if err := d.Drop("m"); err != nil {
		t.Error(err)
	}
}
