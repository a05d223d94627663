package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
)

// startAll takes every plugin of the folder into service that can be. Processes
// are started and asked side by side; then modules are connected in the order of
// their dependencies, those of one stage side by side.
func (n *Node) startAll(ctx context.Context) error {
	candidates, err := catalog.Scan(n.opts.PluginsDir, catalog.Limits{})
	if err != nil {
		return err
	}
	type entry struct {
		row   *row
		entry catalog.Entry
		begun begun
		err   error
	}
	var entries []*entry
	for _, c := range candidates {
		r := &row{status: PluginStatus{File: c.Name, Name: c.Name, Since: time.Now()}}
		n.rows = append(n.rows, r)
		e, err := n.store.Admit(c)
		if err != nil {
			n.refuse(r, err)
			continue
		}
		r.status.Digest = e.Digest
		entries = append(entries, &entry{row: r, entry: e})
	}
	var all sync.WaitGroup
	for _, e := range entries {
		all.Go(func() { e.begun, e.err = n.launch(ctx, e.entry) })
	}
	all.Wait()

	manifests := make(map[string]*wire.Manifest)
	modules := make(map[string]*entry)
	for _, e := range entries {
		if e.err == nil {
			e.err = n.admissible(e.begun.manifest, manifests)
		}
		if e.err != nil {
			e.begun.kill(e.err)
			n.refuse(e.row, e.err)
			continue
		}
		manifests[e.begun.manifest.Name] = e.begun.manifest
		modules[e.begun.manifest.Name] = e
	}
	stages, refused := order(manifests)
	for name, err := range refused {
		modules[name].begun.kill(err)
		n.refuse(modules[name].row, err)
	}
	for _, stage := range stages {
		var side sync.WaitGroup
		for _, name := range stage {
			e := modules[name]
			side.Go(func() {
				if err := n.take(ctx, e.row, e.entry, e.begun); err != nil {
					n.refuse(e.row, err)
				}
			})
		}
		side.Wait()
	}
	n.prune()
	return ctx.Err()
}

// prune removes binaries from the store that no file of the folder stands for any
// more.
func (n *Node) prune() {
	var keep []string
	for _, r := range n.rows {
		if r.module != nil {
			keep = append(keep, r.status.Digest)
		}
	}
	removed, err := n.store.Prune(keep)
	if err != nil {
		n.log.Warn("old binaries stay in the store", "error", err)
	}
	if len(removed) > 0 {
		n.log.Info("removed binaries that are no longer used", "count", len(removed))
	}
}

// refuse notes that a file is not served, and why.
func (n *Node) refuse(r *row, err error) {
	n.log.Error("plugin refused", "file", r.status.File, "error", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	r.status.Phase, r.status.Reason, r.status.Hint = Refused, err.Error(), ""
	r.status.Since = time.Now()
	r.module = nil
	// Errors that know what to do about themselves say it apart.
	var file *catalog.Refusal
	var start *supervisor.LaunchError
	switch other := (*wire.Error)(nil); {
	case errors.As(err, &file):
		r.status.Reason, r.status.Hint = file.Reason.String()+": "+file.Detail, file.Hint
	case errors.As(err, &start):
		r.status.Reason, r.status.Hint = start.Reason.String()+": "+start.Detail, start.Hint
	case errors.As(err, &other):
		whole := wire.AsError(err) // with what was said around it
		r.status.Reason, r.status.Hint = whole.Message, whole.Hint
	}
}

// acceptable checks what a plugin says of itself before it is given anything.
func acceptable(m *wire.Manifest) error {
	if m.ABIMajor != system.AbiMajor || m.ABIMinor > system.AbiMinor {
		return fmt.Errorf("%s %s was built for ABI %d.%d, and this node has %d.%d; build it with this node's SDK",
			m.Name, m.Version, m.ABIMajor, m.ABIMinor, system.AbiMajor, system.AbiMinor)
	}
	if m.LayoutHash != layout.Hash() {
		return fmt.Errorf("%s %s was built for another memory layout (%x instead of %x); build it with this node's SDK",
			m.Name, m.Version, m.LayoutHash, layout.Hash())
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	return nil
}

// admissible checks a manifest against the policy and the modules before it.
func (n *Node) admissible(m *wire.Manifest, others map[string]*wire.Manifest) error {
	if *n.policy.For(m.Name).Disabled {
		return fmt.Errorf("the operator's policy disables %s; see %s", m.Name, filepath.Join(n.opts.Home, "policy.json"))
	}
	if o, twice := others[m.Name]; twice {
		return fmt.Errorf("another file is the module %s too, in version %s; leave one of them in the folder", m.Name, o.Version)
	}
	for _, o := range others {
		for _, theirs := range o.Capabilities {
			for _, c := range m.Capabilities {
				if c.Name == theirs.Name {
					return fmt.Errorf("%s claims the capability %s, which is %s's; leave one of them in the folder", m.Name, c.Name, o.Name)
				}
			}
		}
	}
	return nil
}

// take makes a module of a process that described itself, connects it, tests it
// and puts it into service. Nothing of it is left when that fails.
func (n *Node) take(ctx context.Context, r *row, e catalog.Entry, b begun) error {
	m := &module{node: n, entry: e, manifest: b.manifest, rule: n.policy.For(b.manifest.Name)}
	m.backoff = supervisor.NewBackoff(n.opts.Restart)
	m.grants = m.rule.Granted(b.manifest.Needs)
	for _, d := range b.manifest.Dependencies {
		if err := n.satisfied(d); err != nil && !d.Optional {
			b.kill(err)
			return err
		}
	}
	a, err := n.room(m)
	if err != nil {
		b.kill(err)
		return err
	}
	m.arena = a
	m.mu.Lock()
	m.enter(Starting, "", "")
	m.mu.Unlock()
	n.mu.Lock()
	n.modules[b.manifest.Name] = m
	r.module = m
	n.mu.Unlock()
	i, err := m.connect(ctx, b)
	if err != nil {
		m.retire(err)
		return err
	}
	if err := m.selfTest(ctx, i); err != nil {
		m.expel(err)
		return err
	}
	m.admit()
	return nil
}

// satisfied makes sure that a dependency is in service by now.
func (n *Node) satisfied(d wire.Dependency) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range append([]string{d.Module}, d.Alternatives...) {
		if m, ok := n.modules[name]; ok && accepts(d, m.manifest.Version) && m.serving() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s could not be taken into service", errMissing, d.Module)
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

// room finds the arena that a module's blocks lie in.
func (n *Node) room(m *module) (*arena.Arena, error) {
	if m.rule.Arena == policy.Commons {
		return n.segment.Commons(), nil
	}
	size := m.rule.ArenaBytes
	if size == 0 {
		if size = m.manifest.Resources.Arena; size == 0 {
			size = n.opts.Segment / arenaShare
		}
		size = max(leastArena, min(size, n.opts.Segment/largestShare))
	}
	return n.segment.NewPrivate(m.manifest.Name, size)
}

// instances lists every process in service.
func (n *Node) instances() []*instance {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []*instance
	for _, m := range n.modules {
		m.mu.Lock()
		list = append(list, m.instances...)
		m.mu.Unlock()
	}
	return list
}

// stopAll stops every process, side by side. When ctx ends, those that are left
// are killed.
func (n *Node) stopAll(ctx context.Context) {
	var all sync.WaitGroup
	for _, i := range n.instances() {
		all.Go(func() { i.quit(ctx, errStopping) })
	}
	all.Wait()
}
