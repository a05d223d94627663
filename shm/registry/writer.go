package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"inos/protocols/system/v1"
)

// Why a module is not in the table, or not put there.
var (
	ErrUnknown = errors.New("unknown module")
	ErrClaimed = errors.New("capability belongs to another module")
	ErrFull    = errors.New("registry full: remove modules that are not needed")
)

// Writer is the host's side of the table. It keeps the truth in its private heap,
// publishes every change in the areas and never reads them. It may be used by
// many goroutines at once; there must be only one for the areas.
type Writer struct {
	areas Areas

	mu           sync.Mutex // guards all below
	modules      map[string]*row
	capabilities map[string]string // name -> id of the module that has it
	generations  [places]uint64
	taken        [places]bool
	changes      uint64
	records      struct{ capabilities, dependencies, strings ranges }
}

// row is one module with where its records lie.
type row struct {
	module Module
	place  int
	tables tables
}

// NewWriter empties the areas and returns their writer.
func NewWriter(areas Areas) (*Writer, error) {
	if err := areas.check(); err != nil {
		return nil, err
	}
	for _, b := range [][]byte{
		areas.Registry.Bytes(), areas.Overflow.Bytes(), areas.Capabilities.Bytes(), areas.Dependencies.Bytes(), areas.Strings.Bytes(),
	} {
		clear(b)
	}
	w := &Writer{areas: areas, modules: map[string]*row{}, capabilities: map[string]string{}}
	w.records.capabilities = newRanges(uint64(system.CapabilityEntries))
	w.records.dependencies = newRanges(uint64(system.DependencyEntries))
	w.records.strings = newRanges(min(areas.Strings.Size(), 1<<32-1) / detailUnit)
	areas.Registry.Store64(signatureAt, system.RegistrySignature)
	return w, nil
}

// Register puts m into the table, in place of what stands there under its id, and
// returns the place and its new generation. It fails and changes nothing when m
// is not valid, when it offers what another module has (ErrClaimed), or when
// there is no room (ErrFull).
func (w *Writer) Register(m Module) (place int, generation uint64, err error) {
	if err := m.Validate(); err != nil {
		return 0, 0, err
	}
	m = m.clone()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range m.Capabilities {
		if id, ok := w.capabilities[c.Name]; ok && id != m.ID {
			return 0, 0, fmt.Errorf("module %q: %w: %q has %q", m.ID, ErrClaimed, id, c.Name)
		}
	}
	old := w.modules[m.ID]
	r := &row{module: m}
	if old != nil {
		r.place = old.place
	} else if r.place = w.vacancy(m.ID); r.place < 0 {
		return 0, 0, fmt.Errorf("module %q: no entry: %w", m.ID, ErrFull)
	}
	// The new records stand beside the old ones until no reader is sent to these
	// any more.
	if r.tables, err = w.write(&m); err != nil {
		return 0, 0, err
	}
	w.taken[r.place] = true
	w.modules[m.ID] = r
	w.publish(r)
	if old != nil {
		w.giveBack(old)
	}
	for _, c := range m.Capabilities {
		w.capabilities[c.Name] = m.ID
	}
	return r.place, r.module.Generation, nil
}

// Update changes what changes while a module runs, and returns the new
// generation, or ErrUnknown.
func (w *Writer) Update(id string, s State, instances uint16, incarnation uint32) (generation uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.modules[id]
	if r == nil {
		return 0, fmt.Errorf("module %q: %w", id, ErrUnknown)
	}
	m := r.module
	if m.State, m.Instances, m.Incarnation = s, instances, incarnation; s == StateNone {
		return 0, fmt.Errorf("%w %q: it has no state; use Remove", ErrInvalid, id)
	}
	r.module = m
	w.publish(r)
	return r.module.Generation, nil
}

// Remove takes a module out of the table, or returns ErrUnknown.
func (w *Writer) Remove(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.modules[id]
	if r == nil {
		return fmt.Errorf("module %q: %w", id, ErrUnknown)
	}
	delete(w.modules, id)
	w.taken[r.place] = false
	w.replace(r.place, [entrySize]byte{})
	w.giveBack(r)
	return nil
}

// Lookup returns the module of that id.
func (w *Writer) Lookup(id string) (Module, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.modules[id]
	if r == nil {
		return Module{}, false
	}
	return r.module.clone(), true
}

