package registry

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

// same fails when reader and writer do not tell the same story.
func same(t testing.TB, w *Writer, r *Reader) {
	t.Helper()
	got, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := w.Snapshot()
	if len(got) != len(want) {
		t.Fatalf("reader has %d modules, writer %d", len(got), len(want))
	}
	for i := range want {
		normalise(&got[i])
		normalise(&want[i])
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("reader has\n%+v\nwriter\n%+v", got[i], want[i])
		}
	}
}

// normalise makes empty lists nil.
func normalise(m *Module) {
	m.Capabilities = append([]Capability(nil), m.Capabilities...)
	m.Dependencies = append([]Dependency(nil), m.Dependencies...)
	m.Resources.Exclusive = append([]string(nil), m.Resources.Exclusive...)
	for i := range m.Dependencies {
		m.Dependencies[i].Alternatives = append([]string(nil), m.Dependencies[i].Alternatives...)
	}
}

func TestReaderSeesWhatTheWriterWrote(t *testing.T) {
	w, r, _ := newTable(t)
	same(t, w, r)
	place, generation, err := w.Register(ml())
	if err != nil || generation != 2 {
		t.Fatal(generation, err)
	}
	same(t, w, r)
	m, err := r.Lookup("ml")
	if err != nil || m.Generation != 2 || m.Description != ml().Description {
		t.Fatalf("%+v, %v", m, err)
	}
	if id, err := r.Capability("ml.train"); err != nil || id != "ml" {
		t.Errorf("%q, %v", id, err)
	}

	changes := r.Changes()
	if generation, err = w.Update("ml", StateDraining, 1, 7); err != nil || generation != 4 || r.Changes() == changes {
		t.Errorf("generation %d, %v", generation, err)
	}
	if m, err := r.Lookup("ml"); err != nil || m.State != StateDraining || m.Instances != 1 || m.Incarnation != 7 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := r.Capability("ml.train"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a draining module still serves: %v", err)
	}

	next := ml()
	next.Version, next.Capabilities, next.Description = Version{2, 0, 0}, next.Capabilities[:1], strings.Repeat("long ", 200)
	if again, generation, err := w.Register(next); err != nil || again != place || generation != 6 {
		t.Errorf("place %d, generation %d, %v", again, generation, err)
	}
	same(t, w, r)
	if id, ok := w.Capability("ml.train"); ok {
		t.Errorf("%s keeps a capability it gave up", id)
	}

	if err := w.Remove("ml"); err != nil {
		t.Fatal(err)
	}
	same(t, w, r)
	if _, err := r.Lookup("ml"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	_, err1 := w.Update("ml", StateServing, 1, 1)
	if err2 := w.Remove("ml"); !errors.Is(err1, ErrUnknown) || !errors.Is(err2, ErrUnknown) {
		t.Error(err1, err2)
	}
	if _, ok := w.Lookup("ml"); ok {
		t.Error("writer keeps the module")
	}
}

func TestGenerationOfAPlaceNeverGoesBack(t *testing.T) {
	w, _, _ := newTable(t)
	last := uint64(0)
	for range 5 {
		_, generation, err := w.Register(ml())
		if err != nil || generation <= last || generation%2 != 0 {
			t.Fatalf("generation %d after %d, %v", generation, last, err)
		}
		if last = generation; w.Remove("ml") != nil {
			t.Fatal("not removed")
		}
	}
}

func TestCapabilityHasOneModule(t *testing.T) {
	w, r, _ := newTable(t)
	register(t, w, ml())
	thief := small(1)
	thief.Capabilities = append(thief.Capabilities, Capability{Name: "ml.infer"})
	if _, _, err := w.Register(thief); !errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), `"ml"`) {
		t.Fatal(err)
	}
	if _, ok := w.Capability("module-1.run"); ok {
		t.Error("the refused module kept its other capability")
	}
	same(t, w, r)
	if err := w.Remove("ml"); err != nil {
		t.Fatal(err)
	}
	register(t, w, thief)
	if id, ok := w.Capability("ml.infer"); !ok || id != "module-1" {
		t.Errorf("%q", id)
	}
}

func TestCallersCannotChangeTheTable(t *testing.T) {
	w, _, _ := newTable(t)
	m := ml()
	register(t, w, m)
	m.Capabilities[0].Name, m.Dependencies[1].Alternatives[0] = "x", "x"
	got, _ := w.Lookup("ml")
	got.Capabilities[0].Name, got.Resources.Exclusive[0] = "x", "x"
	w.Snapshot()[0].Dependencies[1].Alternatives[0] = "x"
	if after, _ := w.Lookup("ml"); after.Capabilities[0].Name != "ml.infer" || after.Resources.Exclusive[0] == "x" ||
		after.Dependencies[1].Alternatives[0] != "gpu-soft" {
		t.Errorf("%+v", after)
	}
}

