package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// The load: so many workers of each kind, each of which gives the node one job at a
// time and then rests for up to so long. The rests keep a small machine from being
// busy with nothing but load, in which no latency could be told from another.
const (
	smallWorkers   = 4
	smallRest      = 25 * time.Millisecond
	steadyRest     = 40 * time.Millisecond
	countRest      = 25 * time.Millisecond
	slowWorkers    = 3
	slowRest       = 50 * time.Millisecond
	bigWorkers     = 1
	bigRest        = 2 * time.Second
	durableWorkers = 4
	durableRest    = 150 * time.Millisecond
)

// load starts the workers. They end when ctx does, each after its job.
func (c *campaign) load(ctx context.Context) {
	victims := []string{mill, forge}
	for range smallWorkers {
		c.worker(ctx, smallRest, func(r *rand.Rand) { c.do(ctx, small(r, victims[r.IntN(len(victims))])) })
	}
	c.worker(ctx, steadyRest, func(r *rand.Rand) { c.do(ctx, small(r, steady)) })
	c.worker(ctx, countRest, func(*rand.Rand) { c.do(ctx, newJob(tally, "next", 0)) })
	for range slowWorkers {
		c.worker(ctx, slowRest, func(r *rand.Rand) { c.do(ctx, slow(r, targets[r.IntN(len(targets))])) })
	}
	for range bigWorkers {
		c.worker(ctx, bigRest, func(r *rand.Rand) {
			c.do(ctx, newJob(victims[r.IntN(len(victims))], []string{"mix", "hash", "once"}[r.IntN(3)], big))
		})
	}
	for range durableWorkers {
		c.worker(ctx, durableRest, func(r *rand.Rand) {
			j := newJob(victims[r.IntN(len(victims))], []string{"mix", "once"}[r.IntN(2)], leastSmall+r.Int64N(mostSmall))
			if r.IntN(100) == 0 {
				j.size = big
			}
			if r.IntN(2) == 0 {
				j.pause = time.Duration(1+r.IntN(500)) * time.Millisecond
			}
			c.durable(ctx, j)
		})
	}
}

// worker calls do again and again until ctx ends.
func (c *campaign) worker(ctx context.Context, rest time.Duration, do func(*rand.Rand)) {
	r := c.random()
	c.workers.Go(func() {
		for ctx.Err() == nil {
			do(r)
			pause(ctx, time.Duration(r.Int64N(int64(rest))))
		}
	})
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
