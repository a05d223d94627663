package supervisor

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// BackoffOptions say how patient the node is with a plugin that dies. The zero
// value of each field means its default.
//
// Each pause is drawn evenly between nothing and a bound ("full jitter"), so that
// plugins that died together do not start together.
type BackoffOptions struct {
	// First bounds the pause after the first death, default 50 ms: most plugins die
	// once, and are wanted back at once. It is at most Initial.
	First time.Duration
	// Initial bounds the pause after the second death, default 200 ms. With each
	// further one the bound doubles, up to Max, default 30 s.
	Initial, Max time.Duration
	// Limit is how many deaths within Window end it, default 5 in 2 min. A plugin
	// that lived for longer than Window begins afresh.
	Limit  int
	Window time.Duration
	// Random returns numbers in [0, 1), default math/rand.
	Random func() float64
}

// EnsureDefaults fills in what was left zero.
func (o *BackoffOptions) EnsureDefaults() {
	o.Initial = cmp.Or(o.Initial, 200*time.Millisecond)
	o.First = min(cmp.Or(o.First, 50*time.Millisecond), o.Initial)
	o.Max = max(cmp.Or(o.Max, 30*time.Second), o.Initial)
	o.Limit = cmp.Or(o.Limit, 5)
	o.Window = cmp.Or(o.Window, 2*time.Minute)
	if o.Random == nil {
		o.Random = rand.Float64
	}
}

// Backoff decides when a plugin that died is started again, and when no more. It
// is not safe for concurrent use.
type Backoff struct {
	opts   BackoffOptions
	bound  backoff.ExponentialBackOff
	deaths []time.Time // within the window, oldest first
}

// NewBackoff returns a Backoff that knows of no death.
func NewBackoff(o BackoffOptions) *Backoff {
	o.EnsureDefaults()
	b := &Backoff{opts: o, bound: backoff.ExponentialBackOff{
		InitialInterval: o.Initial, MaxInterval: o.Max, Multiplier: 2,
		// The library's own jitter cannot be given a source of randomness.
		RandomizationFactor: 0,
	}}
	b.Reset()
	return b
}

// Died notes a death at the given time and returns how long to wait before the
// next start, or ErrCrashLoop.
func (b *Backoff) Died(now time.Time) (time.Duration, error) {
	recent := b.deaths[:0]
	for _, d := range b.deaths {
		if now.Sub(d) < b.opts.Window {
			recent = append(recent, d)
		}
	}
	b.deaths = append(recent, now)
	if len(b.deaths) >= b.opts.Limit {
		return 0, fmt.Errorf("%w: it died %d times within %s; mend it, then start it again", ErrCrashLoop, len(b.deaths), b.opts.Window)
	}
	bound := b.opts.First
	if len(b.deaths) == 1 {
		b.bound.Reset()
	} else {
		bound = b.bound.NextBackOff()
	}
	return time.Duration(b.opts.Random() * float64(bound)), nil
}

// Deaths returns how many deaths within the window are known.
func (b *Backoff) Deaths() int { return len(b.deaths) }

// Reset forgets all deaths, for an operator who starts the plugin by hand.
func (b *Backoff) Reset() {
	b.deaths = b.deaths[:0]
	b.bound.Reset()
}
