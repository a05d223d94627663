package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"inos/host/catalog"
	"inos/host/events"
	"inos/host/journal"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Version describes one version of a plugin that the node knows.
type Version struct {
	Version   string
	Digest    string // SHA-256 of the binary, hex
	File      string // its name when it was admitted
	Publisher string // whose key signed it, "" for nobody's
	Size      int64
	Admitted  time.Time
	Outcome   string // "served", "rolled back", "refused", or "" when never tried
	Reason    string
	Serving   bool
	Pinned    bool
	Stored    bool // the binary is in the store, so it can be served again
}

// Events returns what happened to the plugins.
func (n *Node) Events() *events.Log { return n.events }

// Durable returns the journal of durable jobs.
func (n *Node) Durable() *journal.Journal { return n.journal }

// Swap puts another version of a module into service: the highest of the folder
// for "", else the one of that number or of a digest that begins so. A version
// that was refused or rolled back is tried again. It returns when the new version
// serves, on probation, or with the reason why the old one still does. A version
// that the folder would not choose is pinned.
func (n *Node) Swap(ctx context.Context, name, version string) error {
	t, err := n.find(name, version)
	if err != nil {
		return err
	}
	if err := n.history.Forgive(name, t.entry.Digest); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.failed, t.entry.Digest)
	if t.row != nil {
		t.row.err, t.row.stopped = nil, false
	}
	n.mu.Unlock()
	if version != "" {
		if chosen, ok := n.target(name); !ok || chosen.entry.Digest != t.entry.Digest {
			if err := n.history.SetPin(name, t.entry.Digest); err != nil {
				return err
			}
			n.events.Append(events.Event{Module: name, Digest: t.entry.Digest, Step: events.Pinned})
		}
	}
	return n.put(ctx, name, t)
}

// put brings a version into service, whether its module is served or not.
func (n *Node) put(ctx context.Context, name string, t target) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.ctx, func() { cancel(errStopping) })()
	var err error
	if m := n.moduleOrNil(name); m != nil {
		err = n.exchange(ctx, m, t)
	} else {
		err = n.arrive(name, t)
	}
	if n.verdict(ctx, err) {
		n.refuse(t, err)
	}
	n.wake()
	return err
}

// find looks for a version among the files of the folder and in the store.
func (n *Node) find(name, version string) (target, error) {
	n.mu.Lock()
	var best target
	for _, r := range n.rows {
		if r.busy || r.manifest == nil || r.manifest.Name != name {
			continue
		}
		if t := (target{entry: r.entry, manifest: r.manifest, row: r, served: n.served}); named(version, r.manifest.Version.String(), r.entry.Digest) && (best.row == nil || better(t, best)) {
			best = t
		}
	}
	n.mu.Unlock()
	if best.row != nil {
		return best, nil
	}
	for _, v := range n.history.List(name) {
		if version != "" && named(version, v.Version, v.Digest) {
			e, err := n.store.Get(v.Digest, v.Name)
			return target{entry: e}, err
		}
	}
	if version == "" {
		return target{}, wire.NewError(base.Code_notFound, "see inos plugin list", "no file of the plugins folder is %s", name)
	}
	return target{}, wire.NewError(base.Code_notFound, "see inos plugin history "+name, "%s has no version %s", name, version)
}

// leastPrefix is how much of a digest names a version.
const leastPrefix = 6

// named reports whether a version is meant by what an operator wrote.
func named(wanted, version, digest string) bool {
	return wanted == "" || wanted == version || len(wanted) >= leastPrefix && strings.HasPrefix(digest, strings.ToLower(wanted))
}

// errAsked is the reason of what an operator wants.
var errAsked = wire.NewError(base.Code_canceled, "", "an operator asked for it")

// Rollback goes back to the version that served before, and keeps the one that
// serves now out until Swap names it.
func (n *Node) Rollback(ctx context.Context, name string) error {
	m, g, err := n.module(name)
	if err != nil {
		return err
	}
	return n.goBack(ctx, m, g, errAsked)
}

// goBack takes a generation out of service for a reason, and the one before it
// back in. When that cannot be, the generation stays.
func (n *Node) goBack(ctx context.Context, m *module, g *generation, cause error) error {
	from := time.Now()
	done, err := m.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	if m.serves() != g {
		m.endTrial(g)
		return nil // it has gone already
	}
	v, ok := n.history.Before(m.name, g.entry.Digest)
	if !ok {
		err = wire.NewError(base.Code_notFound, "see inos plugin history "+m.name, "no version of %s served before %s", m.name, g.manifest.Version)
	}
	var e catalog.Entry
	if err == nil {
		e, err = n.store.Get(v.Digest, v.Name)
	}
	if err == nil {
		err = n.exchangeLocked(ctx, m, target{entry: e}, true)
	}
	if err == nil {
		n.exclude(g, fmt.Errorf("it was rolled back: %w", cause), false)
		n.takeBack(m.name, g.entry.Digest, cause)
	}
	if err != nil {
		err = fmt.Errorf("%s stays in service: %w", g, err)
	}
	m.endTrial(g)
	ev := events.Event{
		Module: m.name, Version: g.manifest.Version.String(), Digest: g.entry.Digest, Step: events.RolledBk,
		Took: time.Since(from), Err: err, Detail: fmt.Sprintf("to %s: %v", v.Version, cause),
	}
	n.events.Append(ev)
	n.log.Warn("rolled back", "plugin", m.name, "version", g.manifest.Version, "to", v.Version, "cause", cause, "error", err)
	n.wake()
	return err
}

