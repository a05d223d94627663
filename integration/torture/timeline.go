package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// What the campaign does to the node.
const (
	killing   = "kill"      // a plugin process was killed
	stopping  = "stop"      // a plugin process was stopped by SIGSTOP
	swapping  = "swap"      // a good version comes
	spoiling  = "bad"       // a bad version comes
	dying     = "dying"     // a bad version comes, serves and ends by itself
	operating = "operate"   // what an operator does
	hosting   = "host kill" // the node was killed
)

// fault is one of them: it begins when it is done and ends when the node should
// have got over it.
type fault struct {
	kind, module string // module is empty for the node as a whole
	detail       string
	clean        bool // nothing else was done on purpose meanwhile
	from, to     time.Time
}

func (f *fault) String() string {
	until := "and on"
	if f.to != endless {
		until = fmt.Sprintf("for %s", f.to.Sub(f.from).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s %s %s from %s %s", f.kind, f.module, f.detail, f.from.Format("15:04:05.000"), until)
}

// timeline remembers the faults, so that what became of a job can be explained, or
// not.
type timeline struct {
	mu   sync.Mutex
	list []*fault
}

// endless is the end of a fault that goes on.
var endless = time.Unix(1<<40, 0)

// begin notes that a fault begins, and returns what ends it.
func (t *timeline) begin(f fault) (end func()) {
	f.from, f.to = time.Now(), endless
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, &f)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		f.to = time.Now()
	}
}

// during returns the faults of some kinds that touched a module between two
// moments, the node's own included.
func (t *timeline) during(module string, from, to time.Time, kinds ...string) (list []fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.list {
		if (f.module == "" || f.module == module) && f.from.Before(to) && f.to.After(from) && slices.Contains(kinds, f.kind) {
			list = append(list, *f)
		}
	}
	return list
}

// kills counts the kills of a module since a moment.
func (t *timeline) kills(module string, since time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range slices.Backward(t.list) {
		if f.module == module && f.from.After(since) && (f.kind == killing || f.kind == stopping || f.kind == dying) {
			n++
		}
	}
	return n
}

// describe names the faults around a time, for whoever has to understand what
// happened then.
func (t *timeline) describe(from, to time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, f := range t.list {
		if f.from.Before(to.Add(time.Second)) && f.to.After(from.Add(-time.Second)) {
			list = append(list, f.String())
		}
	}
	if len(list) == 0 {
		return "no fault was near"
	}
	return strings.Join(list[max(0, len(list)-8):], "; ")
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// spans returns the stretches in which a module had faults that f chooses, joined
// where they overlap and in their order.
func (t *timeline) spans(module string, choose func(fault) bool) []span {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []span
	for _, f := range t.list {
		if choose(*f) && (f.module == "" || module == "" || f.module == module) {
			list = append(list, span{f.from, f.to})
		}
	}
	slices.SortFunc(list, func(a, b span) int { return a.from.Compare(b.from) })
	joined := list[:0]
	for _, s := range list {
		if n := len(joined); n > 0 && !s.from.After(joined[n-1].to) {
			if s.to.After(joined[n-1].to) {
				joined[n-1].to = s.to
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// touches reports whether a stretch overlaps any of joined ones.
func (s span) touches(joined []span) bool {
	i, _ := slices.BinarySearchFunc(joined, s.from, func(j span, at time.Time) int {
		if j.to.After(at) {
			return 1
		}
		return -1
	})
	return i < len(joined) && joined[i].from.Before(s.to)
}
