// Package layout says where everything lies in the parts of the segment: one
// table for each part, computed from the constants of protocols/system/v1 and
// from nothing else.
//
// Both sides of a link compute the same tables and compare hashes at attach, so
// a plugin built against another layout is refused before it touches anything.
// The package never looks at memory and never takes a table from a peer.
package layout

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"

	"inos/protocols/system/v1"
)

// Names of the areas. The header opens every part.
const (
	Header = "header"
	Epochs = "epochs"

	Registry     = "registry"
	Overflow     = "overflow"
	Capabilities = "capabilities"
	Dependencies = "dependencies"
	Strings      = "strings"

	Bells       = "bells"
	Submissions = "submissions"
	Completions = "completions"
	Credits     = "credits"
)

// Who owns or may write an area.
const (
	Host   = "host"
	Plugin = "plugin"
	Both   = "host and plugin"
)

// Sizes in bytes that follow from others or belong to one area alone.
const (
	// RegistryHeader precedes the in-line entries of the registry area.
	RegistryHeader = uint64(system.CacheLine)
	// OverflowPage is a header line and its entries, one page exactly.
	OverflowPage = uint64(system.OverflowHeader) + uint64(system.OverflowEntries)*uint64(system.RegistryEntrySize)
	// StringsSize holds the long texts of the registry: 240 bytes for each module
	// that fits in it.
	StringsSize = 256 << 10
	// BellSize is one cache line for each bell of a link.
	BellSize = uint64(system.CacheLine)
	// PluginBell and HostBell are the offsets of the two bells within their area.
	// A bell is named for the side that waits on it.
	PluginBell = 0
	HostBell   = BellSize
)

// The compiler refuses any of these arrays when the condition beside it fails.
var (
	_ = [1]struct{}{}[system.DescriptorSize%system.CacheLine]                  // a descriptor fills whole lines
	_ = [1]struct{}{}[system.RingHeader%system.CacheLine]                      // the first one starts on a line
	_ = [1]struct{}{}[system.EpochStride%system.CacheLine]                     // an epoch has its line to itself
	_ = [1]struct{}{}[system.PageSize%system.CacheLine]                        // a page holds whole lines
	_ = [1]struct{}{}[OverflowPage%uint64(system.PageSize)]                    // overflow entries fill pages
	_ = [1]struct{}{}[system.RingEntriesDefault&(system.RingEntriesDefault-1)] // power of two
)

// Control returns the table of the part that the host alone writes.
func Control() Table {
	return place([]Area{
		{Name: Header, Size: uint64(system.HeaderSize)},
		{Name: Epochs, Size: uint64(system.EpochCount) * uint64(system.EpochStride)},
		{Name: Registry, Size: RegistryHeader + uint64(system.RegistrySlots)*uint64(system.RegistryEntrySize)},
		{Name: Overflow, Size: uint64(system.OverflowPages) * OverflowPage},
		{Name: Capabilities, Size: uint64(system.CapabilityEntries) * uint64(system.CapabilityEntrySize)},
		{Name: Dependencies, Size: uint64(system.DependencyEntries) * uint64(system.DependencyEntrySize)},
		{Name: Strings, Size: StringsSize},
	}, Host)
}

// Link returns the table of the part that one plugin shares with the host, whose
// rings have ringEntries descriptors each: a power of two within the bounds of
// protocols/system/v1.
//
// The kernel lets both sides write all of a link, and Writer says so. Owner is the
// side whose words they are: what the other side finds there, it treats as a
// claim.
func Link(ringEntries uint32) (Table, error) {
	if ringEntries < system.RingEntriesMinimum || ringEntries > system.RingEntriesMaximum || bits.OnesCount32(ringEntries) != 1 {
		return nil, fmt.Errorf("layout: %d ring entries: use a power of two from %d to %d",
			ringEntries, system.RingEntriesMinimum, system.RingEntriesMaximum)
	}
	ring := uint64(system.RingHeader) + uint64(ringEntries)*uint64(system.DescriptorSize)
	return place([]Area{
		{Name: Header, Size: uint64(system.HeaderSize)},
		{Name: Epochs, Size: uint64(system.EpochCount) * uint64(system.EpochStride), Owner: Plugin},
		{Name: Bells, Size: 2 * BellSize, Owner: Both},
		{Name: Submissions, Size: ring},
		{Name: Completions, Size: ring, Owner: Plugin},
		{Name: Credits, Size: ring},
	}, Both), nil
}

// place lays the areas one after another on cache lines, the host's where no
// other owner is named, and all of them written by writer.
func place(t Table, writer string) Table {
	var end uint64
	for i := range t {
		t[i].Offset, t[i].Writer = end, writer
		end = roundUp(end+t[i].Size, uint64(system.CacheLine))
		if t[i].Owner == "" {
			t[i].Owner = Host
		}
	}
	return t
}

// roundUp rounds n up to a multiple of unit, a power of two.
func roundUp(n, unit uint64) uint64 { return (n + unit - 1) &^ (unit - 1) }

// hash is computed once, when the program starts, and the tables are checked
// then: a program whose tables overlap must not run at all.
var hash = func() uint64 {
	link, err := Link(system.RingEntriesDefault)
	if err != nil {
		panic(err)
	}
	h := fnv.New64a()
	for _, t := range []Table{Control(), link} {
		if err := t.Check(); err != nil {
			panic(err)
		}
		io.WriteString(h, t.String())
	}
	fmt.Fprintf(h, "descriptor %d ring header %d epoch %d+%d module %d overflow header %d capability %d dependency %d",
		system.DescriptorSize, system.RingHeader, system.EpochStride, system.EpochParkOffset, system.RegistryEntrySize,
		system.OverflowHeader, system.CapabilityEntrySize, system.DependencyEntrySize)
	return h.Sum64()
}()

// Hash identifies the layout that this program was built with: FNV-1a (64 bits)
// over the text of both tables, the link's with the default ring, and the sizes
// of the entries. Two programs with the same hash agree where everything lies.
func Hash() uint64 { return hash }
