package layout

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos/protocols/system/v1"
)

func TestTablesOfEveryRingSizePass(t *testing.T) {
	if err := Control().Check(); err != nil {
		t.Error(err)
	}
	for n := system.RingEntriesMinimum; n <= system.RingEntriesMaximum; n *= 2 {
		table, err := Link(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Check(); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
		if table.Size()%uint64(system.PageSize) != 0 {
			t.Errorf("%d entries: %d bytes are not whole pages", n, table.Size())
		}
	}
}

func TestLinkRefusesRingSizes(t *testing.T) {
	for _, n := range []uint32{0, 1, 8, 15, 17, 1000, 65535, 131072, math.MaxUint32} {
		if _, err := Link(n); err == nil {
			t.Errorf("%d entries were accepted", n)
		}
	}
}

func TestControlLeavesRoomInTheSmallestSegment(t *testing.T) {
	if size := Control().Size(); size > system.SegmentMinimum/4 {
		t.Errorf("the control part takes %d bytes of %d", size, system.SegmentMinimum)
	}
}

func TestCheckNamesEveryFlaw(t *testing.T) {
	for _, c := range []struct {
		name  string
		table Table
		want  []string
	}{
		{"overlap", Table{{Name: "b", Offset: 64, Size: 64}, {Name: "a", Size: 65}}, []string{"a ends at 65, b starts at 64"}},
		{"same start", Table{{Name: "a", Size: 1}, {Name: "b", Size: 1}}, []string{"ends at 1"}},
		{"misaligned", Table{{Name: "a", Offset: 8, Size: 8}}, []string{"a starts at 8"}},
		{"empty", Table{{Name: "a"}}, []string{"a is empty"}},
		{"twice", Table{{Name: "a", Size: 1}, {Name: "a", Offset: 64, Size: 1}}, []string{"two areas are called a"}},
		{"nameless", Table{{Size: 1}}, []string{"has no name"}},
		{"wraps around", Table{{Name: "a", Offset: 64, Size: math.MaxUint64 - 63}}, []string{"ends beyond"}},
		{"too far", Table{{Name: "a", Offset: 1 << 63, Size: 1}}, []string{"ends beyond"}},
		{"all at once", Table{{Offset: 3}}, []string{"no name", "empty", "starts at 3"}},
	} {
		err := c.table.Check()
		if !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
}

// TestCheckAgreesWithBytes compares Check with a map of every single byte.
func TestCheckAgreesWithBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table
		taken := map[uint64]bool{}
		overlap := false
		for i := range rapid.IntRange(1, 6).Draw(t, "areas") {
			a := Area{
				Name:   string(rune('a' + i)),
				Offset: 64 * rapid.Uint64Range(0, 20).Draw(t, "line"),
				Size:   rapid.Uint64Range(1, 200).Draw(t, "size"),
			}
			table = append(table, a)
			for b := a.Offset; b < a.End(); b++ {
				overlap = overlap || taken[b]
				taken[b] = true
			}
		}
		if err := table.Check(); (err != nil) != overlap {
			t.Fatalf("overlap %v, but Check says %v of\n%s", overlap, err, table)
		}
	})
}

// TestHashIsPinned fails whenever the layout moves. Then the ABI moves with it:
// see docs/plugin-abi.md, then put the new number here.
func TestHashIsPinned(t *testing.T) {
	const want = 0x520810fc663dfd1c
	if Hash() != want {
		t.Errorf("the layout hash is %#x, was %#x:\n%s", Hash(), uint64(want), Control())
	}
}

func TestHashMovesWithEveryField(t *testing.T) {
	base := Control()
	for name, change := range map[string]func(*Area){
		"name":   func(a *Area) { a.Name += "x" },
		"offset": func(a *Area) { a.Offset += 64 },
		"size":   func(a *Area) { a.Size++ },
		"owner":  func(a *Area) { a.Owner = Plugin },
		"writer": func(a *Area) { a.Writer = Both },
	} {
		changed := Control()
		change(&changed[2])
		if changed.Hash() == base.Hash() {
			t.Errorf("the hash does not cover the %s", name)
		}
	}
}

func TestFind(t *testing.T) {
	table := Control()
	if a, ok := table.Find(Registry); !ok || a.Name != Registry || a.Size == 0 {
		t.Errorf("found %+v, %v", a, ok)
	}
	if _, ok := table.Find(Submissions); ok {
		t.Error("the control part has no rings")
	}
}
