package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// module is a plugin that was accepted: its binary, its manifest, its arena and
// the processes that serve it.
type module struct {
	node     *Node
	entry    catalog.Entry
	manifest *wire.Manifest
	rule     policy.Rule
	grants   []system.Grant
	arena    *arena.Arena
	backoff  *supervisor.Backoff // revive's own

	mu          sync.Mutex
	phase       Phase
	reason      string
	hint        string
	since       time.Time
	retryAt     time.Time
	restarts    int
	startTook   time.Duration
	incarnation uint32
	instances   []*instance
	coming      int  // instances being started on request
	admitted    bool // it passed its self-test: when it dies it is started again
	reviving    bool // revive runs
	retired     bool // no process of it will ever run again
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
	s.Name, s.Version, s.Description = m.manifest.Name, m.manifest.Version.String(), m.manifest.Description
	s.Manifest, s.Arena = m.manifest, string(m.rule.Arena)
	s.Phase, s.Reason, s.Hint, s.Since = m.phase, m.reason, m.hint, m.since
	s.RetryAt, s.Restarts, s.StartTook = m.retryAt, m.restarts, m.startTook
	for _, g := range m.grants {
		s.Grants = append(s.Grants, g.String())
	}
	for _, c := range m.manifest.Capabilities {
		s.Capabilities = append(s.Capabilities, c.Name)
	}
	for _, i := range m.instances {
		s.Instances = append(s.Instances, i.status())
	}
}

// serving reports whether a process of the module takes jobs.
func (m *module) serving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase == Serving
}

// selfTest runs the job by which the module shows that it works. It ends with
// the process that is on trial.
func (m *module) selfTest(ctx context.Context, i *instance) error {
	name := m.manifest.SelfTest
	if name == "" {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, m.node.opts.StartTimeout)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-i.proc.Dead():
			cancel(i.ended())
		case <-ctx.Done():
		}
	}()
	j, err := m.node.engine.Submit(ctx, dispatch.Request{Capability: name})
	if err != nil {
		return fmt.Errorf("its self-test %s was not taken: %w", name, err)
	}
	defer j.Close()
	for {
		p, err := j.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("its self-test %s failed: %w", name, err)
		}
		p.Release()
	}
}

// admit puts the module into service after its self-test.
func (m *module) admit() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admitted = true
	m.enter(Serving, "", "")
	if m.bereft() { // its process died a moment ago, when that was nobody's business yet
		m.mourn(errors.New("it ended right after its self-test"))
	}
}

// expel takes a module out whose self-test failed.
func (m *module) expel(cause error) {
	// A process that is being ended may still bring another into the world; when it
	// is gone, it cannot any more.
	for i := m.first(); i != nil; i = m.first() {
		i.end(cause)
		<-i.gone
	}
	m.retire(cause)
}

// first returns a process of the module, nil if there is none.
func (m *module) first() *instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.instances) == 0 {
		return nil
	}
	return m.instances[0]
}

// bereft reports whether nobody serves the module, or is about to, and somebody
// should. The caller holds mu.
func (m *module) bereft() bool {
	left := slices.ContainsFunc(m.instances, func(i *instance) bool { return !i.stopping })
	return m.admitted && !m.retired && !m.reviving && !left && m.coming == 0 && m.node.ctx.Err() == nil
}

// mourn has the module started again. The caller holds mu and knows that it is
// bereft.
func (m *module) mourn(cause error) {
	m.reviving = true
	m.enter(BackingOff, cause.Error(), "")
	m.node.tasks.Go(func() { m.revive(cause) })
}

// revive starts the module again after a pause, until it serves or is given up.
func (m *module) revive(cause error) {
	n := m.node
	for n.ctx.Err() == nil {
		pause, err := m.backoff.Died(time.Now())
		if err != nil {
			n.log.Error("given up", "plugin", m.manifest.Name, "cause", cause, "reason", err)
			m.giveUp(err, cause)
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
		m.mu.Lock()
		m.enter(Starting, cause.Error(), "")
		m.mu.Unlock()
		i, err := m.another(n.ctx)
		if err != nil {
			n.log.Warn("did not come back", "plugin", m.manifest.Name, "error", err)
			cause = err
			continue
		}
		m.mu.Lock()
		m.reviving = false
		// Whoever watched it die while it was being revived left that to us.
		m.reviving = m.bereft()
		again := m.reviving
		m.mu.Unlock()
		if !again {
			return
		}
		cause = i.ended()
	}
}

// giveUp takes the module out of service because it dies too often.
func (m *module) giveUp(why, cause error) {
	m.retire(fmt.Errorf("it ended too often: %w", cause))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enter(Stopped, fmt.Sprintf("%v; the last: %v", why, cause), "look at its log, then replace the plugin and start the node again")
}

// retire takes a module out of service for good. No process of it runs.
func (m *module) retire(reason error) {
	n, name := m.node, m.manifest.Name
	m.mu.Lock()
	m.retired = true
	m.mu.Unlock()
	n.mu.Lock()
	delete(n.modules, name)
	n.mu.Unlock()
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
}