// takeBack writes into the history that a version was rolled back. A pin on it is no
// wish for what has failed, so it goes.
func (n *Node) takeBack(name, digest string, cause error) {
	err := n.history.TakeBack(name, digest, cause.Error())
	if n.history.Pin(name) == digest {
		err = errors.Join(err, n.history.SetPin(name, ""))
		n.events.Append(events.Event{Module: name, Digest: digest, Step: events.Unpinned})
	}
	if err != nil { // it is out of service; only a restart would try it again
		n.log.Error("history", "plugin", name, "error", err)
	}
}

// exclude notes that a version that served must not again.
func (n *Node) exclude(g *generation, why error, stopped bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.rows {
		if r.entry.Digest == g.entry.Digest {
			r.err, r.stopped, r.since = why, stopped, time.Now()
		}
	}
	if stopped {
		n.failed[g.entry.Digest] = why
	}
}

// Pin has a version served, whatever comes into the folder: the one that serves
// for "".
func (n *Node) Pin(ctx context.Context, name, version string) error {
	if version == "" {
		_, g, err := n.module(name)
		if err != nil {
			return err
		}
		version = g.entry.Digest
	}
	t, err := n.find(name, version)
	if err != nil {
		return err
	}
	if err := n.history.SetPin(name, t.entry.Digest); err != nil {
		return err
	}
	n.events.Append(events.Event{Module: name, Digest: t.entry.Digest, Step: events.Pinned})
	return n.put(ctx, name, t)
}

// Unpin lets the folder decide again.
func (n *Node) Unpin(_ context.Context, name string) error {
	if n.history.Pin(name) == "" {
		return wire.NewError(base.Code_notFound, "see inos plugin list", "no version of %s is pinned", name)
	}
	if err := n.history.SetPin(name, ""); err != nil {
		return err
	}
	n.events.Append(events.Event{Module: name, Step: events.Unpinned})
	n.wake()
	return nil
}

// History lists the versions that are known of a module, the newest first.
func (n *Node) History(name string) ([]Version, error) {
	serving := ""
	if m := n.moduleOrNil(name); m != nil {
		if g := m.serves(); g != nil {
			serving = g.entry.Digest
		}
	}
	pin := n.history.Pin(name)
	var list []Version
	for _, v := range n.history.List(name) {
		list = append(list, Version{
			Version: v.Version, Digest: v.Digest, File: v.Name, Publisher: v.Publisher, Size: v.Size, Admitted: v.Admitted,
			Outcome: string(v.Outcome), Reason: v.Reason, Serving: v.Digest == serving, Pinned: v.Digest == pin,
			Stored: n.store.Has(v.Digest),
		})
	}
	if len(list) == 0 {
		return nil, wire.NewError(base.Code_notFound, "see inos plugin list", "no version of %s has ever served here", name)
	}
	return list, nil
}

// remember writes a generation that serves into the history.
func (n *Node) remember(g *generation) {
	n.mu.Lock()
	n.served++
	n.mu.Unlock()
	err := n.history.Served(g.module.name, catalog.Version{
		Digest: g.entry.Digest, Name: g.entry.Name, Version: g.manifest.Version.String(), Publisher: g.entry.Publisher, Size: g.entry.Size,
	})
	if err != nil { // it serves; only a restart would not know what came before
		n.log.Error("history", "plugin", g.module.name, "error", err)
	}
}

// Drain takes a module out of service until Undrain: running jobs end, new ones
// wait. It returns when none runs; when ctx ends before, the module is held all
// the same.
func (n *Node) Drain(ctx context.Context, name string) error {
	m, g, err := n.module(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if !m.held {
		m.held = true
		m.enter(Held, "an operator drained it", "inos plugin undrain "+name+" lets its jobs go on")
		n.events.Append(events.Event{Module: name, Version: m.current.manifest.Version.String(), Step: events.Held})
	}
	m.mu.Unlock()
	return g.each(func(i *instance) error {
		err := i.unit.Drain(ctx)
		m.resume(i) // if an Undrain was quicker
		return err
	})
}

// Undrain puts a module back into service.
func (n *Node) Undrain(_ context.Context, name string) error {
	m, _, err := n.module(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.held {
		return nil
	}
	if m.exchanging != "" { // one of the generations may have to hold still
		return wire.NewError(base.Code_unavailable, "ask again when that is over", "%s is being exchanged for version %s", name, m.exchanging)
	}
	m.held = false
	for _, i := range m.current.alive() {
		i.unit.Resume()
	}
	if m.phase == Held && len(m.current.alive()) > 0 {
		m.enter(Serving, "", "")
	}
	n.events.Append(events.Event{Module: name, Version: m.current.manifest.Version.String(), Step: events.Released})
	return nil
}
