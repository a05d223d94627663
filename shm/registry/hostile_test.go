package registry

import (
	"errors"
	"sync"
	"testing"

	"inos/protocols/system/v1"
)

// look calls everything a reader has. Whatever the bytes, each module it returns
// must be valid.
func look(t testing.TB, r *Reader) {
	t.Helper()
	list, err := r.Snapshot()
	if err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	for _, m := range list {
		if err := m.Validate(); err != nil {
			t.Fatalf("reader returned %+v: %v", m, err)
		}
	}
	for _, id := range []string{"ml", "module-1", ""} {
		m, err := r.Lookup(id)
		if err == nil && m.ID != id {
			t.Fatalf("asked for %q, got %q", id, m.ID)
		}
	}
	if id, err := r.Capability("ml.infer"); (err == nil) != (id != "") {
		t.Fatalf("capability: %q, %v", id, err)
	}
	r.Changes()
}

func TestEntryThatStaysOddIsBusy(t *testing.T) {
	w, r, areas := newTable(t)
	place := register(t, w, ml())
	register(t, w, small(1))
	entry := areas.entry(place)
	entry.Store64(generationAt, entry.Load64(generationAt)+1)
	if _, err := r.Lookup("ml"); !errors.Is(err, ErrBusy) {
		t.Errorf("lookup: %v", err)
	}
	list, err := r.Snapshot()
	if !errors.Is(err, ErrBusy) || len(list) != 1 || list[0].ID != "module-1" {
		t.Errorf("snapshot: %d modules, %v", len(list), err)
	}
	if _, err := w.Update("ml", StateServing, 1, 1); err != nil {
		t.Fatal(err)
	}
	same(t, w, r) // the writer never looked at what was scribbled
}

func TestReaderOverRubbishReturnsErrors(t *testing.T) {
	for _, fill := range []byte{0xff, 0x01, 0x80} {
		b := make([]byte, totalSize())
		for i := range b {
			b[i] = fill
		}
		r, err := NewReader(carve(b))
		if err != nil {
			t.Fatal(err)
		}
		look(t, r)
		for place := range places {
			r.areas.entry(place).Store64(signatureAt, system.RegistrySignature)
			r.areas.entry(place).Store64(generationAt, uint64(place))
		}
		for place := slots; place < places; place++ {
			r.areas.header(place).Store64(signatureAt, system.RegistrySignature)
		}
		look(t, r)
		if list, err := r.Snapshot(); len(list) != 0 || err == nil {
			t.Errorf("filled with %#x: %d modules, %v", fill, len(list), err)
		}
	}
}

// TestOneWrongByteIsFoundOrHarmless changes each byte of an entry in turn.
func TestOneWrongByteIsFoundOrHarmless(t *testing.T) {
	w, r, areas := newTable(t)
	place := register(t, w, ml())
	b := areas.entry(place).Bytes()
	for i := range b {
		for _, x := range []byte{1, 0x80, 0xff} {
			b[i] ^= x
			look(t, r)
			b[i] ^= x
		}
	}
	same(t, w, r)
	for i := bodyAt; i < crcAt+8; i++ {
		b[i] ^= 0x40
		if _, err := r.Snapshot(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d of id or hash: %v", i, err)
		}
		b[i] ^= 0x40
	}
}

// TestReadersNeverSeeHalfAModule changes a module between two versions that
// differ in every record, and reads it meanwhile.
func TestReadersNeverSeeHalfAModule(t *testing.T) {
	w, r, _ := newTable(t)
	one, two := ml(), ml()
	two.Version, two.Description, two.Capabilities, two.Dependencies = Version{2, 0, 0}, "two", two.Capabilities[1:], nil
	register(t, w, one)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			m := one
			if i%2 == 0 {
				m = two
			}
			if _, _, err := w.Register(m); err != nil {
				t.Error(err)
				return
			}
			if i%5 == 0 {
				// Another module takes over the records that were given back.
				if _, _, err := w.Register(small(1)); err != nil {
					t.Error(err)
				}
				if err := w.Remove("module-1"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	seen := map[uint16]int{}
	var last uint64
	for range 20_000 {
		m, err := r.Lookup("ml")
		if errors.Is(err, ErrBusy) {
			continue
		}
		if err != nil {
			t.Error(err)
			break
		}
		want := one
		if m.Version == two.Version {
			want = two
		}
		if m.Version != want.Version || m.Description != want.Description || len(m.Capabilities) != len(want.Capabilities) ||
			m.Capabilities[0] != want.Capabilities[0] || len(m.Dependencies) != len(want.Dependencies) || m.Generation < last {
			t.Errorf("half a module: %+v", m)
			break
		}
		last = m.Generation
		seen[m.Version.Major]++
	}
	close(stop)
	wg.Wait()
	t.Logf("seen: %v", seen)
	if len(seen) == 0 {
		t.Error("nothing was read")
	}
}

// FuzzReader puts any bytes into the table, some of them where they matter most.
func FuzzReader(f *testing.F) {
	w, _, areas := newTable(f)
	place := register(f, w, ml())
	whole := areas.entry(place).Bytes()
	f.Add(whole, []byte("ml.infer"), []byte{}, areas.Strings.Bytes()[:256], uint16(place))
	f.Add([]byte{0xff}, []byte{1}, []byte{2}, []byte{3}, uint16(70))
	b := make([]byte, totalSize())
	r, err := NewReader(carve(b))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, entry, capabilities, dependencies, strings []byte, at uint16) {
		clear(b)
		p := int(at) % places
		copy(r.areas.entry(p).Bytes(), entry)
		r.areas.entry(p).Store64(signatureAt, system.RegistrySignature)
		if p >= slots {
			r.areas.header(slots).Store64(signatureAt, 1)
		}
		copy(r.areas.Capabilities.Bytes(), capabilities)
		copy(r.areas.Dependencies.Bytes(), dependencies)
		copy(r.areas.Strings.Bytes(), strings)
		look(t, r)
	})
}

// FuzzDecode gives the record decoder any bytes: it must refuse them or return a
// module that encodes and decodes to itself.
func FuzzDecode(f *testing.F) {
	m := ml()
	detail, dependencies := encodeDetail(&m)
	entry := encodeEntry(&m, tables{})
	f.Add(entry[:], encodeCapabilities(&m), dependencies, detail)
	f.Add([]byte{}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, entry, capabilities, dependencies, detail []byte) {
		var e [entrySize]byte
		copy(e[:], entry)
		// The right hashes, so that the rest is reached.
		crc, fnv1a := hashes(padded(e[16:48]))
		le.PutUint32(e[crcAt:], crc)
		le.PutUint32(e[fnvAt:], fnv1a)
		m, err := decode(&e, capabilities, dependencies, detail)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		detail, dependencies = encodeDetail(&m)
		again := encodeEntry(&m, tables{})
		if back, err := decode(&again, encodeCapabilities(&m), dependencies, detail); err != nil || back.ID != m.ID ||
			back.Description != m.Description || len(back.Dependencies) != len(m.Dependencies) {
			t.Fatalf("%+v became %+v, %v", m, back, err)
		}
	})
}
