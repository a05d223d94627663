package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"inos/host/catalog"
	"inos/plugins/sdk/wire"
)

// decide compares what serves with what should, and sets right what differs. It
// reports whether nothing is left to do.
func (n *Node) decide() (idle bool) {
	n.mu.Lock()
	idle = true
	names := make(map[string]bool)
	for _, r := range n.rows {
		if r.busy {
			idle = false
		}
		if r.manifest != nil {
			names[r.manifest.Name] = true
		}
	}
	for name := range n.modules {
		names[name] = true
	}
	for _, name := range n.history.Modules() {
		names[name] = true
	}
	busy := !idle || len(n.watcher.Settling()) > 0
	n.mu.Unlock()

	newcomers := make(map[string]target)
	for name := range names {
		t, ok := n.target(name)
		m := n.moduleOrNil(name)
		n.spare(name, t, m)
		switch {
		case !ok && m != nil && !busy:
			idle = n.remove(m) && idle
		case !ok:
		case m == nil:
			newcomers[name] = t
		default:
			m.keep()
			idle = n.aim(m, t) && idle
		}
	}
	return n.welcome(newcomers, busy) && idle
}

// spare ends the processes of versions that described themselves and are not to
// serve now.
func (n *Node) spare(name string, t target, m *module) {
	var serves *generation
	if m != nil {
		serves = m.serves()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.rows {
		ours := r.manifest != nil && r.manifest.Name == name
		if ours && (r != t.row || serves != nil && serves.entry.Digest == r.entry.Digest) {
			r.drop()
		}
	}
}

// target is the version of a module that is to serve.
type target struct {
	entry    catalog.Entry
	manifest *wire.Manifest // nil when only the store has it
	row      *row           // nil when no file of the folder is it
	served   uint64         // Node.served when it was chosen
}

// target decides which version of a module is to serve, false for none.
func (n *Node) target(name string) (target, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pin := n.history.Pin(name)
	best, present := n.best(name, pin)
	switch {
	case best.row != nil:
		return best, true
	case !present && pin == "":
		return target{}, false
	case pin != "" && !n.history.RolledBack(name, pin):
		if t, ok := n.stored(n.history.Find(name, pin)); ok {
			return t, true
		}
	}
	if m := n.modules[name]; m != nil { // nothing better is there: what serves goes on
		if g := m.serves(); g != nil {
			return target{entry: g.entry, manifest: g.manifest}, true
		}
		return target{}, false
	}
	return n.stored(n.history.Last(name))
}

// best picks among the files of the folder. Present reports whether any of them is
// of the module, whatever is wrong with it. The caller holds mu.
func (n *Node) best(name, pin string) (best target, present bool) {
	files := n.history.Files(name)
	for _, r := range n.rows {
		if r.manifest == nil {
			present = present || slices.Contains(files, r.file.Name)
			continue
		}
		if r.manifest.Name != name {
			continue
		}
		present = true
		t := target{entry: r.entry, manifest: r.manifest, row: r, served: n.served}
		switch {
		case r.busy, !n.worthTrying(r.err):
		case pin != "" && r.entry.Digest != pin:
		case pin == "" && n.history.RolledBack(name, r.entry.Digest):
		case best.row == nil || better(t, best):
			best = t
		}
	}
	return best, present
}

// stored finds a version in the store that the folder need not have any more. The
// caller holds mu.
func (n *Node) stored(v catalog.Version, ok bool) (target, bool) {
	if !ok || n.failed[v.Digest] != nil {
		return target{}, false
	}
	e, err := n.store.Get(v.Digest, v.Name)
	if err != nil {
		n.failed[v.Digest] = err
		n.log.Error("a version that should serve is not in the store", "version", v.Version, "digest", v.Digest, "error", err)
		return target{}, false
	}
	return target{entry: e}, true
}

// worthTrying reports whether something that failed may succeed now. The caller
// holds mu.
func (n *Node) worthTrying(err error) bool {
	var r retryable
	return err == nil || errors.As(err, &r) && r.served != n.served
}

// better reports whether a is to be preferred: the higher version, and of two
// files of one version the younger.
func better(a, b target) bool {
	return cmp.Or(a.manifest.Version.Compare(b.manifest.Version), a.row.file.Time.Compare(b.row.file.Time), cmp.Compare(a.entry.Digest, b.entry.Digest)) > 0
}

// keep notes that a module has a file in the folder.
func (m *module) keep() {
	m.mu.Lock()
	m.orphan = time.Time{}
	m.mu.Unlock()
}

// remove takes a module out whose files are gone, after a while. It reports
// whether that is done or will be seen to.
func (n *Node) remove(m *module) bool {
	m.mu.Lock()
	if m.orphan.IsZero() {
		m.orphan = time.Now()
		time.AfterFunc(removalGrace, n.wake)
	}
	due := time.Since(m.orphan) >= removalGrace
	going := m.going
	m.going = m.going || due
	m.mu.Unlock()
	if due && !going {
		n.tasks.Go(func() {
			n.dissolve(m, errFileGone)
			n.wake()
		})
	}
	return false
}

// aim brings a module to a version. It reports whether it is there.
func (n *Node) aim(m *module, t target) bool {
	m.mu.Lock()
	there := m.current.entry.Digest == t.entry.Digest
	manual := !there && t.row != nil && m.current.rule.Waits()
	under := m.aiming
	if !there && !manual && !under {
		m.aiming = true
	}
	m.mu.Unlock()
	if there || manual {
		return m.serves() != nil // else it is on its way
	}
	if !under {
		n.tasks.Go(func() {
			if err := n.keepTo(m, t); n.verdict(n.ctx, err) {
				n.refuse(t, err)
			}
			m.mu.Lock()
			m.aiming = false
			m.mu.Unlock()
			n.wake()
		})
	}
	return false
}

// keepTo exchanges a module for what the folder wants when its turn has come: that
// may be something else by then.
func (n *Node) keepTo(m *module, t target) error {
	done, err := m.change(n.ctx)
	if err != nil {
		return err
	}
	defer done()
	if now, ok := n.target(m.name); !ok || now.entry.Digest != t.entry.Digest {
		return nil
	}
	return n.exchangeLocked(n.ctx, m, t, false)
}

// verdict reports whether an error says something of the version, and not of the
// moment or of who asked.
func (n *Node) verdict(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && n.ctx.Err() == nil && !errors.Is(err, errRetired) && !errors.Is(err, errArriving)
}

// welcome takes modules into service that are new, each as soon as what it
// depends on serves. It reports whether none is left. While files are being
// inspected nobody is refused for what may be among them.
func (n *Node) welcome(newcomers map[string]target, busy bool) (idle bool) {
	manifests := n.serving()
	known := make(map[string]target)
	for name, t := range newcomers {
		if t.manifest == nil { // only the store has it
			m, b, err := n.know(t.entry)
			if err != nil {
				n.refuse(t, err)
				continue
			}
			t.manifest = m
			b.kill(errReplaced) // it is started again when its turn comes
		}
		known[name] = t
		manifests[name] = t.manifest
	}
	stages, refused := order(manifests)
	level := make(map[string]int)
	for at, stage := range stages {
		for _, name := range stage {
			level[name] = at
		}
	}
	idle = true
	var before []*wire.Manifest // of the newcomers that come first
	for _, name := range slices.Sorted(maps.Keys(known)) {
		t := known[name]
		if busy && t.row != nil && time.Since(t.row.since) < arrivalPatience {
			idle = false // others may come first, or be what it depends on
			continue
		}
		if err := clash(t.manifest, before); err != nil {
			n.refuse(t, err)
			continue
		}
		before = append(before, t.manifest)
		if err := refused[name]; err != nil && !busy {
			n.refuse(t, err)
			continue
		}
		idle = false
		if refused[name] != nil {
			continue
		}
		if !slices.ContainsFunc(t.manifest.Dependencies, func(d wire.Dependency) bool {
			return slices.ContainsFunc(append([]string{d.Module}, d.Alternatives...), func(on string) bool {
				_, pending := known[on]
				return pending && refused[on] == nil && level[on] < level[name]
			})
		}) {
			n.admit(name, t)
		}
	}
	return idle
}

// admit has a new module taken into service, unless that is under way.
func (n *Node) admit(name string, t target) {
	n.mu.Lock()
	under := n.arriving[name] || n.modules[name] != nil
	n.mu.Unlock()
	if under {
		return
	}
	n.tasks.Go(func() {
		if err := n.arrive(name, t); n.verdict(n.ctx, err) {
			n.refuse(t, err)
		}
		n.wake()
	})
}
