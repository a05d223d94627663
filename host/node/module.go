package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"inos/host/events"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// module is a plugin in service: its name, its memory, and the generations of it
// that come and go. The arena and the state blocks belong to the module, so that
// one generation leaves them to the next.
type module struct {
	node  *Node
	name  string
	arena *arena.Arena

	// changing holds one token while a generation is exchanged or a process is
	// started in place of one that died.
	changing chan struct{}

	mu          sync.Mutex
	current     *generation // serves; before the flip of the first one, the one that is to
	phase       Phase
	reason      string
	hint        string
	since       time.Time
	retryAt     time.Time
	restarts    int
	startTook   time.Duration
	incarnation uint32
	instances   []*instance   // of every generation, in service or on trial
	coming      int           // instances being started on request
	arrived     chan struct{} // closed when none is coming any more, nil when nobody waits
	lingering   int           // generations that were replaced and still have jobs
	exchanging  string        // the version that is being brought in, "" for none
	admitted    bool          // it serves: when it dies it is started again
	reviving    bool          // revive runs
	held        bool          // an operator took it out of service
	retired     bool          // no process of it will ever run again
	aiming      bool          // an exchange was begun because of the folder
	orphan      time.Time     // since when no file of the folder is of it, zero while one is
	going       bool          // it is being taken out because of that
}

func (n *Node) newModule(name string) *module {
	return &module{node: n, name: name, changing: make(chan struct{}, 1)}
}

// change waits for its turn to change the module. The caller calls done.
func (m *module) change(ctx context.Context) (done func(), err error) {
	select {
	case m.changing <- struct{}{}:
		return func() { <-m.changing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// enter moves the module to another phase and tells the registry. The caller
// holds mu.
func (m *module) enter(p Phase, reason, hint string) {
	if m.phase != p {
		m.since = time.Now()
	}
	m.phase, m.reason, m.hint, m.retryAt = p, reason, hint, time.Time{}
	m.publish()
}

// describe fills in what an operator sees of the module.
func (m *module) describe(s *PluginStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.current
	s.File, s.Digest, s.Publisher = g.entry.Name, g.entry.Digest, g.entry.Publisher
	s.Name, s.Version, s.Description = m.name, g.manifest.Version.String(), g.manifest.Description
	s.Manifest, s.Arena, s.Note = g.manifest, string(g.arena()), g.arenaNote()
	s.Phase, s.Reason, s.Hint, s.Since = m.phase, m.reason, m.hint, m.since
	s.RetryAt, s.Restarts, s.StartTook = m.retryAt, m.restarts, m.startTook
	s.Exchanging, s.Lingering, s.Held, s.OnProbation = m.exchanging, m.lingering, m.held, g.trial != nil
	for _, p := range g.grants {
		s.Grants = append(s.Grants, p.String())
	}
	for _, c := range g.manifest.Capabilities {
		s.Capabilities = append(s.Capabilities, c.Name)
	}
	for _, i := range m.instances {
		s.Instances = append(s.Instances, i.status())
	}
}

// bereft reports whether nobody serves the module, or is about to, and somebody
// should. The caller holds mu.
func (m *module) bereft() bool {
	return m.admitted && !m.retired && !m.reviving && m.exchanging == "" && m.current.trial == nil &&
		len(m.current.alive()) == 0 && m.coming == 0 && m.node.ctx.Err() == nil
}

// mourn has the module started again. The caller holds mu and knows that it is
// bereft.
func (m *module) mourn(cause error) {
	m.reviving = true
	m.enter(BackingOff, cause.Error(), "")
	g := m.current
	m.node.tasks.Go(func() { m.revive(g, cause) })
}

// revive starts the generation again after a pause, until it serves, is given up,
// or another has taken its place.
func (m *module) revive(g *generation, cause error) {
	n := m.node
	for n.ctx.Err() == nil {
		if g.excused.Swap(false) {
			g.backoff.Reset()
		}
		pause, err := g.backoff.Died(time.Now())
		if err != nil {
			n.log.Error("given up", "plugin", m.name, "cause", cause, "reason", err)
			m.giveUp(g, err, cause)
			return
		}
		m.mu.Lock()
		m.restarts++
		m.enter(BackingOff, cause.Error(), "")
		m.retryAt = time.Now().Add(pause)
		m.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-n.ctx.Done():
			t.Stop()
			return
		}
		if cause = m.restart(g, cause); cause == nil {
			return
		}
	}
}

// restart starts one process of a generation that has none. It returns nil when
// there is nothing left to do, and otherwise why there is.
func (m *module) restart(g *generation, cause error) error {
	n := m.node
	done, err := m.change(n.ctx)
	if err != nil {
		return err
	}
	defer done()
	m.mu.Lock()
	if over := m.current != g || m.retired || len(g.alive()) > 0; over {
		m.reviving = false
		// The generation that replaced it may have died while we were reviving.
		switch {
		case m.bereft():
			m.mourn(cause)
		case !m.retired && len(m.current.alive()) > 0:
			m.enter(m.inService(), "", "")
		}
		m.mu.Unlock()
		return nil
	}
	m.enter(Starting, cause.Error(), "")
	m.mu.Unlock()
	from := time.Now()
	i, err := g.another(n.ctx)
	n.note(g, events.Restarted, time.Since(from), err)
	if err != nil {
		n.log.Warn("did not come back", "plugin", m.name, "error", err)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reviving = false
	// Whoever watched it die while it was being revived left that to us.
	if m.reviving = m.bereft(); m.reviving {
		return i.ended()
	}
	m.enter(m.inService(), "", "")
	return nil
}

// inService is the phase of a module that has a process. The caller holds mu.
func (m *module) inService() Phase {
	if m.held {
		return Held
	}
	return Serving
}

// brings reports whether a version is being brought into service.
func (m *module) brings(version string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exchanging == version
}

// everyone lists the processes of every generation.
func (m *module) everyone() []*instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.instances)
}

// giveUp takes the module out of service because the generation dies too often,
// unless another has taken its place.
func (m *module) giveUp(g *generation, why, cause error) {
	n := m.node
	done, err := m.change(n.ctx)
	if err != nil {
		return
	}
	defer done()
	m.mu.Lock()
	if m.retired || m.current != g || len(g.alive()) > 0 {
		m.reviving = false
		if m.bereft() {
			m.mourn(cause)
		}
		m.mu.Unlock()
		return
	}
	m.retired = true
	m.mu.Unlock()
	reason := wire.NewError(base.Code_unavailable, "look at its log, then replace the file, or try it again with inos plugin swap "+m.name,
		"it ended too often: %w; the last: %w", why, cause)
	n.note(g, events.GivenUp, 0, reason)
	n.exclude(g, reason, true)
	m.retire(reason)
	n.wake()
}

// retire takes a module out of service for good. No process of it runs.
func (m *module) retire(reason error) {
	n, name := m.node, m.name
	m.mu.Lock()
	m.retired = true
	m.mu.Unlock()
	n.engine.Retire(name, reason)
	m.withdraw()
	if err := n.states.Drop(name); err != nil {
		n.log.Error("state blocks", "plugin", name, "error", err)
	}
	if m.arena.ID() != system.ArenaCommons {
		if err := n.segment.DropArena(m.arena.ID()); err != nil {
			n.log.Error("arena", "plugin", name, "error", err)
		}
	}
	n.mu.Lock()
	if n.modules[name] == m { // last, so that a newcomer of that name finds nothing of it
		delete(n.modules, name)
	}
	n.served++
	n.mu.Unlock()
}
