package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/host/syscalls"
	"inos/plugins/sdk/wire"
	"inos/shm/layout"
	"inos/shm/segment"
)

// instance is one process of a generation.
type instance struct {
	id          uint32
	incarnation uint32
	gen         *generation
	module      *module // gen's
	proc        *supervisor.Process
	link        *segment.Link
	kernel      *syscalls.Kernel
	unit        *dispatch.Instance // nil before enter
	stopKernel  func()
	started     time.Time
	gone        chan struct{}   // closed when everything it had is taken back
	leaving     sync.Once       // its end is asked for
	patient     context.Context // ends when retire is to wait no longer
	hurry       context.CancelFunc
	released    sync.Once
	stopping    bool // guarded by module.mu: its end is wanted

	mu     sync.Mutex
	health wire.Heartbeat
	cause  error // why we ended it, nil when it ended by itself
}

func (i *instance) status() InstanceStatus {
	i.mu.Lock()
	health := i.health
	i.mu.Unlock()
	return InstanceStatus{
		ID: i.id, Incarnation: i.incarnation, PID: i.proc.PID(), Limits: i.proc.Limits(), Started: i.started, Version: i.gen.manifest.Version.String(),
		Serving: i.gen == i.module.current && !i.stopping,
		Running: i.unit.Load(), Offences: i.unit.Offences(),
		Health: health.Status.String(), Resident: health.Memory, CPUTime: health.CPU,
	}
}

// dead reports whether the process has ended.
func (i *instance) dead() bool {
	select {
	case <-i.proc.Dead():
		return true
	default:
		return false
	}
}

// begun is a process that has said what it is.
type begun struct {
	proc     *supervisor.Process
	manifest *wire.Manifest
	limits   supervisor.Limits
	took     time.Duration
}

// limits are the bounds that a rule sets on each process.
func limits(r policy.Rule) supervisor.Limits {
	return supervisor.Limits{Memory: r.MemoryBytes, CPUPercent: r.CPUPercent, Processes: r.Processes, OpenFiles: r.OpenFiles}
}

// launch starts a process of a binary and asks it to describe itself. It has
// been given nothing of the segment yet.
func (n *Node) launch(ctx context.Context, e catalog.Entry, l supervisor.Limits) (begun, error) {
	from := time.Now()
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	p, err := n.sup.Launch(ctx, supervisor.Spec{
		Path: e.Path, Name: e.Name, Digest: e.Digest, StartTimeout: n.opts.StartTimeout, Limits: l,
	})
	if err != nil {
		return begun{}, err
	}
	m, err := p.Describe(ctx)
	if err == nil {
		err = acceptable(m)
	}
	if err != nil {
		begun{proc: p}.kill(err)
		return begun{}, err
	}
	return begun{proc: p, manifest: m, limits: l, took: time.Since(from)}, nil
}

// kill ends a process that is not taken, and returns when it has ended.
func (b begun) kill(why error) {
	if b.proc != nil {
		b.proc.Kill(why.Error())
		<-b.proc.Dead()
	}
}

// connect gives a process its memory and its configuration. The process is gone
// when that fails.
func (g *generation) connect(ctx context.Context, b begun) (_ *instance, err error) {
	m, n := g.module, g.module.node
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	i := &instance{
		id: n.nextInstance.Add(1), gen: g, module: m, proc: b.proc,
		started: b.proc.Started(), gone: make(chan struct{}),
	}
	i.patient, i.hurry = context.WithCancel(n.ctx)
	m.mu.Lock()
	m.incarnation++
	i.incarnation = m.incarnation
	m.mu.Unlock()
	if err := i.configure(ctx); err != nil {
		i.discard(err)
		return nil, err
	}
	return i, nil
}

// discard ends a process that never came into service, and gives back what it had.
func (i *instance) discard(why error) {
	begun{proc: i.proc}.kill(why)
	i.release(why)
}

