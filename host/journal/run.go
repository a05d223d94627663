package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"inos/host/dispatch"
	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

var (
	runSubmit    = failpoint.New("journal/run/submit")
	beforeEnding = failpoint.New("journal/end/before")
	afterEnding  = failpoint.New("journal/end/after")
)

// verdict is what one run of a job came to.
type verdict struct {
	again   bool // it may be given to the engine once more; outcome.Err says why it has to
	outcome dispatch.Outcome
	result  *writer // whole, nil when there is none
}

// final ends a job.
func final(o dispatch.Outcome) verdict { return verdict{outcome: o} }

// later puts a job back.
func later(err error) verdict {
	return verdict{again: true, outcome: ended(compute.Status_rejected, wire.AsError(err))}
}

// run gives a job to the engine once, and then ends it or puts it back.
func (j *Journal) run(ctx context.Context, l *lane, e *entry) {
	defer j.tasks.Done()
	v := j.attempt(ctx, l, e)
	if !v.again {
		j.finish(e, v.outcome, v.result)
	}
	e.cancel(nil) // nobody else writes it while the job runs
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !v.again:
	case e.canceled:
		j.finishLater(e, ended(compute.Status_canceled, errCanceled))
	default: // while the journal closes it waits on disk for the next life
		j.log.Debug("a durable job has to wait", "job", fmt.Sprintf("%x", e.job.ID), "capability", l.name, "error", v.outcome.Err)
		e.job.Outcome.Err = v.outcome.Err
		j.postpone(l, e)
	}
	l.running--
	j.feed(l)
}

// attempt is one run of a job.
func (j *Journal) attempt(ctx context.Context, l *lane, e *entry) verdict {
	id := e.job.ID
	if err := runSubmit.Hit(); err != nil {
		return later(err)
	}
	r, in, err := j.load(e)
	switch {
	case errors.Is(err, errDamaged), errors.Is(err, wire.ErrDataLoss):
		return final(ended(compute.Status_failed, damaged(id, err)))
	case err != nil:
		return later(err)
	}
	defer in.Close()
	var s start
	c, served := j.capability(l.name)
	twice := served && c.Idempotent
	r.Begin = func() error { return j.begin(&s, e, twice) }

	var result *writer
	var lost error // of the result
	var o dispatch.Outcome
	job, err := j.engine.Submit(ctx, r)
	if err == nil {
		j.accepted(l)
		result, o, lost = j.collect(ctx, e, job)
	} else {
		o = ended(compute.Status_rejected, wire.AsError(err))
	}
	s.end()
	switch {
	case result != nil:
		return verdict{outcome: o, result: result}
	case in.err != nil:
		return final(ended(compute.Status_failed, damaged(id, in.err)))
	case lost != nil:
		o.Status, o.Err = compute.Status_failed, wire.AsError(lost)
		return final(o)
	case s.fixed:
		// What is cut short by the journal's end is not known to have ended: its
		// record says that it was started, and so it ends in the next life.
		return verdict{again: context.Cause(ctx) == errClosing, outcome: o} //nolint:errorlint // that very one
	case ctx.Err() != nil:
		return later(context.Cause(ctx))
	case s.err != nil:
		return later(s.err)
	case o.Status == compute.Status_rejected && transient(o.Err):
		return later(o.Err)
	case s.twice && (o.Status == compute.Status_outcomeUnknown || o.Err.Temporary) && j.runs(e) < j.opts.MaxRuns:
		return later(o.Err)
	default:
		return final(o)
	}
}

// transient reports whether a refusal may end by itself: the capability is
// served again, there is room, another job with the key ends.
func transient(err *wire.Error) bool {
	return err.Temporary || errors.Is(err, wire.ErrNotFound) || errors.Is(err, wire.ErrAlreadyExists)
}

