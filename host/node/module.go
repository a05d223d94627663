package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/host/syscalls"
	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/layout"
	"inos/shm/segment"
)

// module is a plugin that was accepted: its binary, its manifest, its arena and
// the processes that serve it.
type module struct {
	node     *Node
	entry    catalog.Entry
	manifest *wire.Manifest
	rule     policy.Rule
	grants   []system.Grant
	arena    *arena.Arena

	mu          sync.Mutex
	phase       Phase
	reason      string
	hint        string
	since       time.Time
	retryAt     time.Time
	restarts    int
	startTook   time.Duration
	incarnation uint32
	instances   []*instance
	coming      int // instances being started on request
	backoff     *supervisor.Backoff
}

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
	stopping    bool          // guarded by module.mu: its end is wanted

	mu     sync.Mutex
	health wire.Heartbeat
	cause  error // why we ended it, nil when it ended by itself
}

// set moves the module to another phase. The caller holds mu.
func (m *module) set(p Phase, reason, hint string) {
	m.phase, m.reason, m.hint, m.since = p, reason, hint, time.Now()
}

// describe fills in what an operator sees of the module.
func (m *module) describe(s *PluginStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Name, s.Version, s.Description = m.manifest.Name, m.manifest.Version.String(), m.manifest.Description
	s.Manifest, s.Arena = m.manifest, string(m.rule.Arena)
	s.Phase, s.Reason, s.Hint, s.Since = m.phase, m.reason, m.hint, m.since
	s.RetryAt, s.Restarts, s.StartTook = m.retryAt, m.restarts, m.startTook
	for _, g := range m.grants {
		s.Grants = append(s.Grants, g.String())
	}
	for _, c := range m.manifest.Capabilities {
		s.Capabilities = append(s.Capabilities, c.Name)
	}
	for _, i := range m.instances {
		s.Instances = append(s.Instances, i.status())
	}
}

