package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// campaign is one run.
type campaign struct {
	o        options
	log      *progress
	programs programs
	host     *host
	books    *books
	folder   folder
	faults   timeline
	key      string // private key that the node trusts

	workers sync.WaitGroup
	// peace is held for reading while a plugin process is being killed, and for
	// writing by whoever wants none to be: a kill of the node, a swap whose duration is
	// to be known.
	peace sync.RWMutex
	// recovering are the modules that have lost a process. Added to under peace.
	recovering sync.WaitGroup
	dealt      atomic.Int64 // cards of the deck
	// deploying is held while a version is on its way into service.
	deploying sync.Mutex

	strays []process // of lives of the node that were ended

	mu     sync.Mutex
	source *rand.Rand
	patch  map[string]int // last version number of a module
	deaths map[string]int // of its generation
}

// modules of a campaign, those first that others depend on.
var modules = []string{mill, forge, tally, steady, reliant}

// targets are the modules that faults are for.
var targets = []string{mill, forge, tally}

// upTo is how long the node may take for what is bounded.
func (c *campaign) upTo(bound time.Duration) time.Duration {
	return bound * time.Duration(c.o.slack)
}

// random returns a source of randomness of its own.
func (c *campaign) random() *rand.Rand {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rand.New(rand.NewPCG(c.source.Uint64(), c.source.Uint64()))
}

// calm waits until nobody kills anything, and keeps it so until it is ended.
func (c *campaign) calm() (end func()) {
	c.peace.Lock()
	c.recovering.Wait()
	return c.peace.Unlock
}

// next makes the next version of a module.
func (c *campaign) next(module string, conduct ...string) release {
	c.mu.Lock()
	n := c.patch[module]
	c.patch[module]++
	c.mu.Unlock()
	return c.programs.version(module, fmt.Sprintf("1.0.%d", n), conduct...)
}

// run makes the campaign.
func (c *campaign) run(ctx context.Context) (v verdict, err error) {
	v.seed = c.o.seed
	if err := c.boot(ctx); err != nil {
		c.books.isWrong("%v", err)
		return c.verdict(v), errors.Join(errBroken, err)
	}
	c.warm(ctx)
	before, err := c.look(ctx)
	if err != nil {
		return v, err
	}
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	c.load(loading)
	c.workers.Go(func() { c.report(loading) })

	err = c.torment(ctx)
	stopLoad()
	if err == nil {
		err = c.quiet(ctx, before.processes)
	}
	if err == nil {
		v.leakedBytes, v.leakedFDs, err = c.leaks(ctx, before)
	}
	if e := c.host.stop(30 * time.Second); e != nil {
		c.books.isWrong("%v", e)
	}
	c.workers.Wait()
	for _, p := range c.host.gone(c.upTo(diesWithin), func(process) bool { return true }) {
		c.orphan(p, "when the node had stopped")
	}
	if left, e := os.ReadDir(c.host.tag()); e != nil || len(left) > 0 {
		c.books.isWrong("the node left %v in its TMPDIR: %v", left, e)
	}
	if e := c.books.settle(); err == nil {
		err = e
	}
	if err != nil {
		c.books.isWrong("%v", err)
		err = errors.Join(errBroken, err)
	}
	return c.verdict(v), err
}

// verdict fills in what the books say.
func (c *campaign) verdict(v verdict) verdict {
	b := c.books
	during, outside := b.latency(&c.faults)
	b.mu.Lock()
	defer b.mu.Unlock()
	v.jobs, v.lost, v.doubled, v.wrong, v.orphans = b.jobs, b.lost, b.doubled, b.wrong, b.orphans
	v.swap, v.added = percentile(b.swaps, 99), max(0, during-outside)
	return v
}

// warm has every module do a little of everything, so that what it keeps ahead is
// there before anybody counts.
func (c *campaign) warm(ctx context.Context) {
	r := c.random()
	for range 20 {
		for _, m := range []string{mill, forge, steady} {
			c.do(ctx, small(r, m))
		}
		c.do(ctx, newJob(tally, "next", 0))
	}
	for _, m := range []string{mill, forge} {
		c.do(ctx, newJob(m, "mix", big))
		c.durable(ctx, newJob(m, "mix", mostSmall))
	}
}
