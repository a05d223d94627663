package segment

import (
	"fmt"
	"math"
	"os"

	"inos/shm/arena"
)

// NewPrivate makes an arena for one module alone, of size bytes in whole pages.
// All processes of the module share it, one after another and side by side. It
// returns ErrBudget, ErrNoMemory, or ErrExists when the module has one.
func (s *Segment) NewPrivate(module string, size uint64) (*arena.Arena, error) {
	if module == "" || size == 0 || size > maxPart {
		return nil, fmt.Errorf("%w: a private arena of %d bytes for module %q", ErrOptions, size, module)
	}
	// Create saw to it that the whole segment would fit, but that may be long ago.
	if err := checkMemory(os.DirFS("/"), size); err != nil {
		return nil, err
	}
	s.making.Lock() // or two calls for one module could both find none
	defer s.making.Unlock()
	id, err := s.newArenaID(module)
	if err != nil {
		return nil, err
	}
	return s.makeArena(id, module, pages(size))
}

func (s *Segment) newArenaID(module string) (uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.arenas {
		if r.module == module && !r.leaving {
			return 0, fmt.Errorf("%w: arena %d of module %s", ErrExists, r.ID(), module)
		}
	}
	if s.next > math.MaxUint16 {
		return 0, fmt.Errorf("%w: all %d arena numbers were used; restart the node", ErrBudget, math.MaxUint16)
	}
	s.next++
	return uint16(s.next - 1), nil
}

// makeArena makes the arena with a number that nobody else has, and the memory
// for it.
func (s *Segment) makeArena(id uint16, module string, size uint64) (*arena.Arena, error) {
	what := "the commons"
	if module != "" {
		what = "the private arena of module " + module
	}
	if err := s.take(size, what); err != nil {
		return nil, err
	}
	m, err := newMapping("inos-arena", size, 0)
	if err != nil {
		s.giveBack(size)
		return nil, err
	}
	r := &room{mapping: m, Arena: arena.New(id, m.region), module: module}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		m.unmap()
		return nil, fmt.Errorf("%w: %s", ErrClosed, what)
	}
	s.arenas[id] = r
	return r.Arena, nil
}

// Arena returns the arena that references with this number are to, unless it was
// dropped.
func (s *Segment) Arena(id uint16) (*arena.Arena, bool) {
	r, err := s.room(id)
	if err != nil {
		return nil, false
	}
	return r.Arena, true
}

func (s *Segment) room(id uint16) (*room, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.arenas[id]
	if r == nil || r.leaving {
		return nil, fmt.Errorf("%w: arena %d", ErrUnknown, id)
	}
	return r, nil
}

// DropArena closes a private arena: it gives no more blocks. Its memory is
// unmapped, and its bytes are free for other parts, when no block and no pin
// (arena.Arena.Pin) is left: at once, or when the last one is let go. Until then
// Usage shows it as leaving.
func (s *Segment) DropArena(id uint16) error {
	r, err := s.room(id)
	if err != nil {
		return err
	}
	if r.module == "" {
		return fmt.Errorf("%w: the commons stay until the segment is closed", ErrBusy)
	}
	s.leave(r)
	return nil
}

// leave closes the arena of r, now or later.
func (s *Segment) leave(r *room) {
	s.mu.Lock()
	r.leaving = true
	s.mu.Unlock()
	r.Arena.Close(func() {
		s.mu.Lock()
		delete(s.arenas, r.ID())
		s.left += uint64(len(r.data))
		s.mu.Unlock()
		r.unmap()
	})
}
