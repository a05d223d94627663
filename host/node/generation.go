package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/host/swap"
	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
)

// generation is one version of a module: a binary, what it says of itself, what it
// may do, and the processes that run it. One generation of a module serves; while
// it is exchanged the next runs beside it, and the one before while its last jobs
// end.
type generation struct {
	module   *module
	entry    catalog.Entry
	manifest *wire.Manifest
	rule     policy.Rule
	grants   []system.Grant
	backoff  *supervisor.Backoff // revive's own
	excused  atomic.Bool         // its deaths were a job's fault

	failed chan struct{} // closed when a process of it ended unasked
	fail   sync.Once
	cause  error // why, written before failed is closed

	// trial ends its probation. Nil when it is not on probation, and guarded by
	// module.mu.
	trial context.CancelCauseFunc
}

func (m *module) newGeneration(e catalog.Entry, manifest *wire.Manifest) *generation {
	rule := m.node.policy.For(manifest.Name)
	return &generation{
		module: m, entry: e, manifest: manifest, rule: rule, grants: rule.Granted(manifest.Needs),
		backoff: supervisor.NewBackoff(m.node.opts.Restart), failed: make(chan struct{}),
	}
}

// String names the generation in messages.
func (g *generation) String() string { return g.manifest.Name + " " + g.manifest.Version.String() }

// ended notes that a process ended unasked.
func (g *generation) ended(cause error) {
	g.fail.Do(func() {
		g.cause = cause
		close(g.failed)
	})
}

// processes returns the processes that run the generation and are meant to.
func (g *generation) processes() []*instance {
	g.module.mu.Lock()
	defer g.module.mu.Unlock()
	return g.alive()
}

// alive is processes for a caller that holds module.mu.
func (g *generation) alive() []*instance {
	var list []*instance
	for _, i := range g.module.instances {
		if i.gen == g && !i.stopping {
			list = append(list, i)
		}
	}
	return list
}

// all returns every process of the generation that is not taken back yet.
func (g *generation) all() []*instance {
	g.module.mu.Lock()
	defer g.module.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.module.instances), func(i *instance) bool { return i.gen != g })
}

// each does something with every process of the generation, side by side. What
// cannot be done to a process because it has ended is no error: whoever attends
// to it knows.
func (g *generation) each(do func(i *instance) error) error {
	list := g.processes()
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for n, i := range list {
		all.Go(func() {
			if err := do(i); err != nil && !i.dead() {
				errs[n] = fmt.Errorf("instance %d (pid %d): %w", i.id, i.proc.PID(), err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// another starts one more process of the generation and lets it take jobs.
func (g *generation) another(ctx context.Context) (*instance, error) {
	b, err := g.module.node.launch(ctx, g.entry, limits(g.rule))
	if err != nil {
		return nil, err
	}
	if err := sameModule(g.manifest, b.manifest); err != nil {
		b.kill(err)
		return nil, err
	}
	i, err := g.connect(ctx, b)
	if err != nil {
		return nil, err
	}
	return i, i.enter(ctx, false)
}

// sameModule makes sure that a binary says the same of itself every time. A job
// names its capability by the place in the manifest, so those must not move.
func sameModule(was, is *wire.Manifest) error {
	if was.Name != is.Name || was.Version != is.Version || !reflect.DeepEqual(was.Capabilities, is.Capabilities) {
		return fmt.Errorf("the plugin %s %s now describes itself otherwise, as %s %s with %d capabilities; make its manifest the same at every start",
			was.Name, was.Version, is.Name, is.Version, len(is.Capabilities))
	}
	return nil
}

// tally sums up the jobs that the generation's living processes ended.
func (g *generation) tally() swap.Tally {
	var t swap.Tally
	for _, i := range g.processes() {
		n := i.unit.Tally()
		t.Succeeded += n.Succeeded
		t.Failed += n.Failed
	}
	return t
}

// selfTest runs the job by which the generation shows that it works, in the
// process that is on trial, and ends with it.
func (g *generation) selfTest(ctx context.Context, i *instance) error {
	name := g.manifest.SelfTest
	if name == "" {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-i.proc.Dead():
			cancel(i.ended())
		case <-ctx.Done():
		}
	}()
	j, err := g.module.node.engine.Submit(ctx, dispatch.Request{Capability: name, Instance: i.id})
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

// leave ends a generation that gets no jobs any more: those that run may end
// within its time, those that are left are moved to the generation that serves,
// and for those that must not run twice it is kept alive until they end.
func (g *generation) leave(why error) {
	m, n := g.module, g.module.node
	from := time.Now()
	list := g.processes()
	m.mu.Lock()
	for _, i := range list {
		i.stopping = true
	}
	m.mu.Unlock()
	var all sync.WaitGroup
	for _, i := range list {
		all.Go(func() { i.retire(time.Duration(*g.rule.DrainTimeout), why) })
	}
	all.Wait()
	n.note(g, events.Stopped, time.Since(from), nil)
}
