// Package segment makes the memory that a node and its plugins share, and passes
// it on: one address plan over several memfds, so that the kernel enforces who
// may write what.
//
//	control  one, written by the host's first mapping and by nothing else ever
//	link     one for each plugin process: its epochs, bells and rings
//	commons  one arena for all plugins of the same trust
//	private  one arena for each module that stands alone; it outlives the
//	         processes of the module
//
// The host calls Create, and Pass once it knows whom it talks to. The plugin
// calls Attach. Every part is given memory before it is used, and sealed, so that
// no process can take it away under another. The package decides nothing about
// blocks, modules or jobs: see arena, registry and host/dispatch.
package segment

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/epoch"
	"inos/shm/internal/mem"
	"inos/shm/layout"
	"inos/shm/registry"
)

var (
	// ErrOptions says that no segment can be made as asked.
	ErrOptions = errors.New("segment: bad options")
	// ErrNoMemory says that the machine, or the control group, has less memory left
	// than was asked for.
	ErrNoMemory = errors.New("segment: not enough memory")
	// ErrBudget says that a part does not fit into what is left of the segment.
	ErrBudget = errors.New("segment: no room left")
	// ErrExists says that the instance or module has its part already.
	ErrExists = errors.New("segment: exists already")
	// ErrUnknown says that there is no such arena or link, or not any more.
	ErrUnknown = errors.New("segment: unknown")
	// ErrClosed says that the segment was closed.
	ErrClosed = errors.New("segment: closed")
	// ErrBusy says that memory stays mapped, because somebody still holds it.
	ErrBusy = errors.New("segment: still in use")
	// ErrIncompatible says that the two sides were not built for each other.
	ErrIncompatible = errors.New("segment: incompatible")
)

// Segment is the host's side. All methods may be called from many goroutines.
type Segment struct {
	options  Options
	control  *mapping
	epochs   *epoch.Table
	registry *registry.Writer
	commons  *arena.Arena

	making sync.Mutex // held around mu while a private arena is made

	mu     sync.Mutex // guards all below, and is never held during a system call that waits
	left   uint64     // bytes of the budget
	next   uint32     // number of the next private arena
	arenas map[uint16]*room
	links  map[uint32]*Link
	closed bool
}

// room is an arena with its memory.
type room struct {
	*mapping
	*arena.Arena
	module  string // empty for the commons
	leaving bool   // guarded by Segment.mu
}

// Create makes a segment: the control part and the commons at once, the rest of
// o.Size when it is asked for. It returns ErrOptions or ErrNoMemory before it has
// taken anything.
func Create(o Options) (_ *Segment, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := checkMemory(os.DirFS("/"), o.Size); err != nil {
		return nil, err
	}
	s := &Segment{
		options: o, left: o.Size, next: uint32(system.ArenaFirstPrivate),
		arenas: make(map[uint16]*room), links: make(map[uint32]*Link),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.makeControl(); err != nil {
		return nil, err
	}
	s.commons, err = s.makeArena(system.ArenaCommons, "", o.Commons)
	return s, err
}

// makeControl makes the part that nobody but this process, through this one
// mapping, will ever write.
func (s *Segment) makeControl() error {
	table := layout.Control()
	size := table.Size()
	if err := s.take(size, "the control part"); err != nil {
		return err
	}
	m, err := newMapping("inos-control", size, sealFutureWrite)
	if err != nil {
		s.giveBack(size)
		return err
	}
	s.control = m
	header := controlHeader{preamble: newPreamble(system.SegmentMagic, size), node: s.options.NodeID}
	header.encode(m.region.MustSub(0, headerBytes).Bytes())
	if s.epochs, err = epoch.NewTable(part(m.region, table, layout.Epochs)); err != nil {
		return err
	}
	s.registry, err = registry.NewWriter(registryAreas(m.region, table))
	return err
}

// part returns the area of a table that was computed here, from memory that is
// as large as the table says.
func part(m mem.Region, t layout.Table, name string) mem.Region {
	a, ok := t.Find(name)
	if !ok {
		panic("segment: no area " + name + " in\n" + t.String())
	}
	return m.MustSub(a.Offset, a.Size)
}

// registryAreas returns the areas of the control part that the module table takes.
func registryAreas(m mem.Region, t layout.Table) registry.Areas {
	return registry.Areas{
		Registry: part(m, t, layout.Registry), Overflow: part(m, t, layout.Overflow),
		Capabilities: part(m, t, layout.Capabilities), Dependencies: part(m, t, layout.Dependencies),
		Strings: part(m, t, layout.Strings),
	}
}

// Epochs returns the host's epochs, which every plugin can read.
func (s *Segment) Epochs() *epoch.Table { return s.epochs }

// Registry returns the module table, which every plugin can read.
func (s *Segment) Registry() *registry.Writer { return s.registry }

// Commons returns the arena that plugins of the same trust share.
func (s *Segment) Commons() *arena.Arena { return s.commons }

// take reserves n bytes of the budget for what.
func (s *Segment) take(n uint64, what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: %s cannot be made", ErrClosed, what)
	}
	if n > s.left {
		return fmt.Errorf("%w: %s takes %s and %s of %s are left; start the node with a larger --segment, or give plugins less with arena_bytes in policy.json (the commons have %s)",
			ErrBudget, what, amount(n), amount(s.left), amount(s.options.Size), amount(s.options.Commons))
	}
	s.left -= n
	return nil
}

func (s *Segment) giveBack(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += n
}

// Close closes all links and arenas and unmaps everything. The caller has ended
// whatever uses the epochs, the registry and the links. An arena in which blocks
// or pins are held stays mapped until they are let go, and Close names it in an
// error that wraps ErrBusy. Another Close does nothing.
func (s *Segment) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	links, rooms := values(s.links), values(s.arenas)
	s.mu.Unlock()
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	for _, r := range rooms {
		s.leave(r)
		if st := r.Stats(); st.Blocks+st.Pins > 0 {
			errs = append(errs, fmt.Errorf("%w: %d blocks and %d pins in arena %d %s", ErrBusy, st.Blocks, st.Pins, st.Arena, r.module))
		}
	}
	if s.control != nil {
		s.control.unmap()
	}
	return errors.Join(errs...)
}
