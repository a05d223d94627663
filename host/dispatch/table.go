package dispatch

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

// table remembers every job under way and the last ones that ended.
type table struct {
	mu      sync.Mutex
	live    map[uint64]*Job
	keys    map[string]uint64
	history []Info // a ring of the ended, the oldest overwritten first
	next    int
	limit   int
}

func newTable(history int) *table {
	return &table{live: make(map[uint64]*Job), keys: make(map[string]uint64), limit: history}
}

func (t *table) add(j *Job) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live[j.id] != nil {
		return wire.NewError(base.Code_alreadyExists, "wait for that job", "job %x is under way already", j.id)
	}
	if j.key != "" {
		if other, ok := t.keys[j.key]; ok {
			return wire.NewError(base.Code_alreadyExists, "wait for that job, or use another key", "job %x is under way with the key %q", other, j.key)
		}
		t.keys[j.key] = j.id
	}
	t.live[j.id] = j
	return nil
}

// settled moves a job to the history.
func (t *table) settled(j *Job) {
	info := j.Info()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, j.id)
	if j.key != "" {
		delete(t.keys, j.key)
	}
	if len(t.history) < t.limit {
		t.history = append(t.history, info)
		return
	}
	t.history[t.next] = info
	t.next = (t.next + 1) % t.limit
}

// Info describes a job to a person.
type Info struct {
	ID         uint64
	Capability string
	Module     string
	State      string // "waiting", "running", or the status it ended with
	Priority   compute.Priority
	Submitted  time.Time
	Took       time.Duration // until now, or until it ended
	Attempts   int
	Instance   uint32
	Done       uint64 // of Total, as the handler reports
	Total      uint64
	Cost       uint64
	InBytes    uint64
	OutBytes   uint64
	Err        *wire.Error
	Parent     uint64
}

// Info returns what is known of the job now.
func (j *Job) Info() Info {
	i := Info{
		ID: j.id, Capability: j.cap.spec.Name, Module: j.unit.module, Priority: j.priority, Submitted: j.submitted,
		Took: time.Since(j.submitted), Done: j.progress[0].Load(), Total: j.progress[1].Load(),
		InBytes: j.inBytes.Load(), OutBytes: j.outBytes.Load(), Parent: j.metadata.ParentJob,
	}
	i.State, i.Attempts, i.Instance = j.unit.standing(j)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.settled {
		i.Took = j.took
		i.State, i.Err, i.Cost = j.outcome.Status.String(), j.outcome.Err, j.outcome.Cost
	}
	return i
}

// Jobs lists the jobs under way and the last ended, the newest first.
func (e *Engine) Jobs() []Info {
	e.jobs.mu.Lock()
	live := make([]*Job, 0, len(e.jobs.live))
	for _, j := range e.jobs.live {
		live = append(live, j)
	}
	list := slices.Clone(e.jobs.history)
	e.jobs.mu.Unlock()
	for _, j := range live {
		list = append(list, j.Info())
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(b.ID, a.ID) })
	return list
}

// Find returns a job under way, or nil.
func (e *Engine) Find(id uint64) *Job {
	e.jobs.mu.Lock()
	defer e.jobs.mu.Unlock()
	return e.jobs.live[id]
}

// Lookup describes a job, under way or remembered.
func (e *Engine) Lookup(id uint64) (Info, bool) {
	if j := e.Find(id); j != nil {
		return j.Info(), true
	}
	e.jobs.mu.Lock()
	defer e.jobs.mu.Unlock()
	for _, i := range e.jobs.history {
		if i.ID == id {
			return i, true
		}
	}
	return Info{}, false
}

// counters of the engine's life.
type counters struct {
	submitted, refused, offences atomic.Uint64
	ended                        [16]atomic.Uint64 // by status
}

func (c *counters) settled(s compute.Status) { c.ended[min(int(s), len(c.ended)-1)].Add(1) }

// Stats are totals since the engine was made.
type Stats struct {
	Submitted uint64            `json:"submitted"`
	Refused   uint64            `json:"refused"`  // never taken in
	Offences  uint64            `json:"offences"` // broken promises of plugins
	Ended     map[string]uint64 `json:"ended"`    // by status
}

// Stats returns the totals.
func (e *Engine) Stats() Stats {
	s := Stats{Submitted: e.stats.submitted.Load(), Refused: e.stats.refused.Load(), Offences: e.stats.offences.Load(), Ended: map[string]uint64{}}
	for i := range e.stats.ended {
		if n := e.stats.ended[i].Load(); n > 0 {
			s.Ended[compute.Status(i).String()] = n
		}
	}
	return s
}