// enter starts a process that is connected and puts it into service: on trial, it
// gets only jobs that are addressed to it. The process is gone when that fails.
func (i *instance) enter(ctx context.Context, trial bool) (err error) {
	g, m, n := i.gen, i.module, i.module.node
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	defer func() {
		if err != nil {
			i.discard(err)
		}
	}()
	if err := i.proc.Start(ctx); err != nil {
		return fmt.Errorf("%s did not start: %w", g, err)
	}
	// Under the lock: an exchange must not come between the look and the entry.
	m.mu.Lock()
	if m.retired || !trial && m.current != g {
		m.mu.Unlock()
		return errReplaced
	}
	i.unit, err = n.engine.Attach(dispatch.Attachment{
		ID: i.id, Manifest: g.manifest, Digest: g.entry.Digest, Link: i.link, Arena: m.arena, Trial: trial,
		OnOffence: i.end,
	})
	if err != nil {
		m.mu.Unlock()
		return err
	}
	i.kernel.Serve(i.unit)
	m.instances = append(m.instances, i)
	if !trial && m.held {
		i.hold()
	}
	m.startTook = time.Since(i.started)
	m.publish()
	m.mu.Unlock()
	n.tasks.Go(func() { m.attend(i) })
	n.tasks.Go(i.ask)
	if n.ctx.Err() != nil { // the node's end did not see this one come
		i.end(errStopping)
	}
	n.log.Info("started", "plugin", g.manifest.Name, "version", g.manifest.Version, "instance", i.id, "pid", i.proc.PID(), "took", time.Since(i.started))
	return nil
}

// configure passes the memory and offers the syscalls.
func (i *instance) configure(ctx context.Context) (err error) {
	g, m, n := i.gen, i.module, i.module.node
	if i.link, err = n.segment.NewLink(i.id, i.incarnation); err != nil {
		return err
	}
	if err := n.segment.Pass(i.proc.Channel(), i.link, m.arena); err != nil {
		return fmt.Errorf("%s: the segment could not be passed: %w", g, err)
	}
	data := filepath.Join(n.opts.Home, "data", m.name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("%s: its data folder: %w", g, err)
	}
	i.kernel = syscalls.New(n.services, syscalls.Caller{
		Instance: i.id, Arena: m.arena, Grants: g.grants, Manifest: g.manifest,
		Log: n.log.Named(m.name),
	})
	broker, stopKernel, err := i.proc.ServeKernel(ctx, i.kernel)
	if err != nil {
		return err
	}
	i.stopKernel = stopKernel
	if err := i.proc.Configure(ctx, wire.Configuration{
		Instance: i.id, Incarnation: i.incarnation, NodeID: n.id[:], Grants: g.grants,
		LinkBytes: i.link.Size(), ControlBytes: layout.Control().Size(), ArenaBytes: m.arena.Size(), Arena: m.arena.ID(),
		LogLevel: n.log.GetLevel().String(), DataDir: data, Settings: g.rule.Settings, Broker: broker,
	}); err != nil {
		return fmt.Errorf("%s refused its configuration: %w", g, err)
	}
	return nil
}

// end kills the process for a reason of ours.
func (i *instance) end(cause error) {
	i.blame(cause)
	i.proc.Kill(cause.Error())
}

// blame notes why the process ends. The first reason counts.
func (i *instance) blame(cause error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cause == nil {
		i.cause = cause
	}
}

// quit ends an instance because that is wanted, and returns when it is gone. Its
// jobs may end first. A second call waits for what the first began. When ctx ends,
// so does the process.
func (i *instance) quit(ctx context.Context, cause error) {
	defer context.AfterFunc(ctx, func() { i.end(cause) })()
	i.hurry()
	i.leaving.Do(func() { i.leave(cause) })
	<-i.gone
}

// leave lets the jobs end, asks the process to stop, and kills it if it does not.
func (i *instance) leave(cause error) {
	n := i.module.node
	i.dismiss()
	drain, done := context.WithTimeout(context.Background(), n.opts.StopTimeout)
	defer done()
	if err := i.unit.Drain(drain); err != nil {
		n.log.Warn("jobs are cut off", "plugin", i.module.name, "instance", i.id, "error", err)
	}
	i.depart(cause)
}

// depart asks a process without jobs to stop, and kills it if it does not.
func (i *instance) depart(cause error) {
	n := i.module.node
	i.blame(cause)
	// A time of its own: a job that takes too long must not cost the plugin the
	// chance to put its things in order.
	stop, done := context.WithTimeout(context.Background(), n.opts.StopTimeout)
	defer done()
	if err := i.proc.Stop(stop); err != nil {
		n.log.Warn("did not stop well", "plugin", i.module.name, "instance", i.id, "error", err)
	}
}

