package node

import (
	"errors"

	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/registry"
)

// publish writes the module's row of the registry, unless it has none any more.
// The caller holds mu, so that an older row never comes after a newer one.
func (m *module) publish() {
	if m.retired {
		return
	}
	n := m.node
	if _, _, err := n.segment.Registry().Register(m.row()); err != nil {
		n.log.Error("registry", "plugin", m.name, "error", err)
		return
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_registry))
}

// withdraw removes the module's row of the registry.
func (m *module) withdraw() {
	n := m.node
	if err := n.segment.Registry().Remove(m.name); err != nil && !errors.Is(err, registry.ErrUnknown) {
		n.log.Error("registry", "plugin", m.name, "error", err)
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_registry))
}

// row is the module as the registry shows it to everybody. The caller holds mu.
func (m *module) row() registry.Module {
	f := m.current.manifest
	r := registry.Module{
		ID: f.Name, Version: version(f.Version), Description: f.Description,
		Incarnation: m.incarnation, State: stateOf(m.phase), Instances: uint16(len(m.current.alive())),
		Resources: registry.Resources{
			CPUCores: f.Resources.CPUCores, Memory: f.Resources.Memory, Arena: m.arena.Size(), GPUMemory: f.Resources.GPUMemory,
			IOIntensive: f.Resources.IOIntensive, NetworkIntensive: f.Resources.NetworkIntensive, Exclusive: f.Resources.Exclusive,
		},
		Cost: registry.Cost{Base: f.Cost.Base, PerMB: f.Cost.PerMB, PerSecond: f.Cost.PerSecond},
	}
	for _, c := range f.Capabilities {
		e := registry.Capability{Name: c.Name, MinMemory: min(c.MinMemory, registry.MaxMinMemory)}
		for _, flag := range []struct {
			is  bool
			bit registry.CapabilityFlags
		}{{c.Idempotent, registry.Idempotent}, {c.Streams, registry.Streams}, {c.NeedsGPU, registry.NeedsGPU}} {
			if flag.is {
				e.Flags |= flag.bit
			}
		}
		r.Capabilities = append(r.Capabilities, e)
	}
	for _, d := range f.Dependencies {
		r.Dependencies = append(r.Dependencies, registry.Dependency{
			Module: d.Module, Min: version(d.Min), Max: version(d.Max), Optional: d.Optional, Alternatives: d.Alternatives,
		})
	}
	return r
}

func version(v wire.Version) registry.Version {
	return registry.Version{Major: v.Major, Minor: v.Minor, Patch: v.Patch}
}

func stateOf(p Phase) registry.State {
	switch p {
	case Serving:
		return registry.StateServing
	case Stopped, Refused:
		return registry.StateStopped
	default:
		return registry.StateStarting
	}
}
