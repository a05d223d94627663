package arena

// Ref names a block of an arena, or the first Length bytes of it. On its way
// through shared memory it is only a claim: the host believes it after Verify
// has found the same slot, generation, owner, offset and size in its private
// table. The zero Ref names nothing.
type Ref struct {
	Arena      uint16 // which arena, system.ArenaNone for none
	Slot       uint32 // row of the host's private table
	Generation uint32 // moves when the row is freed; a stale reference differs
	Offset     uint64 // bytes from the start of the arena
	Length     uint64 // bytes in use
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r.Arena == 0 }
