package node

import (
	"context"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Spawn implements syscalls.Instances: it starts further processes of a module
// that is in service and returns the number of the first.
func (n *Node) Spawn(ctx context.Context, name string, count int) (uint32, error) {
	if count < 1 {
		return 0, wire.NewError(base.Code_invalidArgument, "ask for one or more", "%d instances of %s", count, name)
	}
	m, err := n.module(name)
	if err != nil {
		return 0, err
	}
	var first uint32
	for range count {
		m.mu.Lock()
		full := len(m.instances)+m.coming >= m.rule.MaxInstances
		if !full {
			m.coming++
		}
		m.mu.Unlock()
		if full {
			return first, wire.NewError(base.Code_resourceExhausted, "raise max_instances in the node's policy.json",
				"%s runs %d instances already", name, m.rule.MaxInstances)
		}
		i, err := m.another(ctx)
		m.mu.Lock()
		m.coming--
		m.mu.Unlock()
		if err != nil {
			return first, err
		}
		if first == 0 {
			first = i.id
		}
	}
	return first, nil
}

// another starts one more process of the module.
func (m *module) another(ctx context.Context) (*instance, error) {
	b, err := m.node.launch(ctx, m.entry)
	if err != nil {
		return nil, err
	}
	if err := sameModule(m.manifest, b.manifest); err != nil {
		b.kill(err)
		return nil, err
	}
	return m.connect(ctx, b)
}

// StopInstance implements syscalls.Instances. The module's last process cannot
// be stopped this way.
func (n *Node) StopInstance(ctx context.Context, name string, id uint32) error {
	m, err := n.module(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	var found *instance
	left := 0
	for _, i := range m.instances {
		switch {
		case i.id == id && !i.stopping:
			found = i
		case !i.stopping:
			left++
		}
	}
	m.mu.Unlock()
	if found == nil {
		return wire.NewError(base.Code_notFound, "see inos plugin info "+name, "%s has no instance %d", name, id)
	}
	if left == 0 {
		return wire.NewError(base.Code_invalidArgument, "take the plugin out of service instead", "instance %d is the last of %s", id, name)
	}
	n.tasks.Go(func() { found.quit(n.ctx) }) // the caller may be one of its own jobs
	return nil
}

// module finds a module in service.
func (n *Node) module(name string) (*module, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m, ok := n.modules[name]; ok {
		return m, nil
	}
	return nil, wire.NewError(base.Code_notFound, "see inos plugin list", "no module %s is served", name)
}
