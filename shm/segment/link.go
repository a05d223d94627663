package segment

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"inos/protocols/system/v1"
	"inos/shm/epoch"
	"inos/shm/internal/mem"
	"inos/shm/layout"
	"inos/shm/ring"
)

// Link is the host's side of what it shares with one plugin process. The rings
// belong to one goroutine at a time each; the bells and epochs to any.
//
// Everything in a link may be written by the plugin at any time.
type Link struct {
	Instance    uint32 // of the plugin process, the owner of its blocks
	Incarnation uint32 // how often its module has been started

	Submissions *ring.Producer
	Completions *ring.Consumer
	Credits     *ring.Producer
	HostBell    *epoch.Bell  // rung by the plugin, waited for here
	PluginBell  *epoch.Bell  // rung here, waited for by the plugin
	Epochs      epoch.Reader // of the plugin, numbered by system.LinkEpoch

	segment *Segment
	memory  *mapping
	table   layout.Table
	event   *os.File // HostBell owns it
	once    sync.Once
}

// NewLink makes the link for one plugin process. It returns ErrBudget,
// ErrNoMemory, or ErrExists when the instance has one.
func (s *Segment) NewLink(instance, incarnation uint32) (*Link, error) {
	table, err := layout.Link(s.options.RingEntries)
	if err != nil {
		return nil, err
	}
	size := table.Size()
	if err := s.take(size, fmt.Sprintf("the link of instance %d", instance)); err != nil {
		return nil, err
	}
	l := &Link{Instance: instance, Incarnation: incarnation, segment: s, table: table}
	if l.memory, err = newMapping("inos-link", size, 0); err == nil {
		err = l.open(s.options.RingEntries)
	}
	if err == nil {
		err = s.addLink(l)
	}
	if err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

// Size returns the bytes of the link's part.
func (l *Link) Size() uint64 { return l.memory.region.Size() }

// open writes the header and makes the host's ends.
func (l *Link) open(entries uint32) (err error) {
	m := l.memory.region
	header := linkHeader{
		preamble: newPreamble(system.LinkMagic, m.Size()),
		table:    l.table.Hash(), instance: l.Instance, incarnation: l.Incarnation,
	}
	header.number = entries
	header.encode(m.MustSub(0, headerBytes).Bytes())
	if err := l.openRings(entries); err != nil {
		return err
	}
	if l.Epochs, err = epoch.NewReader(part(m, l.table, layout.Epochs)); err != nil {
		return err
	}
	if l.PluginBell, err = epoch.NewFutexBell(bell(m, l.table, layout.PluginBell)); err != nil {
		return err
	}
	if l.event, err = epoch.NewEvent(); err != nil {
		return err
	}
	l.HostBell, err = epoch.NewEventBell(bell(m, l.table, layout.HostBell), l.event)
	return err
}

func (l *Link) openRings(entries uint32) error {
	var errs [3]error
	m := l.memory.region
	l.Submissions, errs[0] = ring.NewProducer(part(m, l.table, layout.Submissions), entries)
	l.Completions, errs[1] = ring.NewConsumer(part(m, l.table, layout.Completions), entries)
	l.Credits, errs[2] = ring.NewProducer(part(m, l.table, layout.Credits), entries)
	return errors.Join(errs[:]...)
}

// bell returns the line of one bell of a link.
func bell(m mem.Region, t layout.Table, offset uint64) mem.Region {
	return part(m, t, layout.Bells).MustSub(offset, layout.BellSize)
}

func (s *Segment) addLink(l *Link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: instance %d gets no link", ErrClosed, l.Instance)
	}
	if s.links[l.Instance] != nil {
		return fmt.Errorf("%w: the link of instance %d", ErrExists, l.Instance)
	}
	s.links[l.Instance] = l
	return nil
}

// Close ends the link: whoever waits for its bells returns, and its memory and
// its descriptors are given back. No ring of it may be in use any more, and no
// epoch. The plugin keeps its own mapping. Another Close does nothing.
func (l *Link) Close() error {
	l.segment.mu.Lock()
	if l.segment.links[l.Instance] == l {
		delete(l.segment.links, l.Instance) // Usage does not look into it any more
	}
	l.segment.mu.Unlock()
	l.free()
	return nil
}

// free gives back all that the link has of what NewLink takes.
func (l *Link) free() {
	l.once.Do(func() {
		if l.PluginBell != nil {
			_ = l.PluginBell.Close()
		}
		if l.HostBell != nil {
			_ = l.HostBell.Close()
		} else if l.event != nil {
			_ = l.event.Close()
		}
		if l.memory != nil {
			l.memory.unmap()
		}
		l.segment.giveBack(l.table.Size())
	})
}
