package node

import (
	"inos/plugins/sdk/wire"
	"inos/shm/registry"
)

// row is the module as the registry shows it to everybody. The caller holds mu.
func (m *module) row() registry.Module {
	f := m.manifest
	r := registry.Module{
		ID: f.Name, Version: version(f.Version), Description: f.Description,
		Incarnation: m.incarnation, State: stateOf(m.phase), Instances: uint16(len(m.instances)),
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
