package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"inos/host/dispatch"
	"inos/host/policy"
	"inos/host/swap"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
	"inos/shm/state"
)

// acceptable checks what a plugin says of itself before it is given anything.
func acceptable(m *wire.Manifest) error {
	if m.ABIMajor != system.AbiMajor || m.ABIMinor > system.AbiMinor {
		return wire.NewError(base.Code_notSupported, "build it with this node's SDK",
			"%s %s was built for ABI %d.%d, and this node has %d.%d", m.Name, m.Version, m.ABIMajor, m.ABIMinor, system.AbiMajor, system.AbiMinor)
	}
	if m.LayoutHash != layout.Hash() {
		return wire.NewError(base.Code_notSupported, "build it with this node's SDK",
			"%s %s was built for another memory layout (%x instead of %x)", m.Name, m.Version, m.LayoutHash, layout.Hash())
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	return nil
}

// lasting reports whether a refusal will be the same when it is tried again with
// the same file. One that is about other modules can be over when those change.
func lasting(err error) bool {
	return !errors.Is(err, errMissing) && !errors.Is(err, errCycle) && !errors.Is(err, errTaken) &&
		!errors.Is(err, errLingering) && !errors.Is(err, swap.ErrIncumbent) && !errors.Is(err, dispatch.ErrClash)
}

// errTaken says that another module has what this one wants.
var errTaken = errors.New("another module has it")

// check makes sure that a generation can serve beside the modules that do.
func (g *generation) check() error {
	n, m := g.module.node, g.manifest
	if err := g.rule.Admits(m, g.entry.Publisher); err != nil {
		return err
	}
	others := n.serving()
	delete(others, m.Name)
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if err := apart(m, others[name]); err != nil {
			return err
		}
	}
	if err := g.checkDependencies(others); err != nil {
		return err
	}
	was := g.module.serves()
	if was == nil {
		return nil
	}
	if a, b := was.arena(), g.arena(); a == policy.Commons && b != a {
		return wire.NewError(base.Code_permissionDenied, "sign it with a trusted key, or remove the plugin from the folder first",
			"%s lies in the commons, where only plugins signed by a trusted key may be, and %s is not", was, g)
	}
	return wire.CanAdopt(n.left(m.Name), m)
}

// left lists the state blocks of a module that are there.
func (n *Node) left(module string) []wire.StateSpec {
	var list []wire.StateSpec
	for _, e := range n.states.List() {
		if e.Module == module {
			list = append(list, wire.StateSpec{Name: e.Name, Schema: e.Schema})
		}
	}
	return list
}

// declares reports whether a manifest has a state block as its own.
func declares(m *wire.Manifest) func(state.Entry) bool {
	return func(e state.Entry) bool {
		return slices.ContainsFunc(m.State, func(s wire.StateSpec) bool { return s.Name == e.Name && s.Schema == e.Schema })
	}
}

// apart makes sure that two modules do not want the same thing.
func apart(m, other *wire.Manifest) error {
	for _, theirs := range other.Capabilities {
		for _, c := range m.Capabilities {
			if c.Name == theirs.Name {
				return fmt.Errorf("%w: %s claims the capability %s, which is %s's; leave one of them in the folder", errTaken, m.Name, c.Name, other.Name)
			}
		}
	}
	for _, what := range m.Resources.Exclusive {
		if slices.Contains(other.Resources.Exclusive, what) {
			return fmt.Errorf("%w: %s needs %s for itself, which %s holds; leave one of them in the folder", errTaken, m.Name, what, other.Name)
		}
	}
	return nil
}

// clash makes sure that a module can be beside others.
func clash(m *wire.Manifest, others []*wire.Manifest) error {
	for _, o := range others {
		if err := apart(m, o); err != nil {
			return err
		}
	}
	return nil
}

// checkDependencies makes sure that a generation has what it depends on, that no
// circle forms, and that those who depend on the module are content with it.
func (g *generation) checkDependencies(others map[string]*wire.Manifest) error {
	m := g.manifest
	for _, d := range m.Dependencies {
		if err := g.module.node.satisfied(d); err != nil && !d.Optional {
			return err
		}
	}
	others[m.Name] = m
	_, after := order(others)
	delete(others, m.Name)
	if err := after[m.Name]; err != nil {
		return err
	}
	was := g.module.serves()
	if was == nil {
		return nil
	}
	others[m.Name] = was.manifest
	_, before := order(others)
	delete(others, m.Name)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] == nil { // it can go on with the version that serves
			return fmt.Errorf("%s depends on %s and could not go on with %s: %w", name, m.Name, m.Version, after[name])
		}
	}
	return nil
}

// serving returns the manifest of every module in service.
func (n *Node) serving() map[string]*wire.Manifest {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make(map[string]*wire.Manifest)
	for name, m := range n.modules {
		if g := m.serves(); g != nil {
			list[name] = g.manifest
		}
	}
	return list
}

// serves returns the generation that serves, nil while there is none.
func (m *module) serves() *generation {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.admitted || m.retired {
		return nil
	}
	return m.current
}

// satisfied makes sure that a dependency is in service by now.
func (n *Node) satisfied(d wire.Dependency) error {
	var seen []error
	for _, name := range append([]string{d.Module}, d.Alternatives...) {
		n.mu.Lock()
		m := n.modules[name]
		n.mu.Unlock()
		if m == nil {
			seen = append(seen, fmt.Errorf("%w: %s is not served", errMissing, name))
			continue
		}
		switch g := m.serves(); {
		case g == nil:
			seen = append(seen, fmt.Errorf("%w: %s is not in service yet", errMissing, name))
		case !accepts(d, g.manifest.Version):
			seen = append(seen, fmt.Errorf("%w: %s is %s, and %s to %s is needed", errMissing, name, g.manifest.Version, d.Min, d.Max))
		default:
			return nil
		}
	}
	return errors.Join(seen...)
}

// Bounds of a private arena, as shares of the segment.
const (
	leastArena   = 256 << 10
	commonsShare = 32 // the commons when nobody is let in: one in so many
	arenaShare   = 16 // what a module gets that asks for nothing: one in so many
	largestShare = 4  // what it can ask for at most: one in so many
)

// commons returns the size of the arena that plugins share: the segment's default
// where the policy lets any in, and else little, so that the memory is there for
// private arenas.
func (n *Node) commons() uint64 {
	if n.policy.Shares() {
		return 0
	}
	return max(leastArena, n.opts.Segment/commonsShare) &^ (uint64(system.PageSize) - 1)
}

// arena says where the generation's blocks may lie, by the policy.
func (g *generation) arena() policy.Arena {
	a, _ := g.rule.ArenaFor(g.entry.Publisher)
	return a
}

// arenaNote says why the generation is not where the policy would have it.
func (g *generation) arenaNote() string {
	_, note := g.rule.ArenaFor(g.entry.Publisher)
	return note
}

// room finds the arena that the blocks of a generation's module lie in.
func (g *generation) room() (*arena.Arena, error) {
	n := g.module.node
	if g.arena() == policy.Commons {
		return n.segment.Commons(), nil
	}
	size := g.rule.ArenaBytes
	if size == 0 {
		if size = g.manifest.Resources.Arena; size == 0 {
			size = n.opts.Segment / arenaShare
		}
		size = max(leastArena, min(size, n.opts.Segment/largestShare))
	}
	return n.segment.NewPrivate(g.manifest.Name, size)
}
