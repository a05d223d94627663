package journal

import (
	"container/heap"
	"fmt"
	"time"
)

// alarms is a heap of the jobs about which something may have to be done at a
// moment, the earliest first. A job is in it once at most, so that it is no
// longer than the journal, however far away those moments are.
type alarms []*entry

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(x, y int) bool { return a[x].armed.Before(a[y].armed) }
func (a *alarms) Push(v any)        { e := v.(*entry); *a = append(*a, e); e.bell = len(*a) }

func (a alarms) Swap(x, y int) {
	a[x], a[y] = a[y], a[x]
	a[x].bell, a[y].bell = x+1, y+1
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	e.bell = 0
	return e
}

// watchFor sets the alarm of a job: for its deadline while it waits, and for the
// day that it is forgotten once it is over. The caller holds mu.
func (j *Journal) watchFor(e *entry) {
	at := e.job.Expires
	if e.phase != over {
		at = e.due(j.opts.Patience)
	}
	j.arm(e, at)
}

// disarm takes the alarm of a job back. The caller holds mu.
func (j *Journal) disarm(e *entry) {
	if e.bell > 0 {
		heap.Remove(&j.alarms, e.bell-1)
	}
}

// arm sets the alarm of a job. The caller holds mu.
func (j *Journal) arm(e *entry, at time.Time) {
	e.armed = at
	if e.bell > 0 {
		heap.Fix(&j.alarms, e.bell-1)
	} else {
		heap.Push(&j.alarms, e)
	}
	if j.alarms[0] == e {
		select {
		case j.alarm <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// farAway is how long the clock is not looked at when no alarm is set: it may
// have been set meanwhile.
const farAway = time.Minute

// watch does what is due until the journal closes.
func (j *Journal) watch() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-j.ring:
			return
		case <-j.alarm:
		case <-t.C:
		}
		t.Reset(j.sweep())
	}
}

// sweep ends the jobs that waited for too long and forgets the ends that nobody
// asked for. It returns how long nothing else is due.
func (j *Journal) sweep() time.Duration {
	now := j.opts.Now()
	var expired []*entry
	j.mu.Lock()
	for len(j.alarms) > 0 && !j.alarms[0].armed.After(now) && len(expired) < maxGroup {
		e := heap.Pop(&j.alarms).(*entry)
		switch {
		case e.phase == waiting && !e.due(j.opts.Patience).After(now) && !j.closing:
			j.finishLater(e, late(e.job.Capability, e.job.Deadline, e.lastRefusal()))
		case e.phase == over && !e.job.Expires.After(now):
			e.phase = leaving
			expired = append(expired, e)
		}
	}
	next := farAway
	if len(j.alarms) > 0 {
		next = min(next, max(0, j.alarms[0].armed.Sub(now)))
	}
	j.mu.Unlock()
	if len(expired) > 0 {
		if err := j.drop(expired); err != nil {
			j.log.Warn("jobs that have expired cannot be forgotten yet", "jobs", len(expired), "error", err)
			j.mu.Lock()
			for _, e := range expired {
				j.arm(e, now.Add(farAway))
			}
			j.mu.Unlock()
		} else {
			j.log.Debug("forgot jobs whose results nobody fetched", "jobs", len(expired), "first", fmt.Sprintf("%x", expired[0].job.ID))
		}
	}
	return next
}
