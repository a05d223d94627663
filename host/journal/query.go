package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"inos/host/dispatch"
	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
)

var (
	beforeDrop = failpoint.New("journal/drop/before")
	afterDrop  = failpoint.New("journal/drop/after")
)

// find returns the entry of a job that was acknowledged and not forgotten. The
// caller holds mu.
func (j *Journal) find(id uint64) (*entry, error) {
	e := j.jobs[id]
	if e == nil || e.phase == accepting || e.phase == leaving {
		return nil, unknownJob(id)
	}
	return e, nil
}

// lastRefusal is why a waiting job could not be started, nil when its turn has
// not come. The caller holds mu.
func (e *entry) lastRefusal() error {
	if err := e.job.Outcome.Err; err != nil {
		return err
	}
	return nil
}

// Get describes a job.
func (j *Journal) Get(id uint64) (Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, err := j.find(id)
	if err != nil {
		return Job{}, err
	}
	return e.job, nil
}

// List describes the jobs that are remembered, the newest first, at most so many
// when limit is above 0.
func (j *Journal) List(limit int) []Job {
	j.mu.Lock()
	list := make([]Job, 0, len(j.jobs))
	for id := range j.jobs {
		if e, err := j.find(id); err == nil {
			list = append(list, e.job)
		}
	}
	j.mu.Unlock()
	slices.SortFunc(list, func(a, b Job) int { return cmp.Or(b.Accepted.Compare(a.Accepted), cmp.Compare(b.ID, a.ID)) })
	if limit > 0 {
		list = list[:min(limit, len(list))]
	}
	return list
}

// Wait returns a job once it has ended. An error that is not about the job's
// number is ctx's, or says that the journal does not go on.
func (j *Journal) Wait(ctx context.Context, id uint64) (Job, error) {
	j.mu.Lock()
	e, err := j.find(id)
	j.mu.Unlock()
	if err != nil {
		return Job{}, err
	}
	select {
	case <-e.done:
	default:
		select {
		case <-e.done:
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		case <-j.ring:
			return Job{}, errClosing
		case <-j.store.dead:
			return Job{}, j.store.failed.Load()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return e.job, nil
}

// Result returns what a job that has ended gave, and what came of it. The reader
// is empty unless it succeeded; it fails, before the last byte, when the bytes
// are not those that were kept. The caller closes it; the result stays until
// Discard, which may come while it is read.
func (j *Journal) Result(id uint64) (io.ReadCloser, dispatch.Outcome, error) {
	j.mu.Lock()
	e, err := j.find(id)
	if err == nil && e.phase != over {
		err = wire.NewError(base.Code_unavailable, fmt.Sprintf("wait for it: inos job wait %x", id), "durable job %x has not ended", id)
	}
	if err != nil {
		j.mu.Unlock()
		return nil, dispatch.Outcome{}, err
	}
	b, o := e.result, e.job.Outcome
	j.mu.Unlock()
	var small []byte
	if b.Place == inStore {
		small, err = j.store.get(results, id)
	}
	var r *verified
	if err == nil {
		r, err = j.spool.open(id, resultSide, b, small)
	}
	switch {
	case errors.Is(err, errDamaged):
		j.mu.Lock()
		_, gone := j.find(id)
		j.mu.Unlock()
		if gone != nil { // discarded meanwhile
			return nil, dispatch.Outcome{}, gone
		}
		return nil, o, damaged(id, err)
	case err != nil: // the disk, or the journal is closed
		return nil, o, err
	}
	return kept{r, id}, o, nil
}

// kept is the result of a job, which may turn out to be damaged.
type kept struct {
	*verified
	id uint64
}

func (k kept) Read(b []byte) (int, error) {
	n, err := k.verified.Read(b)
	if errors.Is(err, errDamaged) {
		err = damaged(k.id, err)
	}
	return n, err
}

// Cancel ends a job as cancelled, and returns when that is on disk. A job that
// has ended already stays as it is.
func (j *Journal) Cancel(ctx context.Context, id uint64) error {
	j.mu.Lock()
	e, err := j.find(id)
	switch {
	case err != nil:
	case j.closing:
		err = errClosing
	case e.phase == waiting:
		j.finishLater(e, ended(compute.Status_canceled, errCanceled))
	case e.phase == running:
		e.canceled = true
		if e.cancel != nil {
			e.cancel(errCanceled)
		}
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = j.Wait(ctx, id)
	return err
}

// Discard forgets a job that has ended, with its result and its key.
func (j *Journal) Discard(id uint64) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.tasks.Done()
	j.mu.Lock()
	e, err := j.find(id)
	if err == nil && e.phase != over {
		err = wire.NewError(base.Code_unavailable, fmt.Sprintf("cancel it first: inos job cancel %x", id), "durable job %x has not ended", id)
	}
	if err == nil {
		e.phase = leaving
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return j.drop([]*entry{e})
}

// drop forgets jobs, which are leaving. After an error they are still there.
func (j *Journal) drop(list []*entry) error {
	var changes []change
	for _, e := range list {
		for _, b := range []bucket{requests, starts, endings, inputs, results} {
			changes = append(changes, change{b, e.job.ID, nil})
		}
	}
	err := beforeDrop.Hit()
	if err == nil {
		err = j.store.commit(changes...)
	}
	if err == nil {
		if err := afterDrop.Hit(); err != nil {
			j.log.Warn("a failpoint cannot take back what is on disk", "error", err)
		}
		for _, e := range list { // while nobody else can get the number, and so the file
			j.spool.remove(e.job.ID, resultSide, e.result)
			j.spool.give(e.record)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range list {
		if err != nil {
			e.phase = over
			j.watchFor(e)
		} else {
			j.forget(e)
		}
	}
	return err
}

// Stats describe the journal.
type Stats struct {
	Waiting  int    `json:"waiting"`
	Running  int    `json:"running"`
	Ended    int    `json:"ended"`    // and remembered
	Jobs     int    `json:"maxJobs"`  // that may be remembered
	Bytes    uint64 `json:"bytes"`    // of requests, inputs and results
	MaxBytes uint64 `json:"maxBytes"` // that they may have
	// Commits were made in so many Transactions since the journal was opened.
	Commits      uint64 `json:"commits"`
	Transactions uint64 `json:"transactions"`
	// Err says why nothing can be written any more, nil when it can.
	Err error `json:"-"`
}

// Stats describes the journal.
func (j *Journal) Stats() Stats {
	s := Stats{
		Jobs: j.opts.MaxJobs, Bytes: j.spool.usage(), MaxBytes: j.opts.MaxBytes,
		Commits: j.store.commits.Load(), Transactions: j.store.transactions.Load(),
	}
	if err := j.store.failed.Load(); err != nil {
		s.Err = err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.jobs {
		switch e.phase {
		case waiting:
			s.Waiting++
		case running:
			s.Running++
		case over:
			s.Ended++
		}
	}
	return s
}
