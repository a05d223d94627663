package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/events"
	"inos/host/supervisor"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// exchange brings a version of a served module into service.
func (n *Node) exchange(ctx context.Context, m *module, t target) error {
	done, err := m.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	return n.exchangeLocked(ctx, m, t, false)
}

func (n *Node) exchangeLocked(ctx context.Context, m *module, t target, sure bool) error {
	m.mu.Lock()
	was, lingering, retired := m.current, m.lingering, m.retired
	m.mu.Unlock()
	if retired {
		return errRetired
	}
	if was.entry.Digest == t.entry.Digest {
		return nil
	}
	if !sure && lingering >= maxLingering {
		return wire.NewError(base.Code_unavailable, "wait for their jobs to end, or cancel them; see inos job list",
			"%d versions of %s %w", lingering, m.name, errLingering)
	}
	manifest, b, err := n.begin(t)
	if err != nil {
		return err
	}
	if manifest.Name != m.name {
		b.kill(errReplaced)
		return fmt.Errorf("the binary %.12s is %s and not %s any more", t.entry.Digest, manifest.Name, m.name)
	}
	g := m.newGeneration(t.entry, manifest)
	from := time.Now()
	err = g.check()
	n.note(g, events.Checked, time.Since(from), err)
	if err != nil {
		b.kill(err)
		return err
	}
	if err := m.bring(ctx, g, b, sure); err != nil {
		return err
	}
	n.remember(g)
	return nil
}

// maxLingering bounds the replaced generations of a module that still have jobs.
const maxLingering = 2

// begin returns a process of a version that has described itself: the one that
// its row kept, or a new one.
func (n *Node) begin(t target) (*wire.Manifest, begun, error) {
	if t.row != nil {
		n.mu.Lock()
		b := t.row.begun
		t.row.begun = begun{}
		n.mu.Unlock()
		if b.proc != nil && !ended(b) {
			if b.limits == limits(n.policy.For(b.manifest.Name)) {
				return b.manifest, b, nil
			}
			b.kill(errReplaced)
		}
	}
	name := t.entry.Name
	if t.manifest != nil {
		name = t.manifest.Name
	}
	b, err := n.launch(n.ctx, t.entry, limits(n.policy.For(name)))
	return b.manifest, b, err
}

func ended(b begun) bool {
	select {
	case <-b.proc.Dead():
		return true
	default:
		return false
	}
}

// moduleOrNil finds a module, in service or coming.
func (n *Node) moduleOrNil(name string) *module {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.modules[name]
}

// arrive takes a new module into service, unless that is under way.
func (n *Node) arrive(name string, t target) error {
	n.mu.Lock()
	if n.arriving[name] || n.modules[name] != nil {
		n.mu.Unlock()
		return fmt.Errorf("%s: %w", name, errArriving)
	}
	n.arriving[name] = true
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.arriving, name)
		n.mu.Unlock()
	}()
	return n.take(n.newModule(name), t)
}

// take brings the first generation of a new module into service. Nothing of it is
// left when that fails.
func (n *Node) take(m *module, t target) error {
	manifest, b, err := n.begin(t)
	if err != nil {
		return err
	}
	g := m.newGeneration(t.entry, manifest)
	from := time.Now()
	err = g.check()
	n.note(g, events.Checked, time.Since(from), err)
	if err == nil {
		m.arena, err = g.room()
	}
	if err != nil {
		b.kill(err)
		return err
	}
	done, err := m.change(n.ctx) // before anybody else can know of the module
	if err != nil {
		b.kill(err)
		return err
	}
	defer done()
	m.mu.Lock()
	m.current, m.phase, m.since = g, Starting, time.Now()
	m.mu.Unlock()
	n.mu.Lock()
	n.modules[m.name] = m
	n.mu.Unlock()
	if err := m.bring(n.ctx, g, b, false); err != nil {
		m.retire(err)
		return err
	}
	n.remember(g)
	return nil
}

// dissolve takes a module out of service for good, when its jobs have ended.
func (n *Node) dissolve(m *module, why error) {
	done, err := m.change(n.ctx)
	if err != nil {
		return
	}
	defer done()
	m.mu.Lock()
	g := m.current
	if m.retired || m.orphan.IsZero() { // it was given up, or its file is back
		m.going = false
		m.mu.Unlock()
		return
	}
	m.retired = true // nobody starts it again
	end := g.trial
	m.mu.Unlock()
	if end != nil {
		end(errSuperseded)
	}
	from := time.Now()
	var all sync.WaitGroup
	for _, i := range m.everyone() {
		all.Go(func() { i.quit(n.ctx, why) })
	}
	all.Wait()
	m.retire(why)
	n.note(g, events.Retired, time.Since(from), nil)
}

// note appends an event about a generation.
func (n *Node) note(g *generation, step events.Step, took time.Duration, err error) {
	n.events.Append(events.Event{
		Module: g.module.name, Version: g.manifest.Version.String(), Digest: g.entry.Digest, Step: step, Took: took, Err: err,
	})
	log := n.log.With("plugin", g.module.name, "version", g.manifest.Version, "step", step, "took", took)
	if err != nil {
		log.Warn("step failed", "error", err)
		return
	}
	log.Debug("step done")
}

// explain tells an operator about an error: what it is and what to do.
func explain(err error) (reason, hint string) {
	var file *catalog.Refusal
	var start *supervisor.LaunchError
	var other *wire.Error
	switch {
	case errors.As(err, &file):
		return file.Reason.String() + ": " + file.Detail, file.Hint
	case errors.As(err, &start):
		return start.Reason.String() + ": " + start.Detail, start.Hint
	case errors.As(err, &other):
		whole := wire.AsError(err) // with what was said around it
		return whole.Message, whole.Hint
	}
	return strings.ReplaceAll(err.Error(), "\n", "; "), ""
}
