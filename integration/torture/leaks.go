package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// holdings are what the node has while nothing goes on.
type holdings struct {
	bytes     map[string]int64 // of blocks, by module, without state blocks
	strays    int64            // of blocks of processes that are gone
	files     map[string]int   // open descriptors by what they lead to
	processes int
}

// look finds out what the node has.
func (c *campaign) look(ctx context.Context) (h holdings, err error) {
	h.bytes = make(map[string]int64)
	client := c.host.api()
	s, err := client.Segment(ctx)
	if err != nil {
		return h, err
	}
	client.Close() // its connection is none of the node's doing
	owners := make(map[uint32]string)
	for _, o := range s.Owners {
		owners[o.Instance] = o.Plugin
	}
	state := make(map[string]int64)
	for _, b := range s.States {
		state[b.Module] += stateBlock(b.Size)
	}
	for _, a := range s.Arenas {
		for _, o := range a.Owners {
			switch name, known := owners[o.Owner]; {
			case o.Owner == 0:
				h.bytes["the host in "+a.Module] += int64(o.Bytes) - state[a.Module]
			case known:
				h.bytes[name] += int64(o.Bytes)
			default:
				h.strays += int64(o.Bytes)
			}
		}
	}
	if h.files, err = c.host.descriptors(); err != nil {
		return h, err
	}
	h.processes = len(c.host.processes())
	return h, nil
}

// stateBlock is what a state block with halves of so many bytes takes: a line for its
// head and two halves in whole lines, in the arena's classes of powers of two.
func stateBlock(half uint64) int64 {
	need := 64 + 2*((half+63)/64*64)
	size := uint64(64)
	for size < need {
		size *= 2
	}
	return int64(size)
}

// settleWait bounds how long what is under way may take to end.
const settleWait = 40 * time.Second

// quiet waits until nothing goes on any more: no job, no durable one, no swap, no
// more processes than in the beginning.
func (c *campaign) quiet(ctx context.Context, processes int) error {
	var why string
	for limit := time.Now().Add(durablePatience); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.books.mu.Lock()
		open := len(c.books.open)
		c.books.mu.Unlock()
		if open > 0 {
			why = fmt.Sprintf("%d jobs are under way still", open)
			continue
		}
		list, err := c.host.api().Plugins(ctx)
		if err != nil {
			return err
		}
		why = ""
		for _, p := range list {
			for _, i := range p.Instances {
				if i.Running > 0 {
					why = fmt.Sprintf("process %d of %s has %d jobs", i.PID, p.Name, i.Running)
				}
			}
		}
		if n := len(c.host.processes()); n != processes {
			why = fmt.Sprintf("%d processes are there, in the beginning there were %d", n, processes)
		}
		if why == "" {
			time.Sleep(2500 * time.Millisecond) // what is on probation is no more
			return nil
		}
	}
	c.books.isWrong("the node does not come to rest: %s", why)
	return nil
}

// leaks compares what the node has with what it had before. What is given back a
// moment later is no leak.
func (c *campaign) leaks(ctx context.Context, before holdings) (bytes, files int64, err error) {
	var now holdings
	for limit := time.Now().Add(settleWait); ; time.Sleep(100 * time.Millisecond) {
		if now, err = c.look(ctx); err != nil {
			return 0, 0, err
		}
		bytes, files = now.strays, 0
		for name, n := range now.bytes {
			bytes += max(0, n-before.bytes[name])
		}
		for _, n := range now.files {
			files += int64(n)
		}
		for _, n := range before.files {
			files -= int64(n)
		}
		files = max(0, files)
		if bytes == 0 && files == 0 || time.Now().After(limit) {
			break
		}
	}
	if bytes > 0 {
		c.log.find("LEAK: %d bytes; blocks before %v, now %v, and %d bytes of processes that are gone", bytes, before.bytes, now.bytes, now.strays)
	}
	if files > 0 {
		c.log.find("LEAK: %d descriptors; %s", files, compare(before.files, now.files))
	}
	return bytes, files, nil
}

// compare says what changed.
func compare(before, now map[string]int) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name] != before[name] {
			text += fmt.Sprintf("%s: %d before, %d now; ", name, before[name], now[name])
		}
	}
	return text
}
