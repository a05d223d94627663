// Package journal keeps durable jobs: one that was acknowledged is on disk, its
// input with it, and survives the node. The journal runs it through the engine,
// keeps its result until somebody fetches it or it expires, and after a crash
// goes on where it was: a job that had not been started, or that may run twice,
// runs again; any other that had been started ends as outcome unknown.
//
// Package node opens it, package api asks it. It knows capabilities only by what
// the engine says of them, looks into neither input nor output, and never starts
// a job twice that must not be.
package journal

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"inos/host/dispatch"
	"inos/protocols/compute/v1"
)

// Engine runs jobs. *dispatch.Engine is one.
type Engine interface {
	// NewID returns a number that no job had before in the life of the engine.
	NewID() uint64
	// Submit starts a job, as dispatch.Engine does.
	Submit(context.Context, dispatch.Request) (*dispatch.Job, error)
	// Capabilities lists what is served.
	Capabilities() []dispatch.Capability
}

// Options bound a journal. The zero value of each field means its default, but
// for Engine, which must be given.
type Options struct {
	// Engine that runs the jobs.
	Engine Engine
	// Retain is how long the end of a job is remembered and its result kept when
	// nobody fetches it, default 24 h.
	Retain time.Duration
	// Patience is how long a job without a deadline may wait to be started, default
	// 7 days.
	Patience time.Duration
	// MaxBytes bounds the requests, inputs and results on disk together, default
	// 4 GiB.
	MaxBytes uint64
	// MaxJobs bounds the jobs that are remembered, ended ones too, default 65536.
	MaxJobs int
	// Parallel bounds the jobs of one capability that are with the engine at a time,
	// default 32. Those that wait for their turn are on disk only.
	Parallel int
	// MaxRuns bounds how often a job that may run twice is given to the engine when
	// its runs end with the plugin's death or for want of memory, default 5. Refusals
	// before the start do not count.
	MaxRuns int
	// Now tells the wall clock, default time.Now.
	Now func() time.Time
	// Logger receives what happens, default nothing.
	Logger hclog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	o.Retain = cmp.Or(o.Retain, 24*time.Hour)
	o.Patience = cmp.Or(o.Patience, 7*24*time.Hour)
	o.MaxBytes = cmp.Or(o.MaxBytes, 4<<30)
	o.MaxJobs = cmp.Or(o.MaxJobs, 65536)
	o.Parallel = cmp.Or(o.Parallel, 32)
	o.MaxRuns = cmp.Or(o.MaxRuns, 5)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
}

// Journal keeps and runs durable jobs. Its methods may be called from any
// goroutine.
type Journal struct {
	opts   Options
	engine Engine
	log    hclog.Logger
	store  *store
	spool  *spool

	ctx    context.Context // ends when the runs under way must stop
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // runs, and calls that write; added to under mu while not closing
	alarm  chan struct{}  // the earliest alarm has changed, capacity 1
	ring   chan struct{}  // closed when the alarms end
	rung   sync.WaitGroup

	// mu guards what follows and the entries. Nothing else is locked and nothing is
	// waited for while it is held.
	mu      sync.Mutex
	jobs    map[uint64]*entry
	keys    map[string]*entry
	lanes   map[string]*lane // by capability
	alarms  alarms
	closing bool
	close   sync.Once
	closed  error
}

// Job describes a durable job.
type Job struct {
	ID         uint64
	Capability string
	Key        string
	Priority   compute.Priority
	State      string // "waiting", "running", or the status it ended with
	Accepted   time.Time
	Deadline   time.Time // zero for none
	Ended      time.Time // zero until then
	Expires    time.Time // when its end is forgotten; zero until it has ended
	Runs       int       // times it was given to the engine in this life of the node
	InBytes    uint64
	OutBytes   uint64 // of the result that is kept
	// Outcome, once it has ended. While it waits, Outcome.Err is why it could not
	// be started, nil when its turn has not come.
	Outcome dispatch.Outcome
}

// Over reports whether the job has ended.
func (j Job) Over() bool { return !j.Ended.IsZero() }

// phase of a job in memory.
type phase uint8

const (
	accepting phase = iota // not acknowledged, nobody sees it
	waiting                // for its turn in a lane
	running                // in the hands of a goroutine that will end it or put it back
	over                   // its end is on disk
	leaving                // it is being forgotten
)

// entry is what is known in memory of one job, guarded by Journal.mu but for what
// never changes: its number, asked, record and input.
type entry struct {
	job    Job
	asked  [32]byte // digest of what was asked for, compared for jobs of one key
	record uint64   // length of the record of the request
	input  blob
	result blob

	phase    phase
	begun    bool      // it may be with a plugin
	armed    time.Time // when the alarm goes off, if it is set
	bell     int       // its place among the alarms, from 1; 0 for none
	turn     int       // its place among those that wait in a lane, from 1; 0 for none
	canceled bool      // somebody wants it to end, and it is with a goroutine
	cancel   context.CancelCauseFunc
	accepted chan struct{} // closed when it was acknowledged or refused
	refused  error         // why, set before accepted is closed
	done     chan struct{} // closed when over
}

// Open opens the journal in dir, made if it is not there, ends what a crash left
// without one, and goes on with the rest. One process at a time may have it open.
func Open(dir string, o Options) (_ *Journal, err error) {
	o.EnsureDefaults()
	j := &Journal{
		opts: o, engine: o.Engine, log: o.Logger.Named("journal"), alarm: make(chan struct{}, 1), ring: make(chan struct{}),
		jobs: make(map[uint64]*entry), keys: make(map[string]*entry), lanes: make(map[string]*lane),
	}
	if j.spool, err = openSpool(filepath.Join(dir, "spool"), o.MaxBytes); err != nil {
		return nil, err
	}
	if j.store, err = openStore(dir); err != nil {
		return nil, err
	}
	if err := j.recover(); err != nil {
		return nil, errors.Join(err, j.store.close())
	}
	j.ctx, j.cancel = context.WithCancelCause(context.Background())
	j.rung.Go(j.watch)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.jobs {
		if e.phase == waiting {
			j.enqueue(e)
		}
	}
	for _, l := range j.lanes {
		j.feed(l)
	}
	return j, nil
}

// enter lets a call in that may write. Whoever was let in calls tasks.Done.
func (j *Journal) enter() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return errClosing
	}
	j.tasks.Add(1)
	return nil
}

// Close ends the journal, before the engine. What was not given to a plugin is
// taken back and stays in the journal; what runs may end until ctx does. What is
// left then runs again in the next life if it may, and else ends as outcome
// unknown. Calling it again returns what the first call did.
func (j *Journal) Close(ctx context.Context) error {
	j.close.Do(func() { j.closed = j.shut(ctx) })
	return j.closed
}

func (j *Journal) shut(ctx context.Context) error {
	j.mu.Lock()
	j.closing = true // nothing begins any more
	for _, l := range j.lanes {
		l.resume()
	}
	for _, e := range j.jobs {
		if e.phase == running && !e.begun && e.cancel != nil {
			e.cancel(errClosing)
		}
	}
	j.mu.Unlock()
	close(j.ring)
	j.rung.Wait()
	idle := make(chan struct{})
	go func() { j.tasks.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	j.cancel(errClosing)
	<-idle
	return j.store.close()
}