// Capability returns the id of the module that offers name, in whatever state.
func (w *Writer) Capability(name string) (id string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok = w.capabilities[name]
	return id, ok
}

// Snapshot returns all modules, by id.
func (w *Writer) Snapshot() []Module {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Module, 0, len(w.modules))
	for _, r := range w.modules {
		list = append(list, r.module.clone())
	}
	sortModules(list)
	return list
}

func sortModules(list []Module) {
	slices.SortFunc(list, func(x, y Module) int { return cmp.Compare(x.ID, y.ID) })
}

// vacancy returns the place for a new module, or -1.
func (w *Writer) vacancy(id string) int {
	for place := range probe(hashes(id)) {
		if !w.taken[place] {
			return place
		}
	}
	return -1
}

// write finds room for the records that an entry points to and fills it.
func (w *Writer) write(m *Module) (tables, error) {
	detail, dependencies := encodeDetail(m)
	t := tables{
		capabilities: uint16(len(m.Capabilities)), dependencies: uint16(len(m.Dependencies)), detailLength: uint32(len(detail)),
	}
	capability, ok1 := w.records.capabilities.take(uint64(t.capabilities))
	dependency, ok2 := w.records.dependencies.take(uint64(t.dependencies))
	text, ok3 := w.records.strings.take(units(t.detailLength))
	if !ok1 || !ok2 || !ok3 {
		for _, got := range []struct {
			ok   bool
			from *ranges
			at   uint64
			n    uint64
		}{
			{ok1, &w.records.capabilities, capability, uint64(t.capabilities)},
			{ok2, &w.records.dependencies, dependency, uint64(t.dependencies)},
			{ok3, &w.records.strings, text, units(t.detailLength)},
		} {
			if got.ok {
				got.from.give(got.at, got.n)
			}
		}
		return tables{}, fmt.Errorf("module %q: no room for %d capabilities, %d dependencies and %d bytes of text: %w",
			m.ID, t.capabilities, t.dependencies, t.detailLength, ErrFull)
	}
	t.capability, t.dependency, t.detail = uint16(capability), uint16(dependency), uint32(text*detailUnit)
	store(w.areas.Capabilities, capability*uint64(capabilitySize), encodeCapabilities(m))
	store(w.areas.Dependencies, dependency*uint64(dependencySize), dependencies)
	store(w.areas.Strings, uint64(t.detail), words(detail, 4))
	return t, nil
}

// giveBack frees the records of a row that no entry points to any more, and the
// names that only it had.
func (w *Writer) giveBack(r *row) {
	t := r.tables
	w.records.capabilities.give(uint64(t.capability), uint64(t.capabilities))
	w.records.dependencies.give(uint64(t.dependency), uint64(t.dependencies))
	w.records.strings.give(uint64(t.detail/detailUnit), units(t.detailLength))
	for _, c := range r.module.Capabilities {
		delete(w.capabilities, c.Name)
	}
}

// publish writes the entry of a row and sets the row's generation.
func (w *Writer) publish(r *row) {
	r.module.Generation = w.replace(r.place, encodeEntry(&r.module, r.tables))
}

// replace writes one entry under its generation, odd meanwhile, and returns the
// generation it has then.
func (w *Writer) replace(place int, e [entrySize]byte) uint64 {
	le.PutUint64(e[signatureAt:], system.RegistrySignature)
	memory := w.areas.entry(place)
	if place >= slots {
		header := w.areas.header(place)
		header.Store32(8, uint32((place-slots)/int(system.OverflowEntries)))
		header.Store64(signatureAt, system.RegistrySignature)
	}
	memory.Store64(generationAt, w.generations[place]+1)
	store(memory, signatureAt, e[:generationAt])
	store(memory, bodyAt, e[bodyAt:])
	w.generations[place] += 2
	memory.Store64(generationAt, w.generations[place])
	w.changes++
	w.areas.Registry.Store32(16, uint32(len(w.modules)))
	w.areas.Registry.Store64(8, w.changes)
	return w.generations[place]
}

// units returns how many units of the strings area n bytes take.
func units(n uint32) uint64 { return (uint64(n) + detailUnit - 1) / detailUnit }
