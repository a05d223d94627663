package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"inos/plugins/sdk/failpoint"
)

// diesWithin is how long plugins may outlive their node.
const diesWithin = 2 * time.Second

// killHost ends the node at a random instant, of a swap as a rule, and starts it
// again. One time in three it ends by itself, at a failpoint.
func (c *campaign) killHost(ctx context.Context, r *rand.Rand) error {
	c.deploying.Lock()
	defer c.deploying.Unlock()
	armed := r.IntN(3) == 0
	if !armed {
		if err := c.unsettle(r); err != nil {
			return err
		}
		pause(ctx, time.Duration(r.Int64N(int64(1500*time.Millisecond))))
	}
	c.peace.Lock()
	defer c.peace.Unlock()
	over := c.faults.begin(fault{kind: hosting, detail: fmt.Sprintf("of life %d", c.host.life())})
	defer over()
	c.endHost()
	if armed {
		if err := c.live(ctx, r, mined(r)); err != nil {
			return err
		}
	}
	if err := c.boot(ctx); err != nil {
		return err
	}
	c.sweep()
	c.books.mu.Lock()
	c.books.hostKills++
	c.books.mu.Unlock()
	return nil
}

// unsettle drops a version of some module into the folder every second time, and
// does not wait for what becomes of it.
func (c *campaign) unsettle(r *rand.Rand) error {
	if r.IntN(2) == 0 {
		return nil
	}
	module := targets[r.IntN(len(targets))]
	return c.folder.rename(r, module, c.next(module).bytes)
}

// endHost kills the node, and sees to it that its plugins end with it. What plugins
// had started beside their own process may live until the node is there again.
func (c *campaign) endHost() {
	c.host.kill()
	for _, p := range c.host.gone(c.upTo(diesWithin), func(p process) bool { return !p.helper }) {
		c.orphan(p, fmt.Sprintf("%s after the node was killed", diesWithin))
	}
	c.strays = c.host.processes()
}

// sweep sees to it that a node that has come up has ended what plugins of the life
// before had started. It can where it has control groups; elsewhere nobody knows
// whose those processes are.
func (c *campaign) sweep() {
	old := func(p process) bool {
		return slices.ContainsFunc(c.strays, func(q process) bool { return p.pid == q.pid && p.exe == q.exe })
	}
	for _, p := range c.host.gone(c.upTo(diesWithin), func(p process) bool { return old(p) && p.grouped }) {
		c.orphan(p, fmt.Sprintf("%s after another life of the node had begun", diesWithin))
	}
	for _, p := range c.strays {
		if c.ours(p) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	c.strays = nil
}

// mined makes up a life that is to end at a failpoint: which one, and at which hit.
// All the others are slow now and then, so that the node does things in another order.
func mined(r *rand.Rand) string {
	var names []string
	for _, n := range failpoint.Names() { // those of the node, since the API's package knows all of it
		if room, _, _ := strings.Cut(n, "/"); r.IntN(2) == 0 || room == "journal" || room == "swap" || room == "node" {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return ""
	}
	at := r.IntN(len(names))
	terms := make([]string, len(names))
	for i, n := range names {
		terms[i] = fmt.Sprintf("%s=%d*off->2*delay(%dms)", n, 1+r.IntN(20), r.IntN(50))
		if i == at {
			terms[i] = fmt.Sprintf("%s=%d*off->kill", n, 1+r.IntN(8))
		}
	}
	return strings.Join(terms, ";")
}

// minedWait is how long a node has to come to the point at which it is to end.
const minedWait = 4 * time.Second

// live lets the node live with failpoints, under load and with a swap, until it ends
// by itself or has had its time.
func (c *campaign) live(ctx context.Context, r *rand.Rand, points string) error {
	err := c.boot(ctx, failpoint.Env+"="+points)
	select {
	case <-c.host.died(): // on its way up
	default:
		if err != nil {
			return fmt.Errorf("with %s: %w", points, err)
		}
		if err := c.unsettle(r); err != nil {
			return err
		}
		select {
		case <-c.host.died():
		case <-ctx.Done():
		case <-time.After(minedWait):
		}
	}
	c.endHost()
	return nil
}

// orphan notes a process that outlived whom it belongs to, and ends it.
func (c *campaign) orphan(p process, when string) {
	c.books.mu.Lock()
	c.books.orphans++
	c.books.mu.Unlock()
	c.log.find("ORPHAN: process %d, %s, child of %d, in state %s, was there %s", p.pid, p.exe, p.parent, p.state, when)
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
}
