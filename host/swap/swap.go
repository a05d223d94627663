// Package swap exchanges one generation of a plugin for the next while jobs come
// in. It knows the order of the steps, what each one may cost, how to go back from
// any of them, and when a new generation has proved itself; what a step does to
// processes, memory and queues is the caller's (package node).
//
// Run takes a swap as far as the flip and undoes everything when it fails before.
// Watch follows the new generation through its probation and says when to go back.
//
// The package starts no process and keeps nothing between calls.
package swap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inos/host/events"
	"inos/plugins/sdk/failpoint"
)

// Tally counts the jobs that a generation ended. Failed counts those that failed
// through the plugin, not through the caller.
type Tally struct{ Succeeded, Failed uint64 }

// minus returns what was counted since an earlier look.
func (t Tally) minus(o Tally) Tally {
	// A process that is gone takes its counts along.
	return Tally{Succeeded: t.Succeeded - min(t.Succeeded, o.Succeeded), Failed: t.Failed - min(t.Failed, o.Failed)}
}

// Incumbent is the generation that serves. Every method but Tally returns when its
// step is done or ctx ends.
type Incumbent interface {
	// Freeze has it take no more jobs, end those that run and commit its state. Jobs
	// that come meanwhile wait.
	Freeze(ctx context.Context) error
	// Thaw has it take jobs again.
	Thaw(ctx context.Context) error
	// Quiesce freezes it and ends its processes, so that they let go of what only
	// one process can hold.
	Quiesce(ctx context.Context) error
	// Revive starts it again after Quiesce.
	Revive(ctx context.Context) error
	// Tally of the generation so far.
	Tally() Tally
}

// Successor is the generation that is to serve. Its process runs and has been
// checked.
type Successor interface {
	// Connect gives it memory and its configuration.
	Connect(ctx context.Context) error
	// Adopt has it take over the state of the incumbent, which holds still.
	Adopt(ctx context.Context) error
	// Start makes it ready for jobs that are addressed to it.
	Start(ctx context.Context) error
	// Test runs its self-test.
	Test(ctx context.Context) error
	// Canary gives it about that share of the jobs, 0 for none again.
	Canary(percent int)
	// Expand starts as many further processes as the incumbent has.
	Expand(ctx context.Context) error
	// Flip gives it all jobs and the incumbent none, at one instant.
	Flip(ctx context.Context) error
	// Discard ends it and gives back all it had; it returns when that is done.
	Discard(cause error)
	Subject
}

// Subject is a generation under observation.
type Subject interface {
	Tally() Tally
	// Failed is closed when a process of the generation has ended unasked.
	Failed() <-chan struct{}
	// Cause says why, after Failed.
	Cause() error
	// Health asks how it is.
	Health(ctx context.Context) error
}

// Plan says how a swap is to be made. Times of 0 leave a step unbounded, a canary
// of 0 percent or of no time is left out.
type Plan struct {
	Exclusive     bool // the generations cannot be alive side by side
	State         bool // the incumbent has state to hand over
	Step          time.Duration
	Freeze        time.Duration // for the jobs of the incumbent to end
	CanaryPercent int
	CanaryFor     time.Duration
	Judge         Judge
}

// ErrIncumbent says that a swap failed because of the generation that serves: it says
// nothing of the one that was to come.
var ErrIncumbent = errors.New("the version that serves does not let go")

// Note is told of each step when it has ended.
type Note func(step events.Step, took time.Duration, err error)

// Points at which tests make a swap fail, or the host end, after the step named.
var (
	afterQuiesce = failpoint.New("swap/quiesced")
	afterConnect = failpoint.New("swap/connected")
	afterFreeze  = failpoint.New("swap/frozen")
	afterAdopt   = failpoint.New("swap/adopted")
	afterStart   = failpoint.New("swap/started")
	afterTest    = failpoint.New("swap/tested")
	afterCanary  = failpoint.New("swap/canary")
	beforeFlip   = failpoint.New("swap/before-flip")
	undoing      = failpoint.New("swap/undoing")
)

