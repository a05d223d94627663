package registry

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// drawModule draws any valid module.
func drawModule(t *rapid.T) Module {
	id := rapid.StringMatching(`[a-f]`).Draw(t, "id")
	text := rapid.StringMatching(`[a-z]{1,40}`)
	m := Module{
		ID: id, Version: Version{rapid.Uint16().Draw(t, "major"), 1, 2}, Incarnation: rapid.Uint32().Draw(t, "incarnation"),
		State: State(rapid.IntRange(1, 9).Draw(t, "state")), Instances: rapid.Uint16().Draw(t, "instances"),
		Description: rapid.StringN(0, 50, 200).Draw(t, "description"),
		Cost:        Cost{Base: rapid.Uint64().Draw(t, "cost")},
		Resources:   Resources{Arena: rapid.Uint64().Draw(t, "arena"), Exclusive: rapid.SliceOfN(text, 0, 3).Draw(t, "exclusive")},
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "capabilities") {
		m.Capabilities = append(m.Capabilities, Capability{
			Name: fmt.Sprintf("%s.c%d", id, i), Flags: CapabilityFlags(rapid.Uint8().Draw(t, "flags")),
			MinMemory: rapid.Uint64Range(0, MaxMinMemory).Draw(t, "memory"),
		})
	}
	for range rapid.IntRange(0, 4).Draw(t, "dependencies") {
		m.Dependencies = append(m.Dependencies, Dependency{
			Module: rapid.StringMatching(`[a-z][a-z0-9-]{0,30}`).Draw(t, "module"), Max: anyVersion,
			Optional:     rapid.Bool().Draw(t, "optional"),
			Alternatives: rapid.SliceOfN(rapid.StringMatching(`[a-z][a-z0-9-]{0,30}`), 0, 3).Draw(t, "alternatives"),
		})
	}
	return m
}

func TestReaderAndWriterAgreeAfterAnyChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, r, _ := newTable(t)
		for range rapid.IntRange(1, 25).Draw(rt, "changes") {
			id := rapid.StringMatching(`[a-f]`).Draw(rt, "which")
			switch rapid.IntRange(0, 3).Draw(rt, "change") {
			case 0:
				if _, err := w.Update(id, StateServing, 1, 2); err != nil && !errors.Is(err, ErrUnknown) {
					rt.Fatal(err)
				}
			case 1:
				if err := w.Remove(id); err != nil && !errors.Is(err, ErrUnknown) {
					rt.Fatal(err)
				}
			default:
				if _, _, err := w.Register(drawModule(rt)); err != nil {
					rt.Fatal(err)
				}
			}
			same(t, w, r)
		}
	})
}
