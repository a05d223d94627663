package segment

import (
	"fmt"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
)

// Usage is what the segment consists of at one moment. Sizes and offsets are
// bytes.
type Usage struct {
	Size    uint64 // the budget
	Free    uint64 // of it, for links and private arenas to come
	Regions []Region
	Arenas  []ArenaUsage // the commons first
	Links   []LinkUsage  // by instance
}

// Region is an area of one part.
type Region struct {
	Part   string // "control", "link 7", "arena 1"
	Name   string
	Offset uint64 // from the start of the part
	Size   uint64
	Owner  string // whose words they are
	Writer string // who may write, as the kernel enforces it
}

// ArenaUsage is the state of one arena.
type ArenaUsage struct {
	arena.Stats
	Module  string // empty for the commons
	Leaving bool   // dropped, and mapped until the last block and pin are gone
}

// LinkUsage is the state of one link. What was taken from the submission and
// credit rings and the heartbeat are the plugin's own words.
type LinkUsage struct {
	Instance, Incarnation uint32
	Size                  uint64
	RingEntries           uint32
	Heartbeat             uint64
	Submitted             uint64 // taken by the plugin since the start
	Completed             uint64 // taken by the host since the start
	Credited              uint64 // taken by the plugin since the start
}

// Usage returns what the segment consists of now. It is for people to look at.
func (s *Segment) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock() // so that no link is unmapped meanwhile
	u := Usage{Size: s.options.Size, Free: s.left}
	if !s.closed {
		u.add("control", layout.Control())
	}
	for _, l := range values(s.links) {
		u.add(fmt.Sprintf("link %d", l.Instance), l.table)
		u.Links = append(u.Links, l.usage())
	}
	for _, r := range values(s.arenas) {
		writer, name := "host and trusted plugins", "commons"
		if r.module != "" {
			writer, name = "host and "+r.module, "private"
		}
		u.Regions = append(u.Regions, Region{
			Part: fmt.Sprintf("arena %d", r.ID()), Name: name, Size: uint64(len(r.data)), Owner: layout.Host, Writer: writer,
		})
		u.Arenas = append(u.Arenas, ArenaUsage{Stats: r.Stats(), Module: r.module, Leaving: r.leaving})
	}
	return u
}

func (u *Usage) add(name string, t layout.Table) {
	for _, a := range t {
		u.Regions = append(u.Regions, Region{Part: name, Name: a.Name, Offset: a.Offset, Size: a.Size, Owner: a.Owner, Writer: a.Writer})
	}
}

func (l *Link) usage() LinkUsage {
	// A ring begins with the position that its consumer publishes.
	taken := func(area string) uint64 { return part(l.memory.region, l.table, area).Load64(0) }
	return LinkUsage{
		Instance: l.Instance, Incarnation: l.Incarnation, Size: l.table.Size(), RingEntries: l.segment.options.RingEntries,
		Heartbeat: l.Epochs.Load(uint16(system.LinkEpoch_heartbeat)),
		Submitted: taken(layout.Submissions), Completed: taken(layout.Completions), Credited: taken(layout.Credits),
	}
}
