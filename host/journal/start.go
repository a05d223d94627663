package journal

import (
	"sync"

	"inos/plugins/sdk/failpoint"
)

var (
	beforeStart = failpoint.New("journal/start/before")
	afterStart  = failpoint.New("journal/start/after")
)

// start is the beginning of one run. The engine may come to it when the job has
// had its outcome already.
type start struct {
	mu    sync.Mutex // held while the start is recorded
	over  bool       // too late
	twice bool       // the job may be started again, nothing was recorded
	fixed bool       // recorded: it must not
	err   error      // why it could not begin
}

// begin is called by the engine before it gives the job to a plugin.
func (j *Journal) begin(s *start, e *entry, twice bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errCanceled
	}
	// What is served may have been replaced since, by one that must not run twice.
	c, served := j.capability(e.job.Capability)
	s.twice = twice && served && c.Idempotent
	s.err = j.record(s, e)
	return s.err
}

func (j *Journal) record(s *start, e *entry) error {
	if err := beforeStart.Hit(); err != nil {
		return err
	}
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return errClosing
	}
	e.begun = true
	e.job.Runs++
	e.job.State = "running"
	j.mu.Unlock()
	if !s.twice {
		at, err := seal(j.opts.Now().UnixNano(), nil)
		if err != nil {
			return err
		}
		if err := j.store.commit(change{starts, e.job.ID, at}); err != nil {
			return err
		}
		s.fixed = true
	}
	return afterStart.Hit()
}

// end lets nothing begin any more, and waits for a beginning under way.
func (s *start) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
}
