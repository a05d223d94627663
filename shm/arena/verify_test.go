package arena

import (
	"errors"
	"math"
	"testing"

	"inos/shm/internal/mem"
)

func TestReferenceIsTrueInEveryPartOrRefused(t *testing.T) {
	a := New(2, mem.Of(make([]byte, 1<<20)))
	ref := must(t, a, 5000, 7)
	gone := must(t, a, 100, 7)
	release(t, a, gone)
	with := func(f func(*Ref)) Ref { r := ref; f(&r); return r }
	for name, c := range map[string]struct {
		ref   Ref
		owner Owner
		want  error
	}{
		"itself":             {ref, 7, nil},
		"shorter":            {with(func(r *Ref) { r.Length = 0 }), 7, nil},
		"up to the capacity": {with(func(r *Ref) { r.Length = 8192 }), 7, nil},
		"past the capacity":  {with(func(r *Ref) { r.Length = 8193 }), 7, ErrRange},
		"wrapped length":     {with(func(r *Ref) { r.Length = math.MaxUint64 }), 7, ErrRange},
		"moved inside":       {with(func(r *Ref) { r.Offset += 64; r.Length = 64 }), 7, ErrRange},
		"before it":          {with(func(r *Ref) { r.Offset -= 64 }), 7, ErrRange},
		"old generation":     {with(func(r *Ref) { r.Generation-- }), 7, ErrStale},
		"coming generation":  {with(func(r *Ref) { r.Generation++ }), 7, ErrStale},
		"freed":              {gone, 7, ErrStale},
		"another's":          {ref, 8, ErrForeign},
		"the host's":         {ref, Host, ErrForeign},
		"slot never given":   {with(func(r *Ref) { r.Slot = 1000 }), 7, ErrUnknown},
		"slot zero":          {with(func(r *Ref) { r.Slot = 0 }), 7, ErrUnknown},
		"last slot":          {with(func(r *Ref) { r.Slot = math.MaxUint32 }), 7, ErrUnknown},
		"another arena":      {with(func(r *Ref) { r.Arena = 1 }), 7, ErrUnknown},
		"nothing":            {Ref{}, 7, ErrUnknown},
	} {
		err := a.Verify(c.ref, c.owner)
		if !errors.Is(err, c.want) || (err != nil) != errors.Is(err, ErrBadRef) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestSlotIsRetiredWhenItsGenerationsEnd(t *testing.T) {
	a := newSized(1, 1<<20)
	ref := must(t, a, 100, 1)
	a.table.rows.at(ref.Slot).generation = math.MaxUint32 - 1
	ref.Generation = math.MaxUint32 - 1
	release(t, a, ref)
	for range 3 {
		if next := must(t, a, 100, 1); next.Slot == ref.Slot {
			t.Fatalf("slot %d is used again with generation %d", next.Slot, next.Generation)
		}
	}
	for _, generation := range []uint32{0, 1, math.MaxUint32 - 1, math.MaxUint32} {
		ref.Generation = generation
		if err := a.Verify(ref, 1); !errors.Is(err, ErrStale) {
			t.Errorf("generation %d: %v", generation, err)
		}
	}
	if got := a.Stats().Retired; got != 1 {
		t.Errorf("%d slots retired", got)
	}
}
