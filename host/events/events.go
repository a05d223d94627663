// Package events remembers what happened to the node's plugins, step by step, so
// that an operator can see it: a bounded log in memory that can be followed.
//
// Packages node and swap append to it, package api shows it. It decides nothing
// and writes nothing to disk.
package events

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Step names what happened. A step that failed has an error in its event.
type Step string

// The steps of a plugin's life, in the order in which they come.
const (
	Seen      Step = "seen"      // a file of the plugins folder became stable
	Admitted  Step = "admitted"  // copied into the store, digest and signature checked
	Refused   Step = "refused"   // not served: the error says why
	Launched  Step = "launched"  // the process described itself
	Checked   Step = "checked"   // manifest, policy, dependencies and capabilities
	Quiesced  Step = "quiesced"  // the old generation let go of what only one can hold
	Connected Step = "connected" // memory passed, configured
	Frozen    Step = "frozen"    // the old generation holds still
	Adopted   Step = "adopted"   // the new one took over the state
	Started   Step = "started"   // the new one is ready for jobs
	Tested    Step = "tested"    // its self-test
	Canary    Step = "canary"    // a share of the jobs went to it
	Flipped   Step = "flipped"   // all jobs go to it
	Drained   Step = "drained"   // the old one has no job left
	Stopped   Step = "stopped"   // a generation is gone because that was wanted
	Thawed    Step = "thawed"    // the old generation goes on after a swap that failed
	Probation Step = "probation" // the new one proved itself
	RolledBk  Step = "rolled back"
	Ended     Step = "ended"     // a process ended that was not asked to
	Restarted Step = "restarted" // another took its place
	GivenUp   Step = "given up"  // it ends too often
	Retired   Step = "retired"   // its file is gone
	Pinned    Step = "pinned"
	Unpinned  Step = "unpinned"
	Held      Step = "held"     // an operator took it out of service
	Released  Step = "released" // and back
)

// Event is one thing that happened.
type Event struct {
	ID       uint64 // counts up from 1
	Time     time.Time
	Module   string // or the name of the file, while the module is not known
	Version  string
	Digest   string
	Instance uint32
	Step     Step
	Took     time.Duration // how long the step took, 0 for what takes no time
	Err      error         // why it failed, nil when it did not
	Detail   string
}

// Options bound a log. The zero value of each field means its default.
type Options struct {
	// Limit is how many events are remembered, default 4096.
	Limit int
	// Now tells the time, default time.Now.
	Now func() time.Time
}

// Log remembers the last events. Its methods may be called from any goroutine.
type Log struct {
	limit int
	now   func() time.Time

	mu     sync.Mutex
	ring   []Event // Event.ID-1 modulo limit
	next   uint64  // ID of the next event
	change chan struct{}
}

// New returns an empty log.
func New(o Options) *Log {
	l := &Log{limit: cmp.Or(o.Limit, 4096), now: o.Now, next: 1, change: make(chan struct{})}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// Append adds an event, with its number and the time filled in, and returns it.
func (l *Log) Append(e Event) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.ID, e.Time = l.next, l.now()
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, e)
	} else {
		l.ring[(e.ID-1)%uint64(l.limit)] = e
	}
	l.next++
	close(l.change)
	l.change = make(chan struct{})
	return e
}

// Since returns the events whose number is above id, the oldest first, and the
// number of the last event of all. Events that are forgotten are left out: the
// first one returned tells by its number.
func (l *Log) Since(id uint64) (list []Event, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since(id), l.next - 1
}

// since copies the events above id. The caller holds mu.
func (l *Log) since(id uint64) []Event {
	oldest := l.next - uint64(len(l.ring))
	var list []Event
	for n := max(id+1, oldest); n < l.next; n++ {
		list = append(list, l.ring[(n-1)%uint64(l.limit)])
	}
	return list
}

// Wait returns what Since does as soon as that is not empty. The error is ctx's.
func (l *Log) Wait(ctx context.Context, id uint64) ([]Event, error) {
	for {
		l.mu.Lock()
		list, change := l.since(id), l.change
		l.mu.Unlock()
		if len(list) > 0 {
			return list, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
