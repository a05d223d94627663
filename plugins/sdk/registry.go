package sdk

import (
	"context"

	"inos/protocols/system/v1"
	"inos/shm/registry"
)

// Module is a row of the node's module table: ID, Version, State, Capabilities,
// Dependencies, Cost and Generation, which moves with every change of the row.
type Module = registry.Module

// Modules returns the modules of the node, by id, as they are now, and an error
// that names the rows which could not be read. It needs no grant and asks nobody: the
// table lies in shared memory.
func (h *Host) Modules() ([]Module, error) {
	if h.session == nil {
		return nil, errNoNode
	}
	return h.session.at.Registry.Snapshot()
}

// Changed waits until the module table is not as it was when it returned seen, and
// returns the number of its present state; 0 has never been one, so it returns at once.
// A plugin that depends on another learns here that it was replaced: it calls Modules
// after each return and compares what it cares for. The error is that of ctx.
func (h *Host) Changed(ctx context.Context, seen uint64) (now uint64, err error) {
	if h.session == nil {
		return 0, errNoNode
	}
	e := h.session.at.Epochs
	const i = uint16(system.HostEpoch_registry)
	// One more than the epoch, so that 0 is free to mean that nothing was seen.
	if n := e.Load(i) + 1; n != seen {
		return n, nil
	}
	n, err := e.Wait(ctx, i, seen-1)
	return n + 1, err
}
