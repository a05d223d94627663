package registry

import (
	"fmt"
	"testing"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

// stringsSize is small, so that it can be filled.
const stringsSize = 256 << 10

// sizes of the areas in the order that carve takes them.
var sizes = []uint64{
	uint64(system.CacheLine) + uint64(slots*entrySize),
	uint64(system.OverflowPages) * overflowPage,
	uint64(system.CapabilityEntries) * uint64(capabilitySize),
	uint64(system.DependencyEntries) * uint64(dependencySize),
	stringsSize,
}

func totalSize() (n uint64) {
	for _, s := range sizes {
		n += s
	}
	return n
}

// carve returns the areas that lie one after another in b.
func carve(b []byte) Areas {
	r := mem.Of(b)
	var parts [5]mem.Region
	off := uint64(0)
	for i, s := range sizes {
		parts[i] = r.MustSub(off, s)
		off += s
	}
	return Areas{Registry: parts[0], Overflow: parts[1], Capabilities: parts[2], Dependencies: parts[3], Strings: parts[4]}
}

func newTable(t testing.TB) (*Writer, *Reader, Areas) {
	t.Helper()
	areas := carve(make([]byte, totalSize()))
	w, err := NewWriter(areas)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(areas)
	if err != nil {
		t.Fatal(err)
	}
	return w, r, areas
}

var anyVersion = Version{65535, 65535, 65535}

// ml is a module that uses every field.
func ml() Module {
	return Module{
		ID: "ml", Version: Version{1, 20, 300}, Incarnation: 0x01020304, State: StateServing, Instances: 3,
		Resources: Resources{
			CPUCores: 4, Memory: 2 << 30, Arena: 1<<33 + 1, GPUMemory: 4 << 30, IOIntensive: true, NetworkIntensive: true,
			Exclusive: []string{"/dev/dri/card0", "tcp:8080"},
		},
		Cost: Cost{Base: 1000, PerMB: 100, PerSecond: 1 << 40},
		Capabilities: []Capability{
			{Name: "ml.infer", MinMemory: 512 << 20, Flags: Idempotent | NeedsGPU},
			{Name: "ml.train", MinMemory: MaxMinMemory, Flags: Streams},
			{Name: "ml.abcdefghijklmnopqrstuvwxyz01"},
		},
		Dependencies: []Dependency{
			{Module: "storage", Min: Version{1, 0, 0}, Max: anyVersion},
			{Module: "gpu", Min: Version{0, 9, 1}, Max: Version{2, 0, 0}, Optional: true, Alternatives: []string{"gpu-soft", "gpu-cuda"}},
		},
		Description: "inference and training — with café",
	}
}

// small is a module of little.
func small(i int) Module {
	return Module{
		ID: fmt.Sprintf("module-%d", i), Version: Version{Major: uint16(i)}, State: StateStarting,
		Capabilities: []Capability{{Name: fmt.Sprintf("module-%d.run", i)}},
	}
}

func register(t testing.TB, w *Writer, m Module) int {
	t.Helper()
	place, _, err := w.Register(m)
	if err != nil {
		t.Fatal(err)
	}
	return place
}