// hold lets no job start in the process, without waiting for those that run.
func (i *instance) hold() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = i.unit.Drain(ctx) // jobs that run do not matter here
}

// dismiss notes that the end of an instance is wanted.
func (i *instance) dismiss() {
	i.module.mu.Lock()
	i.stopping = true
	i.module.mu.Unlock()
}

// retire ends a process of a generation that was replaced. Its jobs have patience
// to end. Those that may run twice are then moved to the generation that serves;
// if there are others, the process lives until they end, or the node does.
func (i *instance) retire(patience time.Duration, cause error) {
	i.leaving.Do(func() {
		n := i.module.node
		from := time.Now()
		i.dismiss()
		ctx, stop := context.WithTimeout(i.patient, patience)
		err := i.unit.Drain(ctx)
		stop()
		if err != nil && i.patient.Err() == nil {
			movable, fixed := i.unit.Movable()
			if movable+fixed == 0 { // the last one has just ended
				n.note(i.gen, events.Drained, time.Since(from), nil)
				i.depart(cause)
				return
			}
			if fixed == 0 {
				n.note(i.gen, events.Drained, time.Since(from), fmt.Errorf("%d jobs are moved to the version that serves: %w", movable, err))
				i.end(fmt.Errorf("%w: %w", dispatch.ErrMoved, cause))
				return
			}
			n.note(i.gen, events.Drained, time.Since(from), fmt.Errorf("%d jobs that must not run twice keep it alive until they end; see inos job list, and inos job cancel: %w", fixed, err))
			err = i.unit.Drain(i.patient)
		}
		if err != nil {
			i.leave(cause) // the node ends, or the module does
			return
		}
		n.note(i.gen, events.Drained, time.Since(from), nil)
		i.depart(cause)
	})
	<-i.gone
}

// release gives back everything that an instance had, once. Its process has ended.
func (i *instance) release(cause error) {
	i.released.Do(func() {
		i.hurry()
		i.takeBack(cause)
	})
}

func (i *instance) takeBack(cause error) {
	log := i.module.node.log.With("plugin", i.module.name, "instance", i.id)
	if i.unit != nil {
		blocks, bytes := i.unit.Detach(cause)
		log.Debug("taken back", "blocks", blocks, "bytes", bytes)
	}
	if i.stopKernel != nil {
		i.stopKernel()
	}
	if i.link != nil {
		if err := i.link.Close(); err != nil {
			log.Error("a link could not be closed", "error", err)
		}
	}
}

// attend waits for the end of an instance, takes everything back, and has another
// started when nobody is left to serve the module.
func (m *module) attend(i *instance) {
	defer close(i.gone)
	<-i.proc.Dead()
	n, g, cause := m.node, i.gen, i.ended()
	m.mu.Lock()
	m.instances = slices.DeleteFunc(m.instances, func(o *instance) bool { return o == i })
	wanted := i.stopping || n.ctx.Err() != nil
	if m.bereft() {
		m.enter(BackingOff, cause.Error(), "")
	} else {
		m.publish()
	}
	m.mu.Unlock()
	if wanted {
		n.log.Info("stopped", "plugin", m.name, "version", g.manifest.Version, "instance", i.id)
	} else {
		n.log.Warn("ended", "plugin", m.name, "version", g.manifest.Version, "instance", i.id, "pid", i.proc.PID(), "cause", cause)
		n.events.Append(events.Event{Module: m.name, Version: g.manifest.Version.String(), Digest: g.entry.Digest, Instance: i.id, Step: events.Ended, Err: cause})
	}
	if wanted { // nobody is to blame for it
		i.release(fmt.Errorf("%w: %w", dispatch.ErrMoved, cause))
	} else {
		before := n.engine.Poisons(g.entry.Digest)
		i.release(cause)
		// The job that ended it was found and will not be started again, so it need not be
		// spared now.
		g.excused.Store(n.engine.Poisons(g.entry.Digest) > before)
		g.ended(cause)
		n.mu.Lock()
		n.served++ // a version that it held up may be tried again
		n.mu.Unlock()
		n.wake()
	}
	// Only now, since a process that it was bringing into service when it died is
	// there by now, or never will be.
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bereft() {
		m.mourn(cause)
	}
}

// ended describes why an instance is no more.
func (i *instance) ended() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cause != nil {
		return i.cause
	}
	s, _ := i.proc.ExitState()
	return errors.New(s.String())
}
