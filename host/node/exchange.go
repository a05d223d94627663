package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/swap"
	"inos/plugins/sdk/wire"
)

// incumbent is the serving generation as package swap sees it.
type incumbent struct{ *generation }

var _ swap.Incumbent = incumbent{}

// Freeze implements swap.Incumbent.
func (s incumbent) Freeze(ctx context.Context) error {
	return s.each(func(i *instance) error {
		if err := i.unit.Drain(ctx); err != nil {
			return err
		}
		return i.proc.Freeze(ctx)
	})
}

// Thaw implements swap.Incumbent. A process may not have been frozen yet.
func (s incumbent) Thaw(ctx context.Context) error {
	return s.each(func(i *instance) error {
		if err := i.proc.Thaw(ctx); err != nil {
			i.end(fmt.Errorf("it could not go on after a swap that failed: %w", err))
			return err
		}
		s.module.resume(i)
		return nil
	})
}

// resume lets a process take jobs, unless the module is held.
func (m *module) resume(i *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.held {
		i.unit.Resume()
	}
}

// Quiesce implements swap.Incumbent.
func (s incumbent) Quiesce(ctx context.Context) error {
	if err := s.Freeze(ctx); err != nil {
		return errors.Join(err, s.Thaw(context.WithoutCancel(ctx)))
	}
	return s.each(func(i *instance) error {
		i.quit(ctx, errReplaced)
		return nil
	})
}

// Revive implements swap.Incumbent.
func (s incumbent) Revive(ctx context.Context) error {
	if len(s.processes()) > 0 { // Quiesce did not get that far
		return nil
	}
	_, err := s.another(ctx)
	return err
}

// Tally implements swap.Incumbent.
func (s incumbent) Tally() swap.Tally { return s.tally() }

// nobody stands for the incumbent of a module that nobody served before.
type nobody struct{}

func (nobody) Freeze(context.Context) error  { return nil }
func (nobody) Thaw(context.Context) error    { return nil }
func (nobody) Quiesce(context.Context) error { return nil }
func (nobody) Revive(context.Context) error  { return nil }
func (nobody) Tally() swap.Tally             { return swap.Tally{} }

// successor is a generation on its way into service as package swap sees it.
type successor struct {
	*generation
	old   *generation // nil when the module is new
	begun begun
	first *instance // after Connect
}

var _ swap.Successor = (*successor)(nil)

// Connect implements swap.Successor.
func (s *successor) Connect(ctx context.Context) (err error) {
	s.first, err = s.connect(ctx, s.begun)
	return err
}

// Adopt implements swap.Successor.
func (s *successor) Adopt(ctx context.Context) error {
	from := wire.Adoption{FromVersion: s.old.manifest.Version}
	if list := s.old.processes(); len(list) > 0 {
		from.FromInstance = list[0].id
	}
	return s.first.proc.Adopt(ctx, from)
}

// Start implements swap.Successor.
func (s *successor) Start(ctx context.Context) error { return s.first.enter(ctx, true) }

// Test implements swap.Successor.
func (s *successor) Test(ctx context.Context) error { return s.selfTest(ctx, s.first) }

// Canary implements swap.Successor.
func (s *successor) Canary(percent int) { s.first.unit.Canary(percent) }

