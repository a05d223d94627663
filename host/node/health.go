package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos/host/supervisor"
	"inos/protocols/system/v1"
)

// Two things show that a plugin is well. Its heartbeat is an epoch that its
// service loop moves: looking at it costs nothing, and it stands still when the
// process is stopped or the loop hangs. Its answer to the health command says how
// it feels itself, and that its control connection works.

// unanswered is how many health commands in a row may go without an answer.
const unanswered = 3

// watchHeartbeats ends every process whose heartbeat stands still.
func (n *Node) watchHeartbeats() {
	type seen struct {
		beat  uint64
		since time.Time
	}
	last := make(map[uint32]seen)
	tick := time.NewTicker(n.opts.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		alive := make(map[uint32]seen)
		for i, beat := range n.heartbeats() {
			s, ok := last[i.id]
			if !ok || s.beat != beat {
				s = seen{beat, now}
			}
			if stood := now.Sub(s.since); stood > n.opts.HangAfter {
				i.end(fmt.Errorf("it hung: its heartbeat stood still for %s", stood.Round(time.Millisecond)))
			}
			alive[i.id] = s
		}
		last = alive
	}
}

// heartbeats reads the heartbeat of every process in service. A module's lock
// keeps its links mapped meanwhile: a process is taken off the list before its
// link goes.
func (n *Node) heartbeats() map[*instance]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	beats := make(map[*instance]uint64)
	for _, m := range n.modules {
		m.mu.Lock()
		for _, i := range m.instances {
			beats[i] = i.link.Epochs.Load(uint16(system.LinkEpoch_heartbeat))
		}
		m.mu.Unlock()
	}
	return beats
}

// ask asks one process how it is, again and again until it ends.
func (i *instance) ask() {
	n := i.module.node
	tick := time.NewTicker(n.opts.HealthEvery)
	defer tick.Stop()
	for silent := 0; ; {
		ctx, stop := context.WithTimeout(n.ctx, n.opts.HealthEvery)
		h, err := i.proc.Health(ctx)
		stop()
		switch {
		case err == nil:
			silent = 0
			i.mu.Lock()
			i.health = h
			i.mu.Unlock()
		case errors.Is(err, supervisor.ErrDied) || n.ctx.Err() != nil:
			return
		default:
			if silent++; silent >= unanswered {
				i.end(fmt.Errorf("it hung: %d health commands in a row went without an answer, the last: %w", silent, err))
				return
			}
		}
		select {
		case <-tick.C:
		case <-i.proc.Dead():
			return
		case <-n.ctx.Done():
			return
		}
	}
}

// wellEnough reports whether a plugin that says this of itself is fit to serve.
func wellEnough(s system.HealthStatus) bool {
	return s != system.HealthStatus_degraded && s != system.HealthStatus_zombie
}
