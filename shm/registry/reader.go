package registry

import (
	"errors"
	"fmt"
	"time"

	"inos/protocols/system/v1"
	"inos/shm/internal/mem"
)

// ErrBusy means that an entry was being written whenever the reader looked, or
// that its writer died over it.
var ErrBusy = errors.New("registry entry is being written")

// Reader is the side of all who may only look at the table. It may be used by
// many goroutines at once.
//
// Each module it returns is as one Register or Update left it. Two modules of one
// answer may be from different moments.
type Reader struct{ areas Areas }

// NewReader returns a reader of the areas, or ErrArea.
func NewReader(areas Areas) (*Reader, error) {
	if err := areas.check(); err != nil {
		return nil, err
	}
	return &Reader{areas}, nil
}

// Changes returns a number that moves when any entry has changed.
func (r *Reader) Changes() uint64 { return r.areas.Registry.Load64(8) }

// Snapshot returns all modules, by id, and an error that names the places it
// could not read, if any: ErrBusy or ErrCorrupt.
func (r *Reader) Snapshot() ([]Module, error) {
	var list []Module
	var errs []error
	r.each(func(place int, m Module, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("place %d: %w", place, err))
		} else {
			list = append(list, m)
		}
		return true
	})
	sortModules(list)
	return list, errors.Join(errs...)
}

// Lookup returns the module of that id, or ErrUnknown, ErrBusy or ErrCorrupt.
func (r *Reader) Lookup(id string) (Module, error) {
	p := patience(waits)
	crc, fnv1a := hashes(id)
	// A module that was removed and came back elsewhere in the meantime is missed
	// once, not twice.
	for range 2 {
		changes := r.Changes()
		for place := range probe(crc, fnv1a) {
			e := r.areas.entry(place)
			if e.Load64(signatureAt) == 0 {
				break // it would stand here if there were one
			}
			if e.Load32(crcAt) != crc || e.Load32(fnvAt) != fnv1a {
				continue
			}
			m, ok, err := r.read(place, &p)
			if err != nil {
				return Module{}, fmt.Errorf("module %q, place %d: %w", id, place, err)
			}
			if ok && m.ID == id {
				return m, nil
			}
		}
		if r.Changes() == changes {
			break
		}
	}
	return Module{}, fmt.Errorf("module %q: %w", id, ErrUnknown)
}

// Capability returns the id of the module that serves name, or ErrUnknown.
func (r *Reader) Capability(name string) (id string, err error) {
	r.each(func(_ int, m Module, err error) bool {
		if err != nil || m.State != StateServing {
			return true
		}
		for _, c := range m.Capabilities {
			if c.Name == name {
				id = m.ID
			}
		}
		return id == ""
	})
	if id == "" {
		return "", fmt.Errorf("capability %q is served by no module: %w", name, ErrUnknown)
	}
	return id, nil
}

// each calls f for every place with a module, or where there should be one, until
// f returns false.
func (r *Reader) each(f func(place int, m Module, err error) bool) {
	p := patience(waits)
	for place := range places {
		if place >= slots && (place-slots)%int(system.OverflowEntries) == 0 && r.areas.header(place).Load64(signatureAt) == 0 {
			return // pages fill in order
		}
		if m, ok, err := r.read(place, &p); (ok || err != nil) && !f(place, m, err) {
			return
		}
	}
}

// read returns the module at place; ok is false when there is none.
func (r *Reader) read(place int, p *patience) (m Module, ok bool, err error) {
	memory := r.areas.entry(place)
	for {
		if memory.Load64(signatureAt) != system.RegistrySignature {
			return Module{}, false, nil
		}
		generation := memory.Load64(generationAt)
		if generation&1 == 0 {
			m, ok, err = r.copy(memory)
			if memory.Load64(generationAt) == generation {
				m.Generation = generation
				return m, ok, err
			}
		}
		if !p.wait() {
			return Module{}, false, ErrBusy
		}
	}
}

// copy reads an entry and the records it points to, which may change meanwhile:
// the caller must look at the generation afterwards.
func (r *Reader) copy(memory mem.Region) (Module, bool, error) {
	var e [entrySize]byte
	load(memory, 0, e[:])
	if e[stateAt] == byte(StateNone) {
		return Module{}, false, nil
	}
	t, err := decodeTables(&e)
	if err != nil {
		return Module{}, false, err
	}
	length := (uint64(t.detailLength) + 3) &^ 3
	if !r.areas.Strings.Contains(uint64(t.detail), length) {
		return Module{}, false, fmt.Errorf("%w: its text lies outside: %+v", ErrCorrupt, t)
	}
	capabilities := make([]byte, int(t.capabilities)*capabilitySize)
	dependencies := make([]byte, int(t.dependencies)*dependencySize)
	detail := make([]byte, length)
	load(r.areas.Capabilities, uint64(t.capability)*uint64(capabilitySize), capabilities)
	load(r.areas.Dependencies, uint64(t.dependency)*uint64(dependencySize), dependencies)
	load(r.areas.Strings, uint64(t.detail), detail)
	m, err := decode(&e, capabilities, dependencies, detail[:t.detailLength])
	return m, err == nil, err
}

// patience is how often one call of a Reader may still wait for a writer. A
// writer needs microseconds, unless it is put off its processor in the midst.
type patience int

const (
	waits  = 200
	spins  = 100 // of the waits, how many only spin
	nap    = 100 * time.Microsecond
	pauses = 20
)

// wait waits a little, or reports that it has been enough.
func (p *patience) wait() bool {
	if *p == 0 {
		return false
	}
	if *p--; *p >= waits-spins {
		mem.Pause(pauses)
	} else {
		time.Sleep(nap)
	}
	return true
}
