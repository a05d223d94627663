// Package failpoint puts named faults into production code, off by default: a test
// makes a step fail, wait, panic, tear a write or kill the process, exactly there.
//
// A point is declared once, at package level, and hit where the fault can happen:
//
//	var beforeSync = failpoint.New("journal/before-sync")
//
//	if err := beforeSync.Hit(); err != nil {
//		return err
//	}
//
// While it is off, a hit is one atomic load. What it does is said in terms, one
// after the other, for the process in the environment variable INOS_FAILPOINTS
//
//	journal/before-sync=2*off->1*error(disk full)->kill;store/copied=delay(50ms)
//
// or for a test with Enable. A term holds for its count of hits, without a count
// for ever; after the last one the point is off. The actions are
//
//	off             nothing
//	error(text)     Hit and Torn return an *Error that says text
//	panic(text)     a panic
//	delay(duration) Hit waits, then goes on
//	kill            the process ends at once, as by kill -9
//	torn(bytes)     Torn lets only so many bytes be written; Hit returns an error
//
// The package knows nothing of the rest of INOS and is safe for concurrent use.
package failpoint

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is the environment variable that is read when the process starts.
const Env = "INOS_FAILPOINTS"

// Error is what a point returns that was told to fail.
type Error struct {
	Point string
	Text  string
}

// Error names the point.
func (e *Error) Error() string { return fmt.Sprintf("failpoint %s: %s", e.Point, e.Text) }

// Point is one place where a fault can be put. The zero Point is not usable.
type Point struct {
	name string
	plan atomic.Pointer[plan] // nil while it is off
}

// plan is what an enabled point does, term by term.
type plan struct {
	mu    sync.Mutex
	terms []term
}

// newPlan returns the plan of terms, nil when there is nothing to do.
func newPlan(terms []term) *plan {
	if len(terms) == 0 {
		return nil
	}
	return &plan{terms: terms}
}

var (
	mu     sync.Mutex
	points = make(map[string]*Point)
	// early holds what the environment says of points that are declared later.
	early = fromEnvironment()
)

var wellFormed = regexp.MustCompile(`^[a-z][a-z0-9-]*(/[a-z0-9-]+)+$`)

// fromEnvironment reads what the process was started with. A fault that a test
// counts on must not be left out in silence, so a text that makes no sense ends
// the process.
func fromEnvironment() map[string][]term {
	plans, err := parse(os.Getenv(Env))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Env, err)
		os.Exit(2)
	}
	return plans
}

// New declares a point: a room, and what is about to happen there, as
// "journal/before-sync". It panics when the name is malformed or taken.
func New(name string) *Point {
	mu.Lock()
	defer mu.Unlock()
	if !wellFormed.MatchString(name) {
		panic("failpoint: malformed name " + name)
	}
	if points[name] != nil {
		panic("failpoint: two points are called " + name)
	}
	p := &Point{name: name}
	p.plan.Store(newPlan(early[name]))
	delete(early, name)
	points[name] = p
	return p
}

// Names lists the points that were declared, sorted.
func Names() []string {
	mu.Lock()
	defer mu.Unlock()
	return slices.Sorted(maps.Keys(points))
}

// Active reports whether any point is on.
func Active() bool {
	mu.Lock()
	defer mu.Unlock()
	for _, p := range points {
		if p.plan.Load() != nil {
			return true
		}
	}
	return false
}

// Enable sets what a point does, and returns a function that sets it back. An
// empty text turns it off.
func Enable(name, terms string) (restore func(), err error) {
	list, err := parseTerms(terms)
	if err != nil {
		return nil, fmt.Errorf("failpoint %s: %w", name, err)
	}
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil {
		return nil, fmt.Errorf("failpoint: there is no point %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(points)), ", "))
	}
	was := p.plan.Swap(newPlan(list))
	return func() { p.plan.Store(was) }, nil
}

// Set enables every point that text names, in the form of the environment
// variable. Nothing is changed when there is an error in it.
func Set(text string) error {
	plans, err := parse(text)
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	for name := range plans {
		if points[name] == nil {
			return fmt.Errorf("failpoint: there is no point %q", name)
		}
	}
	for name, terms := range plans {
		points[name].plan.Store(newPlan(terms))
	}
	return nil
}

// Hit does what the point was told, if anything. It returns nil while it is off.
func (p *Point) Hit() error {
	if p.plan.Load() == nil {
		return nil
	}
	return p.fault()
}

// Torn says how many of n bytes a write may write: all, with a nil error, unless
// the point was told to tear it. The caller writes that many, then fails with err.
func (p *Point) Torn(n int) (int, error) {
	if p.plan.Load() == nil {
		return n, nil
	}
	return p.act(n)
}

// fault is apart from Hit, which the compiler inlines for that.
//
//go:noinline
func (p *Point) fault() error {
	_, err := p.act(0)
	return err
}

// act takes the next term and does it.
func (p *Point) act(n int) (int, error) {
	t := p.take()
	switch t.action {
	case fail:
		return 0, &Error{p.name, t.text}
	case boom:
		panic(&Error{p.name, t.text})
	case wait:
		time.Sleep(t.wait)
	case kill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	case tear:
		return min(n, t.bytes), &Error{p.name, fmt.Sprintf("only %d of %d bytes were written", min(n, t.bytes), n)}
	}
	return n, nil
}

// take counts a hit and returns the term that holds for it.
func (p *Point) take() term {
	pl := p.plan.Load()
	if pl == nil { // turned off a moment ago
		return term{}
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if len(pl.terms) == 0 {
		return term{}
	}
	t := pl.terms[0]
	if t.count > 0 {
		if pl.terms[0].count--; pl.terms[0].count == 0 {
			pl.terms = pl.terms[1:]
		}
	}
	if len(pl.terms) == 0 {
		p.plan.CompareAndSwap(pl, nil)
	}
	return t
}
