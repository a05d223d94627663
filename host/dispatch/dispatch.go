// Package dispatch is the compute engine: it takes jobs, finds the module that
// serves the capability, queues, prices and bounds them, puts a descriptor on
// the ring of one instance and checks everything that comes back.
//
// It knows modules only by what they said of themselves: there is no list of
// names here. It starts no process (package node does, through supervisor) and
// interprets neither input nor output.
//
// Locks, in the order they are taken: Engine.mu, unit.mu, and then either Job.mu
// or source.mu. The arena's own lock is innermost. A job is settled with none of
// them held.
package dispatch

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/shm/arena"
)

// Options bound the engine. The zero value of each field means its default.
type Options struct {
	// QueueLimit is how many jobs may wait for one module, default 4096.
	QueueLimit int
	// MaxKills is how many deaths of a plugin are held against a job before it is
	// quarantined, default 3.
	MaxKills int
	// MaxOffences is how many broken promises of one instance are refused before
	// OnOffence is called, default 16.
	MaxOffences int
	// MaxDepth bounds how deep jobs may call jobs, default 8.
	MaxDepth int
	// History is how many finished jobs are remembered, default 1024.
	History int
	// CancelGrace is how long a handler may take to notice that its job was
	// cancelled before its process counts as hung, default 10 s.
	CancelGrace time.Duration
	// Arena finds an arena by its number.
	Arena func(id uint16) (*arena.Arena, bool)
	// Logger receives what the engine has to say.
	Logger hclog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&o.QueueLimit, 4096}, {&o.MaxKills, 3}, {&o.MaxOffences, 16}, {&o.MaxDepth, 8}, {&o.History, 1024},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.CancelGrace <= 0 {
		o.CancelGrace = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
}

// Engine dispatches jobs. Its methods may be called from any goroutine.
type Engine struct {
	opts  Options
	log   hclog.Logger
	jobs  *table
	stats counters
	ward  ward
	next  atomic.Uint64

	mu           sync.RWMutex
	units        map[string]*unit
	capabilities map[string]*capability
	gone         map[string]error // why a capability is not served any more, bounded by maxGone
	closed       bool
}

// maxGone bounds the capabilities that are remembered after their module went.
const maxGone = 1024

// capability is one operation that is served, with the module that serves it.
type capability struct {
	spec   wire.Capability
	unit   *unit
	m      *wire.Manifest // that describes it
	digest string         // of the binary that it came with
}

// New returns an engine that serves nothing yet.
func New(o Options) *Engine {
	o.EnsureDefaults()
	e := &Engine{
		opts: o, log: o.Logger.Named("dispatch"), jobs: newTable(o.History),
		units: make(map[string]*unit), capabilities: make(map[string]*capability), gone: make(map[string]error),
	}
	// Numbers start anywhere, so that those of an earlier life of the node name
	// no job of this one.
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails: it crashes the process instead
	e.next.Store(binary.LittleEndian.Uint64(seed[:]) >> 16)
	return e
}

// lookup finds who serves a capability.
func (e *Engine) lookup(name string) (*capability, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, errStopping
	}
	c, ok := e.capabilities[name]
	if !ok {
		if why := e.gone[name]; why != nil {
			return nil, why
		}
		return nil, unknownCapability(name, e.names())
	}
	return c, nil
}

// NewID returns the number of a job that is submitted later, as Request.ID.
func (e *Engine) NewID() uint64 { return e.next.Add(1) }

// names lists the capabilities served, sorted. The caller holds mu.
func (e *Engine) names() []string {
	names := make([]string, 0, len(e.capabilities))
	for n := range e.capabilities {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Capability describes an operation that is served.
type Capability struct {
	wire.Capability
	Module    string
	Instances int
	Waiting   int
}

// Capabilities lists what is served, by name.
func (e *Engine) Capabilities() []Capability {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]Capability, 0, len(e.capabilities))
	for _, name := range e.names() {
		c := e.capabilities[name]
		instances, waiting, _ := c.unit.load()
		list = append(list, Capability{Capability: c.spec, Module: c.unit.module, Instances: instances, Waiting: waiting})
	}
	return list
}

// Claim checks that module may serve all of caps, without changing anything.
func (e *Engine) Claim(module string, caps []wire.Capability) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.claim(module, caps)
}

func (e *Engine) claim(module string, caps []wire.Capability) error {
	for _, c := range caps {
		if held, ok := e.capabilities[c.Name]; ok && held.unit.module != module {
			return fmt.Errorf("%w: %s is served by %s, and %s claims it too", ErrClash, c.Name, held.unit.module, module)
		}
	}
	return nil
}

// Retire takes a module out of service: its capabilities are unknown from now
// on, and jobs that wait for it fail with reason. Instances must be detached
// first.
func (e *Engine) Retire(module string, reason error) {
	e.mu.Lock()
	u, ok := e.units[module]
	if ok {
		delete(e.units, module)
		e.drop(u, func(string) bool { return false }, reason)
	}
	e.mu.Unlock()
	if ok {
		u.retire(reason)
	}
}

// drop takes the capabilities of a module off the list that it keeps not, and
// remembers why. The caller holds mu.
func (e *Engine) drop(u *unit, keep func(name string) bool, reason error) {
	for name, c := range e.capabilities {
		if c.unit != u || keep(name) {
			continue
		}
		delete(e.capabilities, name)
		if len(e.gone) >= maxGone {
			clear(e.gone)
		}
		e.gone[name] = notServedNow(name, u.module, reason)
	}
}

// Close refuses new jobs and fails those that wait. Instances must be detached
// by their owner.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	units := make([]*unit, 0, len(e.units))
	for _, u := range e.units {
		units = append(units, u)
	}
	e.mu.Unlock()
	for _, u := range units {
		u.retire(errStopping)
	}
}
