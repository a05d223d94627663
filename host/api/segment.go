package api

import (
	"inos/host/node"
	"inos/shm/arena"
)

// Segment describes the shared memory. Sizes and offsets are bytes.
type Segment struct {
	Size    uint64       `json:"size"`    // the budget
	Free    uint64       `json:"free"`    // of it, for links and arenas to come
	Copied  uint64       `json:"copied"`  // what the host copied into arenas since its start
	Crossed uint64       `json:"crossed"` // what it copied between arenas
	Regions []Region     `json:"regions"`
	Arenas  []Arena      `json:"arenas"`
	Links   []Link       `json:"links"`
	States  []StateBlock `json:"states"`
	Owners  []Owner      `json:"owners"` // which plugin each owner of blocks is
}

// Region is an area of one part of the segment.
type Region struct {
	Part   string `json:"part"` // "control", "link 7", "arena 1"
	Name   string `json:"name"`
	Offset uint64 `json:"offset"` // from the start of the part
	Size   uint64 `json:"size"`
	Owner  string `json:"owner"`  // whose words they are
	Writer string `json:"writer"` // who may write, as the kernel enforces it
}

// Arena is the state of one arena.
type Arena struct {
	ID            uint16       `json:"id"`
	Module        string       `json:"module,omitempty"` // empty for the commons
	Size          uint64       `json:"size"`
	Used          uint64       `json:"used"`
	Peak          uint64       `json:"peak"` // most that was ever used
	Free          uint64       `json:"free"` // in whole pages
	Largest       uint64       `json:"largest"`
	Fragmentation float64      `json:"fragmentation"` // share of the free pages outside the longest run
	Blocks        uint64       `json:"blocks"`
	Pins          uint64       `json:"pins"`
	Retired       uint64       `json:"retired"` // slots that are never used again
	Copied        uint64       `json:"copied"`
	Crossed       uint64       `json:"crossed"`
	Leaving       bool         `json:"leaving"` // dropped, and kept until its last block is free
	Classes       []Class      `json:"classes"`
	Owners        []OwnerShare `json:"owners"`
}

// Class is a size of small blocks.
type Class struct {
	Size   uint64 `json:"size"`
	Blocks uint64 `json:"blocks"`
	Room   uint64 `json:"room"` // blocks that fit, used or not
}

// OwnerShare is what one owner has of an arena.
type OwnerShare struct {
	Owner  uint32 `json:"owner"` // an instance, 0 for the host
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`
}

// Link is the memory that the host shares with one process alone.
type Link struct {
	Instance    uint32 `json:"instance"`
	Incarnation uint32 `json:"incarnation"`
	Size        uint64 `json:"size"`
	RingEntries uint32 `json:"ring_entries"`
	Heartbeat   uint64 `json:"heartbeat"` // counts up while the plugin is well
	Submitted   uint64 `json:"submitted"` // descriptors that the plugin took
	Completed   uint64 `json:"completed"` // descriptors that the host took
	Credited    uint64 `json:"credited"`  // leases that the plugin took
}

// StateBlock is memory of a module that outlives its processes.
type StateBlock struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Schema uint32 `json:"schema"`
	Size   uint64 `json:"size"` // of one of its two halves
}

// Owner says which plugin an instance is.
type Owner struct {
	Instance uint32 `json:"instance"`
	Plugin   string `json:"plugin"`
}

func newSegment(s node.SegmentStatus, plugins []node.PluginStatus) Segment {
	out := Segment{
		Size: s.Size, Free: s.Free,
		Regions: []Region{}, Arenas: []Arena{}, Links: []Link{}, States: []StateBlock{}, Owners: []Owner{},
	}
	for _, r := range s.Regions {
		out.Regions = append(out.Regions, Region{Part: r.Part, Name: r.Name, Offset: r.Offset, Size: r.Size, Owner: r.Owner, Writer: r.Writer})
	}
	for _, a := range s.Arenas {
		out.Copied += a.CopiedIn
		out.Crossed += a.Crossed
		arena := newArena(a.Stats)
		arena.Module, arena.Leaving = a.Module, a.Leaving
		out.Arenas = append(out.Arenas, arena)
	}
	for _, l := range s.Links {
		out.Links = append(out.Links, Link{
			Instance: l.Instance, Incarnation: l.Incarnation, Size: l.Size, RingEntries: l.RingEntries,
			Heartbeat: l.Heartbeat, Submitted: l.Submitted, Completed: l.Completed, Credited: l.Credited,
		})
	}
	for _, b := range s.States {
		out.States = append(out.States, StateBlock{Module: b.Module, Name: b.Name, Schema: b.Schema, Size: b.Bytes})
	}
	for _, p := range plugins {
		for _, i := range p.Instances {
			out.Owners = append(out.Owners, Owner{Instance: i.ID, Plugin: p.Name})
		}
	}
	return out
}

func newArena(s arena.Stats) Arena {
	a := Arena{
		ID: s.Arena, Size: s.Size, Used: s.Used, Peak: s.Peak, Free: s.Free, Largest: s.Largest,
		Fragmentation: s.Fragmentation(), Blocks: s.Blocks, Pins: s.Pins, Retired: s.Retired, Copied: s.CopiedIn, Crossed: s.Crossed,
		Classes: []Class{}, Owners: []OwnerShare{},
	}
	for _, c := range s.Classes {
		a.Classes = append(a.Classes, Class{Size: c.Size, Blocks: c.Blocks, Room: c.Room})
	}
	for _, o := range s.Owners {
		a.Owners = append(a.Owners, OwnerShare{Owner: uint32(o.Owner), Blocks: o.Blocks, Bytes: o.Bytes})
	}
	return a
}
