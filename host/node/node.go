// Package node is the composition root: it makes the segment, the engine, the
// catalog and the supervisor, joins them, and looks after the modules while they
// live. No other package wires parts together, and this one does no work of its
// own: it moves no bytes and knows no module by name.
package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/host/catalog"
	"inos/host/dispatch"
	"inos/host/events"
	"inos/host/journal"
	"inos/host/policy"
	"inos/host/supervisor"
	"inos/host/swap"
	"inos/host/syscalls"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/segment"
	"inos/shm/state"
)

// Options of a node. The zero value of each field means its default.
type Options struct {
	// Home is the folder of everything the node keeps, default DefaultHome.
	Home string
	// PluginsDir is the folder that plugins are dropped into, default
	// Home/plugins.
	PluginsDir string
	// Segment is the size of the shared memory in bytes, default 256 MiB.
	Segment uint64
	// RingEntries is the length of each ring, a power of two, default 1024, or
	// less in a small segment.
	RingEntries uint32
	// StartTimeout bounds each step of a plugin's start, default 4 s.
	StartTimeout time.Duration
	// StopTimeout bounds how long the jobs of a plugin may go on at the node's end,
	// and then how long the plugin may take to stop, default 5 s each.
	StopTimeout time.Duration
	// HealthEvery is how often a plugin is asked how it is, and how long it may take
	// to answer, default 10 s.
	HealthEvery time.Duration
	// HeartbeatEvery is how often a plugin's heartbeat is looked at, default 1 s.
	HeartbeatEvery time.Duration
	// HangAfter is how long a heartbeat may stand still, default 5 s.
	HangAfter time.Duration
	// Restart says when a plugin that died is started again, and when no more: by
	// default at once, then after pauses from 50 ms on that double, and no more after
	// 10 deaths within 2 minutes.
	Restart supervisor.BackoffOptions
	// Trust are the folders of the keys whose signatures count, default Home/trust and
	// catalog.UserTrust.
	Trust []string
	// Watch says how the plugins folder is followed.
	Watch catalog.WatchOptions
	// Judge says when a new version of a plugin has to go.
	Judge swap.Judge
	// Journal bounds the log of durable jobs.
	Journal journal.Options
	// Version of the host, informative.
	Version string
	// Dispatch bounds the engine.
	Dispatch dispatch.Options
	// Logger receives what happens, default nothing.
	Logger hclog.Logger
}

