package arena

import "errors"

// refuse tries a reference that is not true.
func (m *model) refuse() {
	var ref Ref
	if len(m.gone) > 0 && m.rng.IntN(2) == 0 {
		ref = m.gone[m.rng.IntN(len(m.gone))]
	} else if _, b := m.pick(); b != nil {
		ref = b.ref
		switch m.rng.IntN(5) {
		case 0:
			ref.Generation += 1 + m.rng.Uint32N(5)
		case 1:
			ref.Offset += 64 * (1 + m.rng.Uint64N(9))
		case 2:
			ref.Length = m.arena.Capacity(ref) + 1 + m.rng.Uint64()>>1
		case 3:
			ref.Arena += 100
		case 4:
			ref.Slot += 1 << 30
		}
	}
	for what, err := range map[string]error{
		"verify": m.arena.Verify(ref, 1), "retain": m.arena.Retain(ref), "release": m.arena.Release(ref),
	} {
		if !errors.Is(err, ErrBadRef) {
			m.t.Fatalf("%s of %+v: %v", what, ref, err)
		}
	}
	if _, err := m.arena.View(ref); !errors.Is(err, ErrBadRef) {
		m.t.Fatalf("view of %+v: %v", ref, err)
	}
}

func (m *model) check() {
	if err := audit(m.arena); err != nil {
		m.t.Fatal(err)
	}
	var bytes uint64
	owners := map[Owner]uint64{}
	for _, b := range m.blocks {
		bytes += m.arena.Capacity(b.ref)
		owners[b.owner]++
	}
	s := m.arena.Stats()
	if s.Blocks != uint64(len(m.blocks)) || s.Used != bytes || s.Peak < s.Used || s.Largest > s.Free || len(s.Owners) != len(owners) {
		m.t.Fatalf("%d blocks, %d bytes, %d owners: %+v", len(m.blocks), bytes, len(owners), s)
	}
	for _, o := range s.Owners {
		if owners[o.Owner] != o.Blocks {
			m.t.Fatalf("owner %d has %d blocks, stats say %d", o.Owner, owners[o.Owner], o.Blocks)
		}
	}
}
