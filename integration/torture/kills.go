package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Bounds of what is done to a module before it gets a new version or some rest:
// one that dies too often is stopped, and a job that was there each time is
// quarantined, both rightly.
const (
	mostDeaths = 4
	mostBlame  = 2
)

// killer kills plugin processes until all kills are done, in step with the cards of
// the deck.
func (c *campaign) killer(ctx context.Context, cards int) error {
	r := c.random()
	defer c.recovering.Wait()
	for n := 0; n < c.o.kills; {
		pause(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond))))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if due := c.o.kills * (int(c.dealt.Load()) + 2) / max(1, cards); n > due {
			continue
		}
		module := targets[r.IntN(len(targets))]
		if c.died(module) >= mostDeaths {
			if err := c.refresh(ctx, r, module); err != nil {
				return err
			}
			continue
		}
		if since, ok := c.books.oldest(module); ok && c.faults.kills(module, since) >= mostBlame {
			continue
		}
		c.peace.RLock()
		if c.kill(r, module) {
			n++
			c.books.mu.Lock()
			c.books.kills = n
			c.books.mu.Unlock()
		}
		c.peace.RUnlock()
	}
	return nil
}

// died returns how often the generation of a module has died.
func (c *campaign) died(module string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deaths[module]
}

// refresh brings a new version of a module into service, as an operator would do
// with one that dies too often.
func (c *campaign) refresh(ctx context.Context, r *rand.Rand, module string) error {
	c.deploying.Lock()
	defer c.deploying.Unlock()
	if c.died(module) < mostDeaths {
		return nil // somebody else has
	}
	c.peace.RLock()
	defer c.peace.RUnlock()
	_, err := c.deploy(ctx, r, module, fault{kind: swapping, module: module})
	return err
}

// kill kills or stops a process of a module, whichever there is: one that serves, or
// one that is on its way in or out. It reports whether there was one.
func (c *campaign) kill(r *rand.Rand, module string) bool {
	var list []process
	for _, p := range c.host.processes() {
		if name := filepath.Base(p.exe); name == module || strings.HasPrefix(name, module+"-") {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return false
	}
	p := list[r.IntN(len(list))]
	f, sig := fault{kind: killing, module: module, detail: fmt.Sprintf("pid %d", p.pid)}, syscall.SIGKILL
	if r.IntN(25) == 0 {
		f.kind, sig = stopping, syscall.SIGSTOP
	}
	over := c.faults.begin(f)
	if err := syscall.Kill(p.pid, sig); err != nil {
		over()
		return false
	}
	c.mu.Lock()
	c.deaths[module]++
	c.mu.Unlock()
	life := c.host.life()
	c.recovering.Go(func() {
		defer over()
		c.recovers(life, p, f)
	})
	return true
}

// recoverWait bounds how long a module may be out of service after a kill, with the
// pause before a restart; hangWait how long a process may hang unnoticed.
const (
	recoverWait = 30 * time.Second
	hangWait    = 12 * time.Second
)

// recovers waits until a process is gone and its module serves again.
func (c *campaign) recovers(life int, p process, f fault) {
	gone := time.Now().Add(c.upTo(hangWait))
	limit := time.Now().Add(c.upTo(recoverWait))
	for c.host.life() == life {
		time.Sleep(20 * time.Millisecond)
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		list, err := c.host.api().Plugins(ctx)
		stop()
		row, ok := find(list, f.module)
		there := syscall.Kill(p.pid, 0) == nil && c.ours(p)
		switch {
		case err != nil: // the node is being killed
		case !there && ok && row.Phase == "serving" && len(row.Instances) > 0:
			time.Sleep(100 * time.Millisecond)
			return
		case there && time.Now().After(gone):
			c.books.isWrong("process %d of %s was sent %s and is still there after %s", p.pid, f.module, f.kind, hangWait)
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			return
		case time.Now().After(limit):
			c.books.isWrong("%s does not serve %s after %s of %s: it is %s: %s; %s", f.module, recoverWait, f.kind, f.detail, row.Phase, row.Reason, row.Hint)
			return
		}
	}
}

// ours reports whether a process is the one that it was.
func (c *campaign) ours(p process) bool {
	for _, q := range c.host.processes() {
		if q.pid == p.pid && q.exe == p.exe {
			return true
		}
	}
	return false
}
