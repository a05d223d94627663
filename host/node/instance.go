package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/supervisor"
	"inos/host/syscalls"
	"inos/plugins/sdk/wire"
	"inos/shm/layout"
	"inos/shm/segment"
)

// instance is one process of a module.
type instance struct {
	id          uint32
	incarnation uint32
	module      *module
	proc        *supervisor.Process
	link        *segment.Link
	unit        *dispatch.Instance
	stopKernel  func()
	started     time.Time
	gone        chan struct{} // closed when everything it had is taken back
	leaving     sync.Once     // its end is asked for
	stopping    bool          // guarded by module.mu: its end is wanted

	mu     sync.Mutex
	health wire.Heartbeat
	cause  error // why we ended it, nil when it ended by itself
}

func (i *instance) status() InstanceStatus {
	i.mu.Lock()
	health := i.health
	i.mu.Unlock()
	return InstanceStatus{
		ID: i.id, Incarnation: i.incarnation, PID: i.proc.PID(), Started: i.started,
		Running: i.unit.Load(), Offences: i.unit.Offences(),
		Health: health.Status.String(), Resident: health.Memory, CPUTime: health.CPU,
	}
}

// begun is a process that has said what it is.
type begun struct {
	proc     *supervisor.Process
	manifest *wire.Manifest
	took     time.Duration
}

// launch starts a process of a binary and asks it to describe itself. It has
// been given nothing of the segment yet.
func (n *Node) launch(ctx context.Context, e catalog.Entry) (begun, error) {
	from := time.Now()
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	p, err := n.sup.Launch(ctx, supervisor.Spec{
		Path: e.Path, Name: e.Name, Digest: e.Digest, StartTimeout: n.opts.StartTimeout,
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
	return begun{proc: p, manifest: m, took: time.Since(from)}, nil
}

// kill ends a process that is not taken, and returns when it has ended.
func (b begun) kill(why error) {
	if b.proc != nil {
		b.proc.Kill(why.Error())
		<-b.proc.Dead()
	}
}

// another starts one more process of a module that was accepted, and puts it into
// service.
func (m *module) another(ctx context.Context) (*instance, error) {
	b, err := m.node.launch(ctx, m.entry)
	if err != nil {
		return nil, err
	}
	if err := sameModule(m.manifest, b.manifest); err != nil {
		b.kill(err)
		return nil, err
	}
	i, err := m.connect(ctx, b)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admitted && slices.Contains(m.instances, i) { // not dead again already
		m.enter(Serving, "", "")
	}
	return i, nil
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

// connect gives a process its memory, starts it and hands it jobs. The process is
// gone when that fails.
func (m *module) connect(ctx context.Context, b begun) (_ *instance, err error) {
	n := m.node
	from := time.Now()
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	m.mu.Lock()
	m.incarnation++
	i := &instance{
		id: n.nextInstance.Add(1), incarnation: m.incarnation, module: m, proc: b.proc,
		started: b.proc.Started(), gone: make(chan struct{}),
	}
	m.mu.Unlock()
	defer func() {
		if err != nil {
			b.kill(err)
			i.release(err)
		}
	}()
	kernel, err := i.configure(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.proc.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s did not start: %w", m.manifest.Name, err)
	}
	i.unit, err = n.engine.Attach(dispatch.Attachment{
		ID: i.id, Manifest: m.manifest, Link: i.link, Arena: m.arena,
		OnOffence: i.end,
	})
	if err != nil {
		return nil, err
	}
	kernel.Serve(i.unit)
	took := b.took + time.Since(from)
	m.mu.Lock()
	m.instances = append(m.instances, i)
	m.startTook = took
	m.publish()
	m.mu.Unlock()
	n.tasks.Go(func() { m.attend(i) })
	n.tasks.Go(i.ask)
	if n.ctx.Err() != nil { // the node's end did not see this one come
		i.end(errStopping)
	}
	n.log.Info("in service", "plugin", m.manifest.Name, "version", m.manifest.Version, "instance", i.id, "pid", b.proc.PID(), "took", took)
	return i, nil
}

// configure passes the memory and offers the syscalls.
func (i *instance) configure(ctx context.Context) (_ *syscalls.Kernel, err error) {
	m, n := i.module, i.module.node
	if i.link, err = n.segment.NewLink(i.id, i.incarnation); err != nil {
		return nil, err
	}
	if err := n.segment.Pass(i.proc.Channel(), i.link, m.arena); err != nil {
		return nil, fmt.Errorf("%s: the segment could not be passed: %w", m.manifest.Name, err)
	}
	data := filepath.Join(n.opts.Home, "data", m.manifest.Name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("%s: its data folder: %w", m.manifest.Name, err)
	}
	kernel := syscalls.New(n.services, syscalls.Caller{
		Instance: i.id, Arena: m.arena, Grants: m.grants, Manifest: m.manifest,
		Log: n.log.Named(m.manifest.Name),
	})
	broker, stopKernel, err := i.proc.ServeKernel(ctx, kernel)
	if err != nil {
		return nil, err
	}
	i.stopKernel = stopKernel
	if err := i.proc.Configure(ctx, wire.Configuration{
		Instance: i.id, Incarnation: i.incarnation, NodeID: n.id[:], Grants: m.grants,
		LinkBytes: i.link.Size(), ControlBytes: layout.Control().Size(), ArenaBytes: m.arena.Size(), Arena: m.arena.ID(),
		LogLevel: n.log.GetLevel().String(), DataDir: data, Settings: m.rule.Settings, Broker: broker,
	}); err != nil {
		return nil, fmt.Errorf("%s refused its configuration: %w", m.manifest.Name, err)
	}
	return kernel, nil
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
	i.leaving.Do(func() { i.leave(cause) })
	<-i.gone
}

// leave lets the jobs end, asks the process to stop, and kills it if it does not.
func (i *instance) leave(cause error) {
	m, n := i.module, i.module.node
	m.mu.Lock()
	i.stopping = true
	m.mu.Unlock()
	drain, done := context.WithTimeout(context.Background(), n.opts.StopTimeout)
	defer done()
	if err := i.unit.Drain(drain); err != nil {
		n.log.Warn("jobs are cut off", "plugin", m.manifest.Name, "instance", i.id, "error", err)
	}
	i.blame(cause)
	// A time of its own: a job that takes too long must not cost the plugin the
	// chance to put its things in order.
	stop, done := context.WithTimeout(context.Background(), n.opts.StopTimeout)
	defer done()
	if err := i.proc.Stop(stop); err != nil {
		n.log.Warn("did not stop well", "plugin", m.manifest.Name, "instance", i.id, "error", err)
	}
}

// release gives back everything that an instance had. Its process has ended.
func (i *instance) release(cause error) {
	log := i.module.node.log.With("plugin", i.module.manifest.Name, "instance", i.id)
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
	n, cause := m.node, i.ended()
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
		n.log.Info("stopped", "plugin", m.manifest.Name, "instance", i.id)
	} else {
		n.log.Warn("ended", "plugin", m.manifest.Name, "instance", i.id, "pid", i.proc.PID(), "cause", cause)
	}
	i.release(cause)
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