// DefaultHome returns INOS_HOME, or the folder inos under the XDG state folder.
func DefaultHome() (string, error) {
	if h := os.Getenv("INOS_HOME"); h != "" {
		return filepath.Abs(h)
	}
	if s := os.Getenv("XDG_STATE_HOME"); s != "" {
		return filepath.Join(s, "inos"), nil
	}
	h, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the node's files: %w; set INOS_HOME", err)
	}
	return filepath.Join(h, ".local", "state", "inos"), nil
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() error {
	if o.Home == "" {
		h, err := DefaultHome()
		if err != nil {
			return err
		}
		o.Home = h
	}
	for _, p := range []*string{&o.Home, &o.PluginsDir} {
		if *p == "" {
			*p = filepath.Join(o.Home, "plugins")
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if o.Segment == 0 {
		o.Segment = system.SegmentDefault
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.StartTimeout, 4 * time.Second}, {&o.StopTimeout, 5 * time.Second},
		{&o.HealthEvery, 10 * time.Second}, {&o.HeartbeatEvery, time.Second}, {&o.HangAfter, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Trust == nil {
		o.Trust = []string{filepath.Join(o.Home, "trust")}
		if dir, err := catalog.UserTrust(); err == nil {
			o.Trust = append(o.Trust, dir)
		}
	}
	if o.Restart.Initial == 0 { // three deaths must not keep the other jobs waiting for long, see dispatch's ward
		o.Restart.First, o.Restart.Initial = 20*time.Millisecond, 50*time.Millisecond
	}
	if o.Restart.Limit == 0 {
		o.Restart.Limit = 10
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return nil
}

// Node is a running node. Its methods may be called from any goroutine.
type Node struct {
	opts     Options
	log      hclog.Logger
	id       [16]byte
	started  time.Time
	lock     *os.File
	run      string // short-lived files: the sockets of the plugins
	policy   *policy.Policy
	segment  *segment.Segment
	engine   *dispatch.Engine
	states   *state.Directory
	store    *catalog.Store
	history  *catalog.History
	watcher  *catalog.Watcher
	sup      *supervisor.Supervisor
	services *syscalls.Services
	events   *events.Log
	journal  *journal.Journal

	nextInstance atomic.Uint32

	ctx    context.Context // ends when the node closes
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	close  sync.Once
	closed error

	poke     chan struct{} // capacity 1: follow is to look again
	launches chan struct{} // places for files that are being inspected

	mu        sync.Mutex
	rows      map[string]*row // by the name of the file
	modules   map[string]*module
	arriving  map[string]bool           // modules that are being taken into service
	manifests map[string]*wire.Manifest // by the path in the store: what a program does may follow from its name
	failed    map[string]error          // versions of the store that did not start, by digest
	served    uint64                    // counts the changes of what is served
}

// errStopping is the reason of everything that the node's end interrupts.
var errStopping = wire.NewError(base.Code_unavailable, "start the node again", "the node is stopping")

// Open starts a node: it returns when every plugin that can be is in service. A
// plugin that cannot is no error; Plugins says why.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	if err := o.EnsureDefaults(); err != nil {
		return nil, err
	}
	n := &Node{
		opts: o, log: o.Logger, started: time.Now(), events: events.New(events.Options{}),
		poke: make(chan struct{}, 1), launches: make(chan struct{}, maxLaunches),
		rows: make(map[string]*row), modules: make(map[string]*module), arriving: make(map[string]bool),
		manifests: make(map[string]*wire.Manifest), failed: make(map[string]error),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := supervisor.RaiseFileLimit(); err != nil {
		return nil, err
	}
	if err := n.prepareHome(); err != nil {
		return nil, err
	}
	if n.policy, err = policy.Load(filepath.Join(o.Home, "policy.json")); err != nil {
		return nil, err
	}
	_, _ = rand.Read(n.id[:]) // never fails: it crashes the process instead
	if n.segment, err = segment.Create(segment.Options{Size: o.Segment, Commons: n.commons(), RingEntries: o.RingEntries, NodeID: n.id[:]}); err != nil {
		return nil, err
	}
	d := o.Dispatch
	d.Arena, d.Logger = n.segment.Arena, n.log
	n.engine = dispatch.New(d)
	n.states = state.NewDirectory()
	n.services = &syscalls.Services{Engine: n.engine, States: n.states, Instances: n, Metrics: syscalls.NewMetrics()}
	if n.store, err = catalog.OpenStore(filepath.Join(o.Home, "store"), o.Trust...); err != nil {
		return nil, err
	}
	if n.history, err = catalog.OpenHistory(filepath.Join(o.Home, "history.json")); err != nil {
		return nil, err
	}
	if n.sup, err = supervisor.New(supervisor.Options{Logger: n.log, SocketDir: n.run}); err != nil {
		return nil, err
	}
	if err := n.serve(ctx); err != nil {
		return nil, err
	}
	n.tasks.Go(n.watchHeartbeats)
	o.Journal.Engine, o.Journal.Logger = n.engine, n.log
	if n.journal, err = journal.Open(filepath.Join(o.Home, "journal"), o.Journal); err != nil {
		return nil, err
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_ready))
	return n, nil
}

// serve follows the plugins folder from now on. It returns when all that lies
// there is in service, or refused.
func (n *Node) serve(ctx context.Context) (err error) {
	w := n.opts.Watch
	w.Logger = n.log
	if n.watcher, err = catalog.NewWatcher(n.opts.PluginsDir, w); err != nil {
		return err
	}
	settled := make(chan struct{})
	n.tasks.Go(func() { n.follow(settled) })
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// prune removes binaries from the store that nobody would go back to.
func (n *Node) prune() {
	keep := n.history.Digests()
	n.mu.Lock()
	for _, r := range n.rows {
		keep = append(keep, r.entry.Digest)
	}
	n.mu.Unlock()
	removed, err := n.store.Prune(keep)
	if err != nil {
		n.log.Warn("old binaries stay in the store", "error", err)
	}
	if len(removed) > 0 {
		n.log.Info("removed binaries that are no longer used", "count", len(removed))
	}
}

// prepareHome makes the folders and makes sure that no other node uses them.
func (n *Node) prepareHome() error {
	for _, d := range []string{"", "data"} {
		if err := os.MkdirAll(filepath.Join(n.opts.Home, d), 0o700); err != nil {
			return fmt.Errorf("the node's folder: %w; set INOS_HOME or --home to one you may write", err)
		}
	}
	lock, err := lockHome(n.opts.Home)
	if err != nil {
		return err
	}
	n.lock = lock
	if err := os.MkdirAll(n.opts.PluginsDir, 0o750); err != nil {
		return fmt.Errorf("the plugins folder: %w", err)
	}
	// A unix socket's path holds 107 bytes, so the sockets cannot lie under a home
	// of any length.
	if n.run, err = runFolder(n.opts.Home); err != nil {
		return fmt.Errorf("a folder for sockets: %w", err)
	}
	if most := supervisor.MaxSocketDir; len(n.run) > most {
		return fmt.Errorf("a folder for sockets: %s has %d bytes, and the kernel takes %d; set TMPDIR to a shorter folder", n.run, len(n.run), most)
	}
	return nil
}

// instances lists every process in service.
func (n *Node) instances() []*instance {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []*instance
	for _, m := range n.modules {
		list = append(list, m.everyone()...)
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

// Engine returns the node's compute engine.
func (n *Node) Engine() *dispatch.Engine { return n.engine }

// Socket returns where the node's API listens.
func (n *Node) Socket() string { return filepath.Join(n.opts.Home, "inos.sock") }

// Segment describes the shared memory.
func (n *Node) Segment() SegmentStatus {
	return SegmentStatus{Usage: n.segment.Usage(), States: n.states.List()}
}

// Info describes the node.
func (n *Node) Info() Info {
	return Info{
		ID: hex.EncodeToString(n.id[:]), Version: n.opts.Version, Home: n.opts.Home, Plugins: n.opts.PluginsDir,
		Enforcement: n.sup.Enforcement(), Socket: n.Socket(), PID: os.Getpid(), Started: n.started, Segment: n.opts.Segment, Jobs: n.engine.Stats(),
	}
}

// Plugins describes every module in service, and every other file of the plugins
// folder and what became of it, sorted by name.
func (n *Node) Plugins() []PluginStatus {
	waiting := make(map[string]int)
	for _, c := range n.engine.Capabilities() {
		waiting[c.Module] = c.Waiting
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []PluginStatus
	serving := make(map[string]string) // the digest that serves, by module
	for name, m := range n.modules {
		s := PluginStatus{Waiting: waiting[name]}
		m.describe(&s)
		serving[name] = s.Digest
		pin := n.history.Pin(name)
		s.Pinned = pin != "" && pin == s.Digest
		if v, ok := n.history.Before(name, s.Digest); ok {
			s.Previous = v.Version
		}
		list = append(list, s)
	}
	for _, r := range n.rows {
		if r.manifest != nil && serving[r.manifest.Name] == r.entry.Digest {
			continue
		}
		past, _ := n.history.Find(r.name(), r.entry.Digest)
		list = append(list, r.describe(n.modules[r.name()], past))
	}
	slices.SortStableFunc(list, func(a, b PluginStatus) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Phase.rank(), a.Phase.rank()), strings.Compare(a.File, b.File))
	})
	return list
}

// Close takes the node out of service: no new jobs, those that run may end, the
// plugins are stopped, the segment is given back. When ctx ends, plugins that are
// left are killed. Whoever holds output of a job must have released it before.
// Calling it again returns what the first call did.
func (n *Node) Close(ctx context.Context) error {
	n.close.Do(func() { n.closed = n.shut(ctx) })
	return n.closed
}

func (n *Node) shut(ctx context.Context) error {
	n.cancel()
	var errs []error
	if n.engine != nil {
		n.segment.Epochs().Signal(uint16(system.HostEpoch_shutdown))
		if n.journal != nil { // first, so that what it has under way stays in it
			errs = append(errs, n.journal.Close(ctx))
		}
		n.engine.Close()
		n.stopAll(ctx)
	}
	n.tasks.Wait()
	if n.watcher != nil {
		errs = append(errs, n.watcher.Close())
	}
	for _, r := range n.rows {
		r.begun.kill(errStopping)
	}
	for name := range n.modules {
		errs = append(errs, n.states.Drop(name))
	}
	if n.sup != nil {
		errs = append(errs, n.sup.Close())
	}
	if n.segment != nil {
		errs = append(errs, n.segment.Close())
	}
	if n.run != "" {
		errs = append(errs, os.RemoveAll(n.run))
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}
