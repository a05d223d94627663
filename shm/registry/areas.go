package registry

import (
	"encoding/binary"
	"errors"
	"fmt"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

// detailUnit is what details in the strings area are aligned to.
const detailUnit = 8

const overflowPage = uint64(system.OverflowHeader) + uint64(system.OverflowEntries)*uint64(system.RegistryEntrySize)

// ErrArea means that an area has not the size that the layout gives it.
var ErrArea = errors.New("registry area has the wrong size")

// Areas are the parts of the control memory that the table lies in. Each begins
// at a multiple of 8.
type Areas struct {
	Registry     mem.Region // header line and in-line entries
	Overflow     mem.Region
	Capabilities mem.Region
	Dependencies mem.Region
	Strings      mem.Region // of any size
}

// check compares the areas with the constants of protocols/system/v1.
func (a *Areas) check() error {
	var errs []error
	for _, area := range []struct {
		name       string
		size, want uint64
	}{
		{"registry", a.Registry.Size(), uint64(system.CacheLine) + uint64(slots*entrySize)},
		{"overflow", a.Overflow.Size(), uint64(system.OverflowPages) * overflowPage},
		{"capabilities", a.Capabilities.Size(), uint64(system.CapabilityEntries) * uint64(capabilitySize)},
		{"dependencies", a.Dependencies.Size(), uint64(system.DependencyEntries) * uint64(dependencySize)},
	} {
		if area.size != area.want {
			errs = append(errs, fmt.Errorf("%w: %s has %d bytes, not %d", ErrArea, area.name, area.size, area.want))
		}
	}
	return errors.Join(errs...)
}

// entry returns the memory of one place.
func (a *Areas) entry(place int) mem.Region {
	if place < slots {
		return a.Registry.MustSub(uint64(system.CacheLine)+uint64(place*entrySize), uint64(entrySize))
	}
	place -= slots
	perPage := int(system.OverflowEntries)
	off := uint64(place/perPage)*overflowPage + uint64(system.OverflowHeader) + uint64(place%perPage*entrySize)
	return a.Overflow.MustSub(off, uint64(entrySize))
}

// header returns the header line of the overflow page that place lies on.
func (a *Areas) header(place int) mem.Region {
	page := (place - slots) / int(system.OverflowEntries)
	return a.Overflow.MustSub(uint64(page)*overflowPage, uint64(system.OverflowHeader))
}

// store writes b, whole words, at off. Every word is an atomic store, so that a
// reader elsewhere orders it with the generation on any processor.
func store(r mem.Region, off uint64, b []byte) {
	for ; len(b) > 0; b, off = b[4:], off+4 {
		r.Store32(off, binary.NativeEndian.Uint32(b))
	}
}

// load reads whole words at off into b in the same way.
func load(r mem.Region, off uint64, b []byte) {
	for ; len(b) > 0; b, off = b[4:], off+4 {
		binary.NativeEndian.PutUint32(b, r.Load32(off))
	}
}

// words returns b with zeros up to a multiple of n bytes.
func words(b []byte, n int) []byte { return append(b, make([]byte, -len(b)&(n-1))...) }
