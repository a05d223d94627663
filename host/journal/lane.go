package journal

import (
	"cmp"
	"container/heap"
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inos/protocols/compute/v1"
)

// lane holds the jobs of one capability that wait for their turn, guarded by
// Journal.mu. How many are with the engine at a time adapts: each refusal halves
// it and makes the lane pause, each acceptance adds one. So a capability that
// nobody serves costs one question per pause, however many jobs wait for it, and
// a full arena is not fought over.
type lane struct {
	name    string
	waiting turns
	running int
	limit   int
	pause   *time.Timer // runs while the lane pauses, nil otherwise
	wait    backoff.ExponentialBackOff
}

// Bounds of the pauses of a lane.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second
)

func newLane(name string, parallel int) *lane {
	l := &lane{name: name, limit: parallel, wait: backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: maxPause, Multiplier: 2, RandomizationFactor: 0.25,
	}}
	l.wait.Reset()
	return l
}

// resume ends the pause.
func (l *lane) resume() {
	if l.pause != nil {
		l.pause.Stop()
		l.pause = nil
	}
}

// turns is a heap of entries: the most urgent first, and of those the oldest.
type turns []*entry

func (t turns) Len() int    { return len(t) }
func (t *turns) Push(v any) { e := v.(*entry); *t = append(*t, e); e.turn = len(*t) }

func (t turns) Swap(a, b int) {
	t[a], t[b] = t[b], t[a]
	t[a].turn, t[b].turn = a+1, b+1
}

func (t turns) Less(a, b int) bool {
	x, y := &t[a].job, &t[b].job
	return cmp.Or(cmp.Compare(rank(y.Priority), rank(x.Priority)), x.Accepted.Compare(y.Accepted), cmp.Compare(x.ID, y.ID)) < 0
}

func (t *turns) Pop() any {
	last := len(*t) - 1
	e := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	e.turn = 0
	return e
}

// rank orders priorities, the most urgent the highest.
func rank(p compute.Priority) int {
	switch p {
	case compute.Priority_emergency:
		return 4
	case compute.Priority_critical:
		return 3
	case compute.Priority_high:
		return 2
	case compute.Priority_low:
		return 0
	default:
		return 1
	}
}

// enqueue lets a waiting job stand in its lane. The caller holds mu.
func (j *Journal) enqueue(e *entry) *lane {
	l := j.lanes[e.job.Capability]
	if l == nil {
		l = newLane(e.job.Capability, j.opts.Parallel)
		j.lanes[l.name] = l
	}
	heap.Push(&l.waiting, e)
	j.watchFor(e)
	return l
}

// leave takes a job that waits out of its lane. The caller holds mu.
func (j *Journal) leave(e *entry) {
	if l := j.lanes[e.job.Capability]; l != nil && e.turn > 0 {
		heap.Remove(&l.waiting, e.turn-1)
		j.feed(l) // it may have been the last
	}
}

// feed starts jobs of a lane while it may: none that could not be ended. The
// caller holds mu.
func (j *Journal) feed(l *lane) {
	for !j.closing && j.store.failed.Load() == nil && l.pause == nil && l.running < l.limit && l.waiting.Len() > 0 {
		e := heap.Pop(&l.waiting).(*entry)
		var ctx context.Context
		ctx, e.cancel = context.WithCancelCause(j.ctx)
		e.phase, e.begun = running, false
		l.running++
		j.tasks.Add(1)
		go j.run(ctx, l, e)
	}
	if l.pause == nil && l.running == 0 && l.waiting.Len() == 0 {
		delete(j.lanes, l.name)
	}
}

// accepted notes that the engine took a job of the lane.
func (j *Journal) accepted(l *lane) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.wait.Reset()
	l.limit = min(l.limit+1, j.opts.Parallel)
	j.feed(l)
}

// postpone puts a job back into its lane, which pauses. The caller holds mu.
func (j *Journal) postpone(l *lane, e *entry) {
	e.phase = waiting
	e.job.State = "waiting"
	heap.Push(&l.waiting, e)
	j.watchFor(e)
	l.limit = max(1, l.limit/2)
	if l.pause == nil && !j.closing {
		l.pause = time.AfterFunc(l.wait.NextBackOff(), func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			l.pause = nil
			j.feed(l)
		})
	}
}
