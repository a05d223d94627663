package node

import (
	"context"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Spawn implements syscalls.Instances: it starts further processes of a module
// that is in service, all of them or none, and returns the number of the first.
func (n *Node) Spawn(ctx context.Context, name string, count int) (uint32, error) {
	if count < 1 {
		return 0, wire.NewError(base.Code_invalidArgument, "ask for one or more", "%d instances of %s", count, name)
	}
	m, _, err := n.module(name)
	if err != nil {
		return 0, err
	}
	g, err := m.reserve(count)
	if err != nil {
		return 0, err
	}
	started := make([]*instance, 0, count)
	for len(started) < count && err == nil {
		var i *instance
		if i, err = g.another(ctx); err == nil {
			started = append(started, i)
		}
	}
	m.mu.Lock()
	if m.coming -= count; m.coming == 0 && m.arrived != nil {
		close(m.arrived)
		m.arrived = nil
	}
	if m.bereft() { // the one that asked may have died meanwhile
		m.mourn(g.why())
	}
	m.mu.Unlock()
	if err != nil {
		for _, i := range started {
			i.dismiss()
			n.tasks.Go(func() { i.quit(context.Background(), errNotAll) })
		}
		return 0, err
	}
	return started[0].id, nil
}

// reserve takes count of the places that the policy grants, for processes of the
// generation that it returns.
func (m *module) reserve(count int) (*generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.retired || !m.admitted {
		return nil, errRetired
	}
	if m.exchanging != "" {
		return nil, wire.NewError(base.Code_unavailable, "ask again when that is over", "%s is being exchanged for version %s", m.name, m.exchanging)
	}
	taken, most := len(m.current.alive())+m.coming, m.current.rule.MaxInstances
	if count > most-taken {
		return nil, wire.NewError(base.Code_resourceExhausted, "ask for fewer, or raise max_instances in the node's policy.json",
			"%d more instances of %s, which runs %d of at most %d", count, m.name, taken, most)
	}
	m.coming += count
	return m.current, nil
}

var (
	errNotAll    = wire.NewError(base.Code_unavailable, "", "it was started with others, of which one did not start")
	errDismissed = wire.NewError(base.Code_unavailable, "run the job again", "the plugin stopped this instance of itself")
)

// StopInstance implements syscalls.Instances. The module's last process cannot
// be stopped this way.
func (n *Node) StopInstance(_ context.Context, name string, id uint32) error {
	m, _, err := n.module(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *instance
	left := 0
	for _, i := range m.instances {
		switch {
		case i.stopping || i.gen != m.current:
		case i.id == id:
			found = i
		default:
			left++
		}
	}
	if found == nil {
		return wire.NewError(base.Code_notFound, "see inos plugin info "+name, "%s has no instance %d", name, id)
	}
	if left == 0 {
		return wire.NewError(base.Code_invalidArgument, "start another one before", "instance %d is the last of %s", id, name)
	}
	found.stopping = true // before another call counts it among those that are left
	// Not waited for: the caller may be one of its own jobs.
	n.tasks.Go(func() { found.quit(context.Background(), errDismissed) })
	return nil
}

// module finds a module in service, and the generation that serves.
func (n *Node) module(name string) (*module, *generation, error) {
	if m := n.moduleOrNil(name); m != nil {
		if g := m.serves(); g != nil {
			return m, g, nil
		}
	}
	return nil, nil, wire.NewError(base.Code_notFound, "see inos plugin list", "no module %s is served", name)
}