func TestMemoryIsKeptInWholeMiB(t *testing.T) {
	w, r, _ := newTable(t)
	m := small(1)
	m.Capabilities[0].MinMemory = 1<<20 + 1
	register(t, w, m)
	got, err := r.Lookup("module-1")
	if err != nil || got.Capabilities[0].MinMemory != 2<<20 {
		t.Errorf("%+v, %v", got, err)
	}
	same(t, w, r)
}

func TestModulesPastTheSlotsOverflow(t *testing.T) {
	w, r, _ := newTable(t)
	seen := map[int]bool{}
	for i := range places {
		place := register(t, w, small(i))
		if seen[place] || i < slots && place >= slots || i >= slots && place != i {
			t.Fatalf("module %d stands at %d", i, place)
		}
		seen[place] = true
	}
	same(t, w, r)
	if _, _, err := w.Register(small(places)); !errors.Is(err, ErrFull) {
		t.Fatalf("module %d: %v", places+1, err)
	}
	for i := range places {
		if m, err := r.Lookup(small(i).ID); err != nil || m.Version.Major != uint16(i) {
			t.Fatalf("module %d: %+v, %v", i, m, err)
		}
	}
	for i := 0; i < places; i += 3 {
		if err := w.Remove(small(i).ID); err != nil {
			t.Fatal(err)
		}
	}
	same(t, w, r)
	for i := range places {
		if _, err := r.Lookup(small(i).ID); (err == nil) != (i%3 != 0) {
			t.Fatalf("module %d: %v", i, err)
		}
	}
}

func TestFullTablesLeaveEverythingAsItWas(t *testing.T) {
	for name, fat := range map[string]func(m *Module, i int){
		"capabilities": func(m *Module, i int) {
			for j := range MaxCapabilities - 1 {
				m.Capabilities = append(m.Capabilities, Capability{Name: fmt.Sprintf("m%d.c%d", i, j)})
			}
		},
		"dependencies": func(m *Module, i int) {
			for j := range MaxDependencies {
				m.Dependencies = append(m.Dependencies, Dependency{Module: fmt.Sprintf("d%d", j), Max: anyVersion})
			}
		},
		"strings": func(m *Module, i int) { m.Description = strings.Repeat("x", MaxDescription) },
	} {
		w, r, _ := newTable(t)
		var err error
		i := 0
		for ; err == nil; i++ {
			m := small(i)
			fat(&m, i)
			_, _, err = w.Register(m)
		}
		if !errors.Is(err, ErrFull) || i < 10 || i > places {
			t.Fatalf("%s: after %d modules: %v", name, i, err)
		}
		same(t, w, r)
		for _, m := range w.Snapshot() {
			if err := w.Remove(m.ID); err != nil {
				t.Fatal(err)
			}
		}
		for what, got := range map[string]struct {
			r    ranges
			want uint64
		}{
			"capabilities": {w.records.capabilities, uint64(system.CapabilityEntries)},
			"dependencies": {w.records.dependencies, uint64(system.DependencyEntries)},
			"strings":      {w.records.strings, stringsSize / detailUnit},
		} {
			if !slices.Equal(got.r.free, []extent{{0, got.want}}) {
				t.Errorf("%s: %s left in pieces: %v", name, what, got.r.free)
			}
		}
		if len(w.capabilities) != 0 {
			t.Errorf("%s: capabilities left: %v", name, w.capabilities)
		}
	}
}

func TestAreasOfTheWrongSizeAreRefused(t *testing.T) {
	whole := carve(make([]byte, totalSize()))
	for name, areas := range map[string]Areas{
		"none":         {},
		"registry":     {Overflow: whole.Overflow, Capabilities: whole.Capabilities, Dependencies: whole.Dependencies},
		"capabilities": {whole.Registry, whole.Overflow, whole.Registry, whole.Dependencies, whole.Strings},
	} {
		_, err1 := NewWriter(areas)
		_, err2 := NewReader(areas)
		if !errors.Is(err1, ErrArea) || !errors.Is(err2, ErrArea) {
			t.Errorf("%s: %v, %v", name, err1, err2)
		}
	}
	w, err := NewWriter(Areas{whole.Registry, whole.Overflow, whole.Capabilities, whole.Dependencies, mem.Region{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Register(ml()); !errors.Is(err, ErrFull) {
		t.Errorf("no strings at all: %v", err)
	}
}

func TestProbeComesByEveryPlaceOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[int]bool{}
		for place := range probe(rapid.Uint32().Draw(t, "crc"), rapid.Uint32().Draw(t, "fnv")) {
			if seen[place] || place < 0 || place >= places {
				t.Fatalf("place %d", place)
			}
			seen[place] = true
		}
		if len(seen) != places {
			t.Fatalf("%d places", len(seen))
		}
	})
}
