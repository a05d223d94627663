package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"inos/plugins/sdk/failpoint"
	"inos/protocols/compute/v1"
)

var recovering = failpoint.New("journal/recover")

// done is the channel of every job that had ended when the journal was opened.
var done = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// recover reads what is on disk, ends the jobs that cannot go on, and removes
// what belongs to none.
func (j *Journal) recover() error {
	var lost []change
	err := j.store.view(func(tx *bolt.Tx) error {
		err := tx.Bucket([]byte(requests)).ForEach(func(k, v []byte) error {
			if len(k) != 8 {
				return nil // nobody wrote it and nobody finds it
			}
			j.restore(tx, binary.BigEndian.Uint64(k), v)
			return nil
		})
		if err != nil {
			return err
		}
		for _, b := range []bucket{starts, endings, inputs, results} {
			err := tx.Bucket([]byte(b)).ForEach(func(k, _ []byte) error {
				if len(k) == 8 && j.jobs[binary.BigEndian.Uint64(k)] == nil {
					lost = append(lost, change{b, binary.BigEndian.Uint64(k), nil})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return openError(j.store.path, err)
	}
	if err := recovering.Hit(); err != nil {
		return err
	}
	if err := j.settle(lost); err != nil {
		return err
	}
	return j.spool.sweep(func(id uint64, of side) bool {
		e := j.jobs[id]
		return e != nil && ((of == inputSide && e.phase == waiting && e.input.Place == inFile) || (of == resultSide && e.result.Place == inFile))
	})
}

// restore makes the entry of one job from its records. A job whose records cannot
// be read ends for that reason; the others are none the worse for it.
func (j *Journal) restore(tx *bolt.Tx, id uint64, record []byte) {
	e := &entry{job: Job{ID: id}, record: uint64(len(record)), phase: waiting, accepted: done, done: make(chan struct{})}
	j.jobs[id] = e
	r, broken := decodeRequest(record)
	if broken == nil {
		e.admit(r)
		if k := r.job.IdempotencyKey; k != "" {
			j.keys[k] = e
		}
	}
	if v := tx.Bucket([]byte(endings)).Get(key(id)); v != nil {
		if end, err := decodeEnding(v); err == nil {
			e.end(end, j.opts.Retain)
			e.phase, e.done = over, done
			j.watchFor(e)
		} else {
			e.job.Outcome = ended(compute.Status_failed, damaged(id, err))
		}
	} else {
		switch {
		case broken != nil:
			e.job.Outcome = ended(compute.Status_failed, damaged(id, broken))
		case tx.Bucket([]byte(starts)).Get(key(id)) != nil:
			e.job.Outcome = unknown(id)
		}
	}
	j.spool.used += e.record + e.result.Size
	if e.phase == waiting {
		j.spool.used += e.input.Size
	}
}

// settle records the end of every job that was given one by restore, together
// with other changes.
func (j *Journal) settle(changes []change) error {
	now := j.opts.Now()
	var gone []*entry
	for id, e := range j.jobs {
		if e.phase != waiting || e.job.Outcome.Err == nil {
			continue
		}
		end := ending{at: now, outcome: e.job.Outcome}
		list, err := endChanges(id, end, nil)
		if err != nil {
			return err
		}
		changes = append(changes, list...)
		gone = append(gone, e)
		e.end(end, j.opts.Retain)
		e.phase, e.done = over, done
		j.watchFor(e)
		j.log.Warn("a durable job could not go on", "job", fmt.Sprintf("%x", id), "capability", e.job.Capability, "error", end.outcome.Err)
	}
	for len(changes) > 0 {
		n := min(len(changes), maxGroup)
		if err := j.store.commit(changes[:n]...); err != nil {
			return err
		}
		changes = changes[n:]
	}
	for _, e := range gone {
		j.spool.remove(e.job.ID, inputSide, e.input)
	}
	return nil
}

// admit fills in what the request says.
func (e *entry) admit(r request) {
	e.input, e.asked = r.input, digest(r.job, r.input)
	e.job.Capability, e.job.Key, e.job.Priority = r.job.Capability, r.job.IdempotencyKey, r.job.Priority
	e.job.Accepted, e.job.Deadline, e.job.InBytes = r.accepted, r.deadline, r.input.Size
	e.job.State = "waiting"
}

// end fills in what came of the job.
func (e *entry) end(end ending, retain time.Duration) {
	e.result = end.result
	e.job.State, e.job.Outcome, e.job.OutBytes = end.outcome.Status.String(), end.outcome, end.result.Size
	e.job.Ended, e.job.Expires = end.at, end.at.Add(retain)
}

// endChanges is what a job's end changes in the store.
func endChanges(id uint64, end ending, small []byte) ([]change, error) {
	record, err := end.encode(id)
	if err != nil {
		return nil, err
	}
	list := []change{{endings, id, record}, {starts, id, nil}, {inputs, id, nil}}
	if small != nil {
		list = append(list, change{results, id, small})
	}
	return list, nil
}