// load reads what was asked for. The input must be closed.
func (j *Journal) load(e *entry) (r dispatch.Request, in *verified, err error) {
	record, err := j.store.get(requests, e.job.ID)
	if err != nil {
		return r, nil, err
	}
	q, err := decodeRequest(record)
	if err != nil {
		return r, nil, err
	}
	var small []byte
	if q.input.Place == inStore {
		if small, err = j.store.get(inputs, e.job.ID); err != nil {
			return r, nil, err
		}
	}
	if in, err = j.spool.open(e.job.ID, inputSide, q.input, small); err != nil {
		return r, nil, err
	}
	r = dispatch.Request{
		ID: e.job.ID, Capability: q.job.Capability, Params: q.job.Params, Deadline: q.deadline, Budget: q.job.Budget,
		Priority: q.job.Priority, Key: q.job.IdempotencyKey, Metadata: q.job.Metadata,
	}
	if q.input.Size > 0 {
		r.Input = dispatch.Input{Reader: in, Size: int64(q.input.Size)}
	}
	return r, in, nil
}

func (j *Journal) runs(e *entry) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return e.job.Runs
}

// collect takes the output of a job and waits for its outcome. The result is nil
// unless it is whole. The error says why a result could not be kept.
func (j *Journal) collect(ctx context.Context, e *entry, job *dispatch.Job) (*writer, dispatch.Outcome, error) {
	stop := context.AfterFunc(ctx, job.Cancel)
	defer stop()
	w := j.spool.create(e.job.ID, resultSide)
	var err, lost error
	for err == nil && lost == nil {
		var p *dispatch.Piece
		// Without ctx: it cancels the job, and the outcome then says whether that
		// came in time.
		if p, err = job.Next(context.Background()); err == nil {
			_, lost = w.Write(p.Bytes())
			p.Release()
		}
	}
	job.Close()
	o, _ := job.Wait(context.Background()) // a closed job has an outcome
	if errors.Is(err, io.EOF) {
		return w, o, nil
	}
	w.abandon()
	return nil, o, lost
}

// finishLater ends a job that is with nobody. The caller holds mu, and is a task
// itself or has found the journal not closing.
func (j *Journal) finishLater(e *entry, o dispatch.Outcome) {
	e.phase = running
	j.leave(e)
	j.tasks.Add(1)
	go func() {
		defer j.tasks.Done()
		j.finish(e, o, nil)
	}()
}

// retryEnding is the pause before an end that could not be written is tried again.
const retryEnding = time.Second

// finish records the end of a job, with its result if it has one. While that
// fails for want of room the job stays as it is: it has an end when that is on
// disk.
func (j *Journal) finish(e *entry, o dispatch.Outcome, w *writer) {
	var b blob
	var small []byte
	if w != nil {
		defer w.abandon()
		var err error
		if b, small, err = w.finish(); err != nil {
			w.abandon() // before anybody hears of the end
			o.Status, o.Err = compute.Status_failed, wire.AsError(err)
		}
	}
	id := e.job.ID
	end := ending{at: j.opts.Now(), result: b, outcome: o}
	changes, err := endChanges(id, end, small)
	if err != nil { // of a status or an error that no message holds
		end.result, end.outcome = blob{}, ended(compute.Status_failed, wire.AsError(fmt.Errorf("durable job %x: its outcome: %w", id, err)))
		if changes, err = endChanges(id, end, nil); err != nil {
			j.log.Error("a job's end cannot be written, please report this", "job", fmt.Sprintf("%x", id), "error", err)
			return
		}
	}
	for {
		err := beforeEnding.Hit()
		if err == nil {
			err = j.store.commit(changes...)
		}
		if err == nil {
			break
		}
		j.log.Error("a job's end could not be written", "job", fmt.Sprintf("%x", id), "capability", e.job.Capability, "error", err)
		if j.store.failed.Load() != nil {
			if w != nil {
				w.keep() // the record may name it
			}
			return
		}
		select {
		case <-time.After(retryEnding):
		case <-j.ring:
			return
		}
	}
	if w != nil && end.result.Place != nowhere {
		w.keep()
	}
	if err := afterEnding.Hit(); err != nil {
		j.log.Warn("a failpoint cannot take back what is on disk", "error", err)
	}
	j.spool.remove(id, inputSide, e.input)
	j.mu.Lock()
	defer j.mu.Unlock()
	e.end(end, j.opts.Retain)
	e.phase = over
	j.watchFor(e)
	close(e.done)
}