// Expand implements swap.Successor.
func (s *successor) Expand(ctx context.Context) error {
	if s.old == nil {
		return nil
	}
	missing := min(len(s.old.processes()), s.rule.MaxInstances) - 1
	errs := make([]error, max(0, missing))
	var all sync.WaitGroup
	for n := range errs {
		all.Go(func() { errs[n] = s.further(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// further starts one more process on trial.
func (s *successor) further(ctx context.Context) error {
	b, err := s.module.node.launch(ctx, s.entry, limits(s.rule))
	if err != nil {
		return err
	}
	if err := sameModule(s.manifest, b.manifest); err != nil {
		b.kill(err)
		return err
	}
	i, err := s.connect(ctx, b)
	if err != nil {
		return err
	}
	return i.enter(ctx, true)
}

// Flip implements swap.Successor.
func (s *successor) Flip(context.Context) error {
	m := s.module
	list := s.processes()
	if len(list) == 0 {
		return fmt.Errorf("it ended just before: %w", s.why())
	}
	units := make([]*dispatch.Instance, len(list))
	for n, i := range list {
		units[n] = i.unit
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.node.ctx.Err() != nil:
		return errStopping
	case m.retired:
		return errRetired
	}
	if err := m.node.engine.Flip(units...); err != nil {
		return err
	}
	m.current, m.admitted = s.generation, true
	if m.held {
		for _, i := range list {
			i.hold()
		}
	}
	m.enter(m.inService(), "", "")
	return nil
}

// Discard implements swap.Successor.
func (s *successor) Discard(cause error) {
	n := s.module.node
	switch list := s.all(); {
	case len(list) > 0:
		for _, i := range list {
			i.dismiss()
			if s.working(i) { // nothing waits for it to be gone
				s.module.linger(func() { i.retire(time.Duration(*s.rule.DrainTimeout), cause) })
				continue
			}
			i.end(cause)
			<-i.gone
		}
	case s.first == nil:
		s.begun.kill(cause)
	default:
		s.first.discard(cause) // it was connected and never entered, or is gone already
	}
	if s.old != nil {
		if err := n.states.Keep(s.module.name, declares(s.old.manifest)); err != nil {
			n.log.Error("state blocks", "plugin", s.module.name, "error", err)
		}
	}
}

// working reports whether a process of a canary has jobs that it can bring to an
// end. While it does, it neither holds state nor what only one process can hold.
func (s *successor) working(i *instance) bool {
	p := s.plan()
	return s.old != nil && !p.State && !p.Exclusive && !i.dead() && i.unit.Load() > 0
}

// linger lets processes that were replaced end in their own time. They count among
// those that hold up further versions.
func (m *module) linger(end func()) {
	m.mu.Lock()
	m.lingering++
	m.mu.Unlock()
	m.node.tasks.Go(func() {
		end()
		m.mu.Lock()
		m.lingering--
		m.mu.Unlock()
		n := m.node
		n.mu.Lock()
		n.served++ // what was refused because of it may be tried again
		n.mu.Unlock()
		n.wake()
	})
}

// Tally implements swap.Subject.
func (s *successor) Tally() swap.Tally { return s.tally() }

// Failed implements swap.Subject.
func (s *successor) Failed() <-chan struct{} { return s.failed }

// Cause implements swap.Subject.
func (s *successor) Cause() error { return s.cause }

// Health implements swap.Subject.
func (s *successor) Health(ctx context.Context) error {
	return s.each(func(i *instance) error {
		h, err := i.proc.Health(ctx)
		if err != nil {
			return err
		}
		return unwell(h)
	})
}

// plan says how the successor is to be brought in.
func (s *successor) plan() swap.Plan {
	n := s.module.node
	p := swap.Plan{Step: n.opts.StartTimeout, Judge: n.opts.Judge}
	if s.old == nil {
		return p
	}
	p.Freeze = max(time.Duration(*s.old.rule.DrainTimeout), n.opts.StartTimeout)
	p.Exclusive = len(s.manifest.Resources.Exclusive) > 0 || len(s.old.manifest.Resources.Exclusive) > 0
	p.State = len(s.old.manifest.State) > 0 || len(s.manifest.State) > 0
	if c := s.rule.Canary; c != nil {
		p.CanaryPercent, p.CanaryFor = c.Percent, time.Duration(c.For)
	}
	return p
}

// bring takes a generation into service in a module, in the place of the one that
// serves. Its process runs and was checked; it is gone when bring fails. The
// caller holds the module's turn.
func (m *module) bring(ctx context.Context, g *generation, b begun, sure bool) error {
	n := m.node
	s := &successor{generation: g, begun: b}
	var old swap.Incumbent = nobody{}
	m.mu.Lock()
	if m.admitted {
		s.old = m.current
		old = incumbent{s.old}
	} else {
		m.current = g
		m.enter(Starting, "", "")
	}
	m.exchanging = g.manifest.Version.String()
	endTrial := m.current.trial
	if m.coming > 0 && m.arrived == nil {
		m.arrived = make(chan struct{})
	}
	arrived := m.arrived
	m.mu.Unlock()
	if arrived != nil { // processes that were asked for before are let in first
		select {
		case <-arrived:
		case <-ctx.Done(): // Run sees that, too
		}
	}
	if endTrial != nil {
		endTrial(errSuperseded)
	}
	p := s.plan()
	if sure { // it served before: what matters is that it serves again soon
		p.CanaryPercent = 0
	}
	note := func(step events.Step, took time.Duration, err error) { n.note(g, step, took, err) }
	var baseline swap.Tally
	if s.old != nil {
		baseline = s.old.tally()
	}
	err := swap.Run(ctx, p, old, s, note)
	if err == nil && s.old != nil {
		m.linger(func() { s.old.leave(errReplaced) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exchanging = ""
	if err == nil && s.old != nil {
		if period := time.Duration(*g.rule.Probation); !sure && period > 0 {
			ctx, cancel := context.WithCancelCause(n.ctx)
			g.trial = cancel
			n.tasks.Go(func() {
				defer cancel(nil)
				m.prove(ctx, s, baseline, period)
			})
		} else {
			n.proved(s.generation)
		}
	}
	if m.bereft() { // whoever was to serve died meanwhile
		m.mourn(m.current.why())
	}
	return err
}

// why says why a generation without processes has none.
func (g *generation) why() error {
	select {
	case <-g.failed:
		return g.cause
	default:
		return errors.New("it ended")
	}
}

// prove follows a generation through its probation, and goes back to the one
// before when it does not prove itself.
func (m *module) prove(ctx context.Context, s *successor, before swap.Tally, period time.Duration) {
	n, g := m.node, s.generation
	from := time.Now()
	err := n.opts.Judge.Watch(ctx, period, before, s)
	if errors.Is(err, errSuperseded) || n.ctx.Err() != nil {
		m.endTrial(g)
		return
	}
	n.note(g, events.Probation, time.Since(from), err)
	if err == nil {
		m.endTrial(g)
		if done, err := m.change(n.ctx); err == nil { // what is kept must not be a successor's affair
			if m.serves() == g {
				n.proved(g)
			}
			done()
		}
		return
	}
	_ = n.goBack(n.ctx, m, g, err) // it has said so by itself
}

// endTrial makes a generation one like any other.
func (m *module) endTrial(g *generation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g.trial = nil
	if m.bereft() {
		m.mourn(g.why())
	}
}

// proved notes that a generation is there to stay.
func (n *Node) proved(g *generation) {
	if err := n.states.Keep(g.module.name, declares(g.manifest)); err != nil {
		n.log.Error("state blocks", "plugin", g.module.name, "error", err)
	}
}

// unwell turns what a plugin says of its health into an error.
func unwell(h wire.Heartbeat) error {
	if wellEnough(h.Status) {
		return nil
	}
	return fmt.Errorf("it says that it is %s: %s", h.Status, h.Detail)
}