// Run takes the successor into service in the incumbent's place. When it returns
// nil the successor serves, and the incumbent gets no job any more. When it
// returns an error the incumbent serves as before, or the error says that it
// cannot, and nothing is left of the successor.
//
// A generation with state holds still from Frozen to Flipped, and jobs wait that
// long; one without never stops serving.
func Run(ctx context.Context, p Plan, old Incumbent, next Successor, note Note) (err error) {
	r := run{plan: p, note: note}
	defer func() {
		if err == nil {
			return
		}
		next.Discard(err)
		if back := r.goBack(); back != nil {
			err = fmt.Errorf("%w; %w", err, back)
		}
	}()
	if p.Exclusive {
		r.undo(events.Restarted, old.Revive)
		if err := r.step(ctx, events.Quiesced, p.Freeze, afterQuiesce, old.Quiesce); err != nil {
			return fmt.Errorf("%w: %w", ErrIncumbent, err)
		}
	}
	if err := r.step(ctx, events.Connected, p.Step, afterConnect, next.Connect); err != nil {
		return err
	}
	if p.State {
		if !p.Exclusive {
			r.undo(events.Thawed, old.Thaw)
			if err := r.step(ctx, events.Frozen, p.Freeze, afterFreeze, old.Freeze); err != nil {
				return fmt.Errorf("%w: %w", ErrIncumbent, err)
			}
		}
		if err := r.step(ctx, events.Adopted, p.Step, afterAdopt, next.Adopt); err != nil {
			return err
		}
	}
	if err := r.step(ctx, events.Started, p.Step, afterStart, next.Start); err != nil {
		return err
	}
	if err := r.step(ctx, events.Tested, p.Step, afterTest, next.Test); err != nil {
		return err
	}
	if p.CanaryPercent > 0 && p.CanaryFor > 0 && !p.State && !p.Exclusive {
		try := func(ctx context.Context) error { return p.canary(ctx, old, next) }
		if err := r.step(ctx, events.Canary, 0, afterCanary, try); err != nil {
			return err
		}
	}
	if err := next.Expand(ctx); err != nil {
		return fmt.Errorf("as many processes as before could not be started: %w", err)
	}
	if err := beforeFlip.Hit(); err != nil {
		return err
	}
	return r.step(ctx, events.Flipped, p.Step, nil, next.Flip)
}

// run is one swap under way.
type run struct {
	plan Plan
	note Note
	back []func() error // what undoes the steps so far
}

// step does one step and tells of it.
func (r *run) step(ctx context.Context, s events.Step, bound time.Duration, after *failpoint.Point, do func(context.Context) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	from := time.Now()
	if bound > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, bound, fmt.Errorf("it was not %s within %s", s, bound))
		defer stop()
	}
	err := do(ctx)
	if err == nil && after != nil {
		err = after.Hit()
	}
	r.note(s, time.Since(from), err)
	return err
}

// undo notes how to take back a step that is about to be tried.
func (r *run) undo(s events.Step, do func(context.Context) error) {
	r.back = append(r.back, func() error {
		// The swap may have failed because its time was up; going back has its own.
		return r.step(context.Background(), s, r.plan.Step, undoing, do)
	})
}

// goBack undoes what was done, the last first.
func (r *run) goBack() error {
	var errs []error
	for _, f := range slices.Backward(r.back) {
		if err := f(); err != nil {
			errs = append(errs, fmt.Errorf("going back: %w", err))
		}
	}
	return errors.Join(errs...)
}

// canary lets the successor try itself on a share of the jobs.
func (p Plan) canary(ctx context.Context, old Incumbent, next Successor) error {
	next.Canary(p.CanaryPercent)
	defer next.Canary(0)
	return p.Judge.Watch(ctx, p.CanaryFor, old.Tally(), next)
}