func (i *instance) status() InstanceStatus {
	i.mu.Lock()
	defer i.mu.Unlock()
	return InstanceStatus{
		ID: i.id, Incarnation: i.incarnation, PID: i.proc.PID(), Started: i.started,
		Running: i.unit.Load(), Offences: i.unit.Offences(),
		Health: i.health.Status.String(), Resident: i.health.Memory, CPUTime: i.health.CPU,
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

// connect gives a process its memory, starts it and puts it into service.
func (m *module) connect(ctx context.Context, b begun) (_ *instance, err error) {
	n := m.node
	from := time.Now()
	ctx, stop := context.WithTimeout(ctx, n.opts.StartTimeout)
	defer stop()
	m.mu.Lock()
	m.incarnation++
	i := &instance{id: n.nextInstance.Add(1), incarnation: m.incarnation, module: m, proc: b.proc, started: time.Now(), gone: make(chan struct{})}
	m.mu.Unlock()
	defer func() {
		if err != nil {
			b.kill(err)
			i.release(err)
		}
	}()
	if i.link, err = n.segment.NewLink(i.id, i.incarnation); err != nil {
		return nil, err
	}
	if err := n.segment.Pass(b.proc.Channel(), i.link, m.arena); err != nil {
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
	broker, stopKernel, err := b.proc.ServeKernel(ctx, kernel)
	if err != nil {
		return nil, err
	}
	i.stopKernel = stopKernel
	if err := b.proc.Configure(ctx, wire.Configuration{
		Instance: i.id, Incarnation: i.incarnation, NodeID: n.id[:], Grants: m.grants,
		LinkBytes: i.link.Size(), ControlBytes: layout.Control().Size(), ArenaBytes: m.arena.Size(), Arena: m.arena.ID(),
		LogLevel: n.log.GetLevel().String(), DataDir: data, Settings: m.rule.Settings, Broker: broker,
	}); err != nil {
		return nil, fmt.Errorf("%s refused its configuration: %w", m.manifest.Name, err)
	}
	if err := b.proc.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s did not start: %w", m.manifest.Name, err)
	}
	i.unit, err = n.engine.Attach(dispatch.Attachment{
		ID: i.id, Manifest: m.manifest, Link: i.link, Arena: m.arena,
		OnOffence: func(err error) { i.end(err) },
	})
	if err != nil {
		return nil, err
	}
	kernel.Serve(i.unit)
	m.mu.Lock()
	m.instances = append(m.instances, i)
	m.set(Serving, "", "")
	m.startTook = b.took + time.Since(from)
	m.mu.Unlock()
	m.publish()
	n.tasks.Go(func() { m.attend(i) })
	n.tasks.Go(i.ask)
	if n.ctx.Err() != nil { // the node's end did not see this one come
		i.end(errStopping)
	}
	n.log.Info("in service", "plugin", m.manifest.Name, "version", m.manifest.Version, "instance", i.id, "pid", b.proc.PID(), "took", m.startTook)
	return i, nil
}

// selfTest runs the job by which the module shows that it works.
func (m *module) selfTest(ctx context.Context) error {
	if m.manifest.SelfTest == "" {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, m.node.opts.StartTimeout)
	defer stop()
	j, err := m.node.engine.Submit(ctx, dispatch.Request{Capability: m.manifest.SelfTest})
	if err != nil {
		return fmt.Errorf("its self-test %s was not taken: %w", m.manifest.SelfTest, err)
	}
	defer j.Close()
	for {
		p, err := j.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("its self-test %s failed: %w", m.manifest.SelfTest, err)
		}
		p.Release()
	}
}

// expel takes a module out that has come into service and should not have.
func (m *module) expel(cause error) {
	m.mu.Lock()
	instances := slices.Clone(m.instances)
	for _, i := range instances {
		i.stopping = true
	}
	m.mu.Unlock()
	for _, i := range instances {
		i.end(cause)
		<-i.gone
	}
	n := m.node
	n.mu.Lock()
	delete(n.modules, m.manifest.Name)
	n.mu.Unlock()
	m.retire(cause)
}

// end kills the process for a reason of ours.
func (i *instance) end(cause error) {
	i.mu.Lock()
	if i.cause == nil {
		i.cause = cause
	}
	i.mu.Unlock()
	i.proc.Kill(cause.Error())
}

// release gives back everything that an instance had. Its process has ended.
func (i *instance) release(cause error) {
	if i.unit != nil {
		blocks, bytes := i.unit.Detach(cause)
		i.module.node.log.Debug("taken back", "plugin", i.module.manifest.Name, "instance", i.id, "blocks", blocks, "bytes", bytes)
	}
	if i.stopKernel != nil {
		i.stopKernel()
	}
	if i.link != nil {
		if err := i.link.Close(); err != nil {
			i.module.node.log.Error("a link could not be closed", "instance", i.id, "error", err)
		}
	}
}

// attend waits for the end of an instance, takes everything back, and starts
// another when that end was not wanted.
func (m *module) attend(i *instance) {
	defer close(i.gone)
	<-i.proc.Dead()
	n := m.node
	cause := i.ended()
	m.mu.Lock()
	m.instances = slices.DeleteFunc(m.instances, func(o *instance) bool { return o == i })
	left, wanted := len(m.instances), i.stopping
	m.mu.Unlock()
	i.release(cause)
	m.publish()
	if wanted || n.ctx.Err() != nil {
		n.log.Info("stopped", "plugin", m.manifest.Name, "instance", i.id)
		return
	}
	n.log.Warn("ended", "plugin", m.manifest.Name, "instance", i.id, "pid", i.proc.PID(), "cause", cause)
	if left == 0 {
		n.tasks.Go(func() { m.revive(cause) })
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

// revive starts the module again after a pause, until it serves or is given up.
func (m *module) revive(cause error) {
	n := m.node
	for {
		pause, err := m.backoff.Died(time.Now())
		m.mu.Lock()
		if err != nil {
			m.set(Stopped, fmt.Sprintf("%v; the last: %v", err, cause), "look at its log, then replace the plugin and start the node again")
			m.mu.Unlock()
			n.log.Error("given up", "plugin", m.manifest.Name, "cause", cause, "reason", err)
			m.retire(fmt.Errorf("it ended too often: %w", cause))
			return
		}
		m.restarts++
		m.retryAt = time.Now().Add(pause)
		m.set(BackingOff, cause.Error(), "")
		m.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-n.ctx.Done():
			t.Stop()
			return
		}
		b, err := n.launch(n.ctx, m.entry)
		if err == nil {
			if err = sameModule(m.manifest, b.manifest); err != nil {
				b.kill(err)
			}
		}
		if err == nil {
			_, err = m.connect(n.ctx, b)
		}
		if err == nil {
			return
		}
		cause = err
		n.log.Warn("did not come back", "plugin", m.manifest.Name, "error", err)
	}
}

// sameModule makes sure that a binary says the same of itself every time.
func sameModule(was, is *wire.Manifest) error {
	if was.Name != is.Name || was.Version != is.Version || len(was.Capabilities) != len(is.Capabilities) {
		return fmt.Errorf("the plugin %s %s now describes itself as %s %s", was.Name, was.Version, is.Name, is.Version)
	}
	return nil
}

// retire takes a module out of service for good.
func (m *module) retire(reason error) {
	n := m.node
	n.engine.Retire(m.manifest.Name, reason)
	if err := n.segment.Registry().Remove(m.manifest.Name); err != nil {
		n.log.Error("registry", "plugin", m.manifest.Name, "error", err)
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_registry))
	if err := n.states.Drop(m.manifest.Name); err != nil {
		n.log.Error("state blocks", "plugin", m.manifest.Name, "error", err)
	}
	if m.arena.ID() != system.ArenaCommons {
		if err := n.segment.DropArena(m.arena.ID()); err != nil && !errors.Is(err, segment.ErrBusy) {
			n.log.Error("arena", "plugin", m.manifest.Name, "error", err)
		}
	}
}

// publish writes the module's row of the registry.
func (m *module) publish() {
	n := m.node
	m.mu.Lock()
	r := m.row()
	m.mu.Unlock()
	if _, _, err := n.segment.Registry().Register(r); err != nil {
		n.log.Error("registry", "plugin", m.manifest.Name, "error", err)
		return
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_registry))
}
