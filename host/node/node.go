// Package node is the composition root: it makes the segment, the engine, the
// catalog and the supervisor, joins them, and looks after the modules while they
// live. No other package wires parts together, and this one does no work of its
// own: it moves no bytes and knows no module by name.
package node

import (
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
	"inos/host/policy"
	"inos/host/supervisor"
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
	// StartTimeout bounds each step of a plugin's start, default 10 s.
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
	// Restart says when a plugin that died is started again, and when no more:
	// default after 10 deaths within 2 minutes.
	Restart supervisor.BackoffOptions
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
		{&o.StartTimeout, 10 * time.Second}, {&o.StopTimeout, 5 * time.Second},
		{&o.HealthEvery, 10 * time.Second}, {&o.HeartbeatEvery, time.Second}, {&o.HangAfter, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
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
	sup      *supervisor.Supervisor
	services *syscalls.Services

	nextInstance atomic.Uint32

	ctx    context.Context // ends when the node closes
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	close  sync.Once
	closed error

	mu      sync.Mutex
	rows    []*row // one for each file, in the order of their names
	modules map[string]*module
}

// row is what became of one file of the plugins folder.
type row struct {
	status PluginStatus
	module *module // nil when refused
}

// errStopping is the reason of everything that the node's end interrupts.
var errStopping = wire.NewError(base.Code_unavailable, "start the node again", "the node is stopping")

// Open starts a node: it returns when every plugin that can be is in service. A
// plugin that cannot is no error; Plugins says why.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	if err := o.EnsureDefaults(); err != nil {
		return nil, err
	}
	n := &Node{opts: o, log: o.Logger, started: time.Now(), modules: make(map[string]*module)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		}
	}()
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
	if n.store, err = catalog.OpenStore(filepath.Join(o.Home, "store")); err != nil {
		return nil, err
	}
	if n.sup, err = supervisor.New(supervisor.Options{Logger: n.log, SocketDir: n.run}); err != nil {
		return nil, err
	}
	if err := n.startAll(ctx); err != nil {
		return nil, err
	}
	n.segment.Epochs().Signal(uint16(system.HostEpoch_ready))
	n.tasks.Go(n.watchHeartbeats)
	return n, nil
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
		Socket: n.Socket(), PID: os.Getpid(), Started: n.started, Segment: n.opts.Segment, Jobs: n.engine.Stats(),
	}
}

// Plugins describes every file of the plugins folder and what became of it,
// sorted by name.
func (n *Node) Plugins() []PluginStatus {
	n.mu.Lock()
	rows := make([]row, len(n.rows))
	for i, r := range n.rows {
		rows[i] = *r
	}
	n.mu.Unlock()
	waiting := make(map[string]int)
	for _, c := range n.engine.Capabilities() {
		waiting[c.Module] = c.Waiting
	}
	list := make([]PluginStatus, 0, len(rows))
	for _, r := range rows {
		s := r.status
		if r.module != nil {
			r.module.describe(&s)
			s.Waiting = waiting[s.Name]
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b PluginStatus) int { return strings.Compare(a.Name, b.Name) })
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
		n.engine.Close()
		n.stopAll(ctx)
	}
	n.tasks.Wait()
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
