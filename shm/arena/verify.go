package arena

import "fmt"

// Verify reports whether ref names a block of o and lies inside it: nil, or an
// error that wraps ErrBadRef and one of ErrUnknown, ErrStale, ErrRange and
// ErrForeign.
func (a *Arena) Verify(ref Ref, o Owner) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.owned(ref, o)
	return err
}

// View returns the ref.Length bytes that ref names. The caller must hold a
// reference to the block, or a pin if stale bytes will do, for as long as it
// looks. Plugins may write the bytes at any time: copy what must not change
// between two looks. Errors are those of Verify, owner apart.
func (a *Arena) View(ref Ref) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.find(ref); err != nil {
		return nil, err
	}
	return a.memory.Slice(ref.Offset, ref.Length)
}

// Capacity returns how many bytes the block of ref has, at least as many as were
// asked for, or 0 when ref is not true.
func (a *Arena) Capacity(ref Ref) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.find(ref)
	if err != nil {
		return 0
	}
	return r.capacity
}

// find returns the row that ref names if all but the owner is right.
func (a *Arena) find(ref Ref) (*row, error) {
	if ref.Arena != a.id || !a.table.holds(ref.Slot) {
		return nil, a.refuse(ref, ErrUnknown, "no such slot here")
	}
	r := a.table.rows.at(ref.Slot)
	if r.refs == 0 || r.generation != ref.Generation {
		return nil, a.refuse(ref, ErrStale, "the block was freed")
	}
	if ref.Offset != r.offset || ref.Length > r.capacity {
		return nil, a.refuse(ref, ErrRange, fmt.Sprintf("the block has %d bytes at %d", r.capacity, r.offset))
	}
	return r, nil
}

// owned is find for the owner's eyes only.
func (a *Arena) owned(ref Ref, o Owner) (*row, error) {
	r, err := a.find(ref)
	if err != nil {
		return nil, err
	}
	if r.owner != o {
		return nil, a.refuse(ref, ErrForeign, fmt.Sprintf("owner is %d, not %d", r.owner, o))
	}
	return r, nil
}

// refuse builds the error for a reference that is not true.
func (a *Arena) refuse(ref Ref, kind error, why string) error {
	return fmt.Errorf("arena %d: reference to arena %d slot %d generation %d, %d bytes at %d: %w: %s",
		a.id, ref.Arena, ref.Slot, ref.Generation, ref.Length, ref.Offset, kind, why)
}
